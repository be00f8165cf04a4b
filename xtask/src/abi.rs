// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo xtask abi`: writes `src/backend/cuda/abi.rs` from `kernels/abi.h`, and what stands beside it from the
//! other headers.
//!
//! Needs libclang (a package of the system, or the wheel `libclang` with `LIBCLANG_PATH` naming its
//! folder); who only builds kiln does not.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use bindgen::callbacks::{DeriveTrait, ImplementsTrait, ParseCallbacks};

use crate::Result;

/// Options of `cargo xtask abi`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Compare with the files instead of writing them; exit code 1 if one is out of date.
    #[arg(long)]
    check: bool,
}

/// A header, the file that is written from it, and what that file takes from others.
struct Pair {
    header: &'static str,
    file: &'static str,
    imports: &'static str,
}

const PAIRS: [Pair; 3] = [
    Pair { header: "abi.h", file: "abi.rs", imports: "" },
    Pair { header: "abi_images.h", file: "abi_images.rs", imports: "use super::abi::*;\n" },
    Pair { header: "abi_recurrent.h", file: "abi_recurrent.rs", imports: "use super::abi::*;\n" },
];

/// Writes the files, or compares with them.
///
/// # Errors
/// If a header cannot be read, or a file not be read or written.
pub fn run(args: &Args) -> Result<ExitCode> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut code = ExitCode::SUCCESS;
    for pair in &PAIRS {
        let target = root.join("src/backend/cuda").join(pair.file);
        let text = generate(&root.join("kernels"), pair)?;
        if !args.check {
            fs::write(&target, text)?;
        } else if fs::read_to_string(&target)? != text {
            eprintln!("{} is out of date: run `cargo xtask abi`", target.display());
            code = ExitCode::FAILURE;
        }
    }
    Ok(code)
}

/// Structures of other headers, which have files of their own, derive what all do.
#[derive(Debug)]
struct Shared;

impl ParseCallbacks for Shared {
    fn blocklisted_type_implements_trait(
        &self,
        _: &str,
        _: DeriveTrait,
    ) -> Option<ImplementsTrait> {
        Some(ImplementsTrait::Yes)
    }
}

fn generate(kernels: &Path, pair: &Pair) -> Result<String> {
    let header = kernels.join(pair.header);
    // What it includes has a file of its own.
    let own = format!(".*{}", regex_of(pair.header));
    let bindings = bindgen::Builder::default()
        .header(header.to_string_lossy())
        .allowlist_file(own)
        .allowlist_recursively(false)
        .blocklist_item("KILN_[A-Z]*_H")
        .parse_callbacks(Box::new(Shared))
        .default_enum_style(bindgen::EnumVariation::Consts)
        .prepend_enum_name(false)
        .derive_partialeq(true)
        .layout_tests(false)
        .use_core()
        .generate_comments(false)
        .disable_header_comment()
        .formatter(bindgen::Formatter::None)
        .generate()?
        .to_string();
    let head = format!(
        "// SPDX-License-Identifier: MIT OR Apache-2.0\n//! What the host and the kernels agree on. \
         Written by `cargo xtask abi` from `kernels/{}`.\n\n{}use super::memory::Address;\n\n",
        pair.header, pair.imports
    );
    format(&format!("{head}{}", in_rust_terms(&with_addresses(&bindings))))
}

/// A name in which a dot is a dot.
fn regex_of(name: &str) -> String {
    name.replace('.', "\\.")
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
