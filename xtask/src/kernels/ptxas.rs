// SPDX-License-Identifier: MIT OR Apache-2.0
//! What `ptxas -v` says about each kernel.

use std::collections::BTreeMap;

/// What a kernel takes of a multiprocessor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Resources {
    /// Registers per thread.
    pub(super) registers: u32,
    /// Bytes spilled, stores and loads.
    pub(super) spilled: u32,
    /// Bytes of stack per thread.
    pub(super) stack: u32,
    /// Bytes of static shared memory per block.
    pub(super) shared: u32,
}

/// Resources by kernel name.
pub(super) fn parse(log: &str) -> BTreeMap<String, Resources> {
    let mut found = BTreeMap::new();
    let mut name = String::new();
    for line in log.lines() {
        if let Some((_, rest)) = line.split_once("Compiling entry function '") {
            name = rest.split('\'').next().unwrap_or_default().to_owned();
        }
        let entry: &mut Resources = found.entry(name.clone()).or_default();
        if line.contains("spill stores") {
            entry.stack = before(line, " bytes stack frame");
            entry.spilled =
                before(line, " bytes spill stores") + before(line, " bytes spill loads");
        }
        if line.contains("Used ") {
            entry.registers = before(line, " registers");
            entry.shared = before(line, " bytes smem");
        }
    }
    found.remove("");
    found
}

/// The number that stands right before `what`, 0 if it does not occur.
fn before(line: &str, what: &str) -> u32 {
    let Some((head, _)) = line.split_once(what) else { return 0 };
    head.rsplit(|c: char| !c.is_ascii_digit())
        .next()
        .and_then(|digits| digits.parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found() {
        let log = "ptxas info    : 0 bytes gmem\n\
             ptxas info    : Compiling entry function 'adam' for 'sm_80'\n\
             ptxas info    : Function properties for adam\n    \
             8 bytes stack frame, 4 bytes spill stores, 12 bytes spill loads\n\
             ptxas info    : Used 38 registers, used 1 barriers, 36 bytes smem, 448 bytes cmem[0]\n";
        let expected = Resources { registers: 38, spilled: 16, stack: 8, shared: 36 };
        assert_eq!(parse(log), BTreeMap::from([("adam".to_owned(), expected)]));
    }
}
