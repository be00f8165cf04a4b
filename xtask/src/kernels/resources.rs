// SPDX-License-Identifier: MIT OR Apache-2.0
//! What compilers and `cuobjdump` say about each kernel.

use std::collections::BTreeMap;

/// What a kernel takes of a multiprocessor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Resources {
    /// Registers per thread.
    pub(super) registers: u32,
    /// Bytes spilled, stores and loads; only compilers tell, but what is spilled lies on the stack.
    pub(super) spilled: u32,
    /// Bytes of stack per thread.
    pub(super) stack: u32,
    /// Bytes of static shared memory per block.
    pub(super) shared: u32,
}

/// Resources by kernel name, from what `ptxas -v` said.
pub(super) fn compiled(log: &str) -> BTreeMap<String, Resources> {
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

/// Resources by kernel name, from what `cuobjdump -res-usage` said of machine code for an architecture.
pub(super) fn carried(usage: &str, arch: &str) -> BTreeMap<String, Resources> {
    // From sm_90 on it counts along what the system takes of each block's shared memory.
    let of_system = match arch {
        "sm_80" | "sm_86" | "sm_89" => 0,
        _ => 1024,
    };
    let lines: Vec<&str> = usage.lines().map(str::trim).collect();
    let functions = lines.windows(2).filter_map(|pair| {
        let name = pair[0].strip_prefix("Function ")?.strip_suffix(':')?;
        let number = |what: &str| {
            let mut fields = pair[1].split_whitespace();
            fields.find_map(|field| field.strip_prefix(what)?.parse::<u32>().ok())
        };
        let resources = Resources {
            registers: number("REG:")?,
            spilled: 0,
            stack: number("STACK:")? + number("LOCAL:")?,
            shared: number("SHARED:")?.saturating_sub(of_system),
        };
        Some((name.to_owned(), resources))
    });
    functions.collect()
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
        assert_eq!(compiled(log), BTreeMap::from([("adam".to_owned(), expected)]));
    }
    #[test]
    fn machine_code_tells_of_itself() {
        let usage = "\nResource usage:\n Common:\n  GLOBAL:0\n Function adam:\n  \
             REG:38 STACK:8 SHARED:1060 LOCAL:0 CONSTANT[0]:448 TEXTURE:0 SURFACE:0 SAMPLER:0\n";
        let resources = |shared| Resources { registers: 38, spilled: 0, stack: 8, shared };
        let found = |shared| BTreeMap::from([("adam".to_owned(), resources(shared))]);
        assert_eq!(carried(usage, "sm_80"), found(1060));
        assert_eq!(carried(usage, "sm_120"), found(36));
    }
}
