// SPDX-License-Identifier: MIT OR Apache-2.0
//! Builds the kernels for the host, twice: `plain` and `checked`, each with the runtime into one
//! shared object.
//!
//! `KILN_KERNELS` names the folder of kernels (default `../kernels`); the simulator's own test
//! kernels are always added. For systems other than Linux there is nothing to build.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

fn main() {
    if env::var_os("CARGO_CFG_TARGET_OS").is_none_or(|system| system != "linux") {
        return;
    }
    let here = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    println!("cargo:rerun-if-env-changed=KILN_KERNELS");
    for folder in ["simt", "runtime", "tests/kernels"] {
        println!("cargo:rerun-if-changed={}", here.join(folder).display());
    }
    let kernels =
        env::var_os("KILN_KERNELS").map_or_else(|| here.join("../kernels"), PathBuf::from);
    println!("cargo:rerun-if-changed={}", kernels.display());

    let mut sources = files_with(&here.join("tests/kernels"), "cu");
    sources.extend(files_with(&kernels, "cu"));
    for mode in [Mode::Plain, Mode::Checked] {
        let engine = build_engine(&here, &kernels, &sources, &out, mode);
        println!("cargo:rustc-env=KILN_ENGINE_{}={}", mode.name().to_uppercase(), engine.display());
    }
    // With this name a later request for libcuda.so is answered by the copy that is already loaded.
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libcuda.so");
}

#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Plain,
    Checked,
}

impl Mode {
    fn name(self) -> &'static str {
        match self {
            Mode::Plain => "plain",
            Mode::Checked => "checked",
        }
    }
}

fn build_engine(
    here: &Path,
    kernels: &Path,
    sources: &[PathBuf],
    out: &Path,
    mode: Mode,
) -> PathBuf {
    let folder = out.join(mode.name());
    fs::create_dir_all(&folder).expect("OUT_DIR can be written");
    let mut objects = common(here, &folder, mode)
        .files(files_with(&here.join("runtime"), "cpp"))
        .compile_intermediates();

    let mut compiler = common(here, &folder, mode);
    compiler.include(kernels).include(here.join("tests/kernels"));
    // Loops must stay loops: a call to memset in their place would escape the checks.
    compiler.flag("-fno-builtin").flag_if_supported("-fno-tree-loop-distribute-patterns");
    // A frame larger than the guard page must still meet it.
    compiler.flag_if_supported("-fstack-clash-protection");
    compiler.warnings(false).flag_if_supported("-Wno-unknown-pragmas");
    if mode == Mode::Checked {
        compiler.flag("-fsanitize=thread,alignment");
        if compiler.get_compiler().is_like_gnu() {
            compiler.flag("--param").flag("tsan-instrument-func-entry-exit=0");
        }
    }
    for (number, source) in sources.iter().enumerate() {
        compiler.file(wrap(source, number, &folder));
    }
    objects.extend(compiler.compile_intermediates());
    link(here, &folder, &objects, out.join(format!("libkiln_engine_{}.so", mode.name())), mode)
}

/// A kernel source is a translation unit of its own on the GPU; an unnamed namespace keeps it so in
/// one shared object.
fn wrap(source: &Path, number: usize, folder: &Path) -> PathBuf {
    let source = source.canonicalize().expect("the file was just listed");
    let stem = source.file_stem().expect("a file has a name").to_string_lossy().into_owned();
    let wrapper = folder.join(format!("{number:02}_{stem}.cpp"));
    let text =
        format!("#include \"simt.h\"\nnamespace {{\n#include \"{}\"\n}}\n", source.display());
    if fs::read_to_string(&wrapper).ok().as_deref() != Some(&text) {
        fs::write(&wrapper, text).expect("OUT_DIR can be written");
    }
    wrapper
}

fn common(here: &Path, folder: &Path, mode: Mode) -> cc::Build {
    let mut build = cc::Build::new();
    build
        .cpp(true)
        .std("c++20")
        .pic(true)
        .opt_level(2)
        .debug(true)
        .out_dir(folder)
        .cargo_metadata(false);
    build.include(here.join("simt")).define("KILN_SIMT", None);
    build
        .flag("-fno-exceptions")
        .flag("-fno-rtti")
        .flag("-fvisibility=hidden")
        .flag("-ffp-contract=off");
    // Templates' static variables must not be shared between the two engines.
    build.flag_if_supported("-fno-gnu-unique");
    if mode == Mode::Checked {
        build.define("KILN_SIMT_CHECKED", None);
    }
    build
}

fn link(here: &Path, folder: &Path, objects: &[PathBuf], engine: PathBuf, mode: Mode) -> PathBuf {
    let mut arguments: Vec<OsString> =
        vec!["-shared".into(), "-Wl,--no-undefined".into(), "-o".into(), engine.clone().into()];
    arguments.extend(objects.iter().map(OsString::from));
    let status = common(here, folder, mode).get_compiler().to_command().args(arguments).status();
    assert!(status.is_ok_and(|status| status.success()), "linking {} failed", engine.display());
    engine
}

/// The files below `folder` with this extension, in a fixed order; none if the folder does not
/// exist.
fn files_with(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files_with(&path, extension));
        } else if path.extension().is_some_and(|e| e == extension) {
            found.push(path);
        }
    }
    found.sort();
    found
}
