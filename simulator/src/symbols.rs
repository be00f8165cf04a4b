// SPDX-License-Identifier: MIT OR Apache-2.0
//! From an address in a kernel's host code to the line it was compiled from.

use std::ffi::c_void;

/// The source line of a return address in a kernel, innermost inlined function first, e.g.
/// `pack.cuh:31, from gemm.cu:120`; `None` without debug information.
pub(crate) fn source_line(code_address: usize) -> Option<String> {
    let mut lines: Vec<String> = Vec::new();
    backtrace::resolve(code_address as *mut c_void, |symbol| {
        let (Some(file), Some(line)) = (symbol.filename(), symbol.lineno()) else { return };
        let name = file
            .file_name()
            .map_or_else(|| file.display().to_string(), |name| name.to_string_lossy().into_owned());
        lines.push(format!("{name}:{line}"));
    });
    lines.dedup();
    // The shim's own frames say nothing about a kernel.
    if lines.len() > 1 {
        lines.retain(|line| !line.starts_with("export.h:"));
    }
    let (first, rest) = lines.split_first()?;
    Some(rest.iter().fold(first.clone(), |text, caller| format!("{text}, from {caller}")))
}
