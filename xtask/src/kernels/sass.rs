// SPDX-License-Identifier: MIT OR Apache-2.0
//! Machine code as `nvdisasm -c` prints it: functions, instructions, loops.

use std::collections::BTreeMap;
use std::ops::Range;

/// One kernel's code.
pub(super) struct Function {
    pub(super) name: String,
    pub(super) code: Vec<Instruction>,
    /// Loops by the instructions from their first to their backward branch.
    pub(super) loops: Vec<Range<usize>>,
}

/// One instruction.
pub(super) struct Instruction {
    /// With its suffixes, such as `LDG.E.128`.
    pub(super) name: String,
    /// Whether a label stands before it or a branch before that: a basic block begins here.
    pub(super) begins_block: bool,
    /// Whether it runs under a predicate that is always false: padding that the assembler inserts.
    pub(super) never: bool,
}

impl Instruction {
    /// The name without suffixes.
    pub(super) fn base(&self) -> &str {
        self.name.split('.').next().unwrap_or_default()
    }

    /// Bytes that a load or store moves per thread.
    pub(super) fn width(&self) -> u32 {
        let has = |suffix| self.name.split('.').any(|part| part == suffix);
        match () {
            () if has("128") => 16,
            () if has("64") => 8,
            () if has("U16") || has("S16") || has("16") => 2,
            () if has("U8") || has("S8") => 1,
            () => 4,
        }
    }
}

/// The functions of one cubin.
pub(super) fn parse(assembly: &str) -> Vec<Function> {
    assembly.split("\n.text.").skip(1).filter_map(parse_function).collect()
}

fn parse_function(text: &str) -> Option<Function> {
    let name = text.split(':').next()?.trim().to_owned();
    let mut labels = BTreeMap::new();
    let mut branches = Vec::new();
    let mut code: Vec<Instruction> = Vec::new();
    let mut begins_block = true;
    for line in text.lines() {
        let line = line.trim();
        if let Some(label) = line.strip_suffix(':').filter(|label| label.starts_with(".L_x")) {
            labels.insert(label, code.len());
            begins_block = true;
        }
        let Some((never, name, operands)) = instruction(line) else { continue };
        let at = code.len();
        code.push(Instruction { name: name.to_owned(), begins_block, never });
        begins_block = name.starts_with("BRA");
        if begins_block {
            branches.push((
                at,
                operands
                    .split('(')
                    .nth(1)
                    .and_then(|rest| rest.split(')').next())
                    .unwrap_or_default(),
            ));
        }
    }
    let back = branches.into_iter().filter_map(|(at, label)| Some((*labels.get(label)?, at)));
    let loops = back.filter(|(first, at)| first < at).map(|(first, at)| first..at + 1).collect();
    Some(Function { name, code, loops })
}

/// `/*00a0*/  @P0 LDG.E R2, [R4] ;` as `(never, "LDG.E", "R2, [R4]")`.
fn instruction(line: &str) -> Option<(bool, &str, &str)> {
    let (address, rest) = line.strip_prefix("/*")?.split_once("*/")?;
    if !address.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let text = rest.split(';').next()?.trim();
    let (predicate, text) = match text.strip_prefix('@') {
        Some(predicated) => predicated.split_once(char::is_whitespace)?,
        None => ("", text),
    };
    let text = text.trim();
    let (name, operands) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    (!name.is_empty()).then_some((predicate == "!PT", name, operands))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CODE: &str = "\n.text.f:\n.L_x_0:\n        /*0000*/                   LDG.E.128 R2, [R4] ;\n\
        \x20       /*0010*/              @!PT LDS RZ, [RZ] ;\n        /*0020*/               @P0 BRA `(.L_x_0) ;\n\
        \x20       /*0030*/                   STG.E.U16 [R4], R2 ;\n";

    #[test]
    fn loops_and_widths_are_found() {
        let functions = parse(CODE);
        let [function] = functions.as_slice() else { panic!("one function") };
        assert_eq!(function.loops.first(), Some(&(0..3)));
        let widths: Vec<u32> = function.code.iter().map(Instruction::width).collect();
        assert_eq!(widths, [16, 4, 4, 2]);
        let never: Vec<bool> = function.code.iter().map(|i| i.never).collect();
        assert_eq!(never, [false, true, false, false]);
        let begins: Vec<bool> = function.code.iter().map(|i| i.begins_block).collect();
        assert_eq!(begins, [true, false, false, true]);
    }
}
