// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo xtask abi`: writes `src/backend/cuda/abi.rs` from `kernels/abi.h`, and likewise for each further header.
//!
//! Needs libclang (a package of the system, or the wheel `libclang` with `LIBCLANG_PATH` naming its
//! folder); who only builds kiln does not.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::Result;

/// Options of `cargo xtask abi`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Compare with the files instead of writing them; exit code 1 if one is out of date.
    #[arg(long)]
    check: bool,
}

/// A header of `kernels/` that the host knows too; later ones may include the first.
struct Header {
    name: &'static str,
    /// What its file imports.
    imports: &'static str,
}

const HEADERS: [Header; 2] = [
    Header { name: "abi", imports: "use super::memory::Address;" },
    Header { name: "abi_recurrent", imports: "use super::abi::*;\nuse super::memory::Address;" },
];

/// Writes the files, or compares with them.
///
/// # Errors
/// If a header cannot be read, or a file not be read or written.
pub fn run(args: &Args) -> Result<ExitCode> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut code = ExitCode::SUCCESS;
    for header in &HEADERS {
        let target = root.join(format!("src/backend/cuda/{}.rs", header.name));
        let text = generate(&root.join("kernels"), header)?;
        if !args.check {
            fs::write(&target, text)?;
        } else if fs::read_to_string(&target)? != text {
            eprintln!("{} is out of date: run `cargo xtask abi`", target.display());
            code = ExitCode::FAILURE;
        }
    }
    Ok(code)
}

fn generate(folder: &Path, header: &Header) -> Result<String> {
    let Header { name, imports } = header;
    let file = folder.join(format!("{name}.h"));
    let mut builder = bindgen::Builder::default()
        .header(file.to_string_lossy())
        .allowlist_item("Kiln.*|KILN_.*")
        .blocklist_item("KILN_ABI.*_H")
        .default_enum_style(bindgen::EnumVariation::Consts)
        .prepend_enum_name(false)
        .derive_partialeq(true)
        .layout_tests(false)
        .use_core()
        .generate_comments(false)
        .disable_header_comment()
        .formatter(bindgen::Formatter::None);
    if *name != HEADERS[0].name {
        builder = builder.blocklist_file(r".*/abi\.h");
    }
    let bindings = builder.generate()?.to_string();
    let head = format!(
        "// SPDX-License-Identifier: MIT OR Apache-2.0\n\
         //! What the host and the kernels agree on. Written by `cargo xtask abi` from `kernels/{name}.h`.\n\n\
         {imports}\n\n"
    );
    format(&format!("{head}{}", in_rust_terms(&with_addresses(&bindings))))
}

/// Fixed-size numbers under their own names; everything is the crate's own, and zero by default.
fn in_rust_terms(bindings: &str) -> String {
    bindings
        .replace(":: core :: ffi :: c_uint", "u32")
        .replace(":: core :: ffi :: c_int", "i32")
        .replace(":: core :: ffi :: c_ulonglong", "u64")
        .replace("pub ", "pub(crate) ")
        .replace("(Debug , Copy , Clone , PartialEq)", "(Debug, Default, Copy, Clone, PartialEq)")
}

/// Device pointers mean nothing on the host: they become plain addresses.
fn with_addresses(bindings: &str) -> String {
    let mut text = String::with_capacity(bindings.len());
    let mut rest = bindings;
    while let Some(at) = ["* mut ", "* const ", "*mut ", "*const "]
        .iter()
        .filter_map(|pointer| rest.find(pointer))
        .min()
    {
        let end = at + rest[at..].find(',').unwrap_or(rest.len() - at);
        text.push_str(&rest[..at]);
        text.push_str("Address");
        rest = &rest[end..];
    }
    text + rest
}

/// Runs rustfmt with the repository's settings.
fn format(text: &str) -> Result<String> {
    let folder = tempfile::tempdir()?;
    let file: PathBuf = folder.path().join("abi.rs");
    fs::write(&file, text)?;
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let status = std::process::Command::new("rustfmt")
        .args(["--edition", "2021", "--config-path"])
        .arg(root)
        .arg(&file)
        .status()?;
    if !status.success() {
        return Err("rustfmt refused the generated file".into());
    }
    Ok(fs::read_to_string(&file)?)
}
