// SPDX-License-Identifier: MIT OR Apache-2.0
//! Embeds the CUDA kernels: compiled ahead of time where `nvcc` is found, and always as sources for
//! NVRTC.
//!
//! `NVCC` names the compiler; else it is looked for in `CUDA_HOME/bin` and on `PATH`.
//! `KILN_CUDA_PREBUILT=0` embeds sources alone.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Architectures with machine code of their own; others compile the PTX when the program starts.
const ARCHITECTURES: &[u32] = &[80, 86, 89, 90, 100, 120];
/// Architecture of the PTX: the oldest with asynchronous copies and bf16.
const PTX_ARCHITECTURE: u32 = 80;

fn main() {
    let kernels = PathBuf::from(variable("CARGO_MANIFEST_DIR")).join("kernels");
    let out = PathBuf::from(variable("OUT_DIR"));
    println!("cargo:rerun-if-changed={}", kernels.display());
    for name in ["NVCC", "CUDA_HOME", "PATH", "KILN_CUDA_PREBUILT"] {
        println!("cargo:rerun-if-env-changed={name}");
    }
    let compiler = compiler();
    let mut table = String::from("&[\n");
    for path in sources(&kernels) {
        let name = path.file_stem().expect("a source has a name").to_string_lossy().into_owned();
        let text = Flattened::of(&path, &kernels);
        let flat = out.join(format!("{name}.cu"));
        fs::write(&flat, &text).expect("OUT_DIR can be written");
        let images = compiler.as_ref().map(|compiler| compile(compiler, &flat, &out, &name));
        let (cubins, ptx) = match images {
            Some((cubins, ptx)) => (
                format!("Some(include_bytes!({:?}))", cubins.display().to_string()),
                format!("Some(include_str!({:?}))", ptx.display().to_string()),
            ),
            None => ("None".into(), "None".into()),
        };
        let text = format!("include_str!({:?})", flat.display().to_string());
        let kernels = exports(&path);
        writeln!(table, "    Source {{ name: {name:?}, text: {text}, kernels: &{kernels:?}, cubins: {cubins}, ptx: {ptx} }},")
            .expect("a string can be written");
    }
    table.push(']');
    fs::write(out.join("kernels.rs"), table).expect("OUT_DIR can be written");
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("cargo sets {name}"))
}

/// The kernels' sources, in a fixed order.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("the kernels belong to the package");
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "cu"));
    paths.sort();
    paths
}

/// The names that a source exports.
fn exports(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).expect("the file was just listed");
    let name = |line: &str| {
        let name = line.trim().strip_prefix("KILN_EXPORT(")?.strip_suffix(')')?;
        Some(name.to_owned())
    };
    text.lines().filter_map(name).collect()
}

/// A source with its headers in place of their `#include` lines, since NVRTC has no files.
struct Flattened<'a> {
    root: &'a Path,
    seen: Vec<PathBuf>,
    text: String,
}

impl<'a> Flattened<'a> {
    fn of(source: &Path, root: &'a Path) -> String {
        let mut flattened = Flattened { root, seen: Vec::new(), text: String::new() };
        flattened.append(source);
        flattened.text
    }

    fn append(&mut self, path: &Path) {
        let path = path.canonicalize().expect("the file was found");
        if self.seen.contains(&path) {
            return;
        }
        self.seen.push(path.clone());
        let text = fs::read_to_string(&path).expect("kernels are UTF-8");
        for line in text.lines() {
            match self.included(&path, line) {
                Some(header) => self.append(&header),
                None if line.trim() == "#pragma once" => {}
                None => {
                    self.text.push_str(line);
                    self.text.push('\n');
                }
            }
        }
    }

    fn included(&self, by: &Path, line: &str) -> Option<PathBuf> {
        let name = line.trim().strip_prefix("#include \"")?.strip_suffix('"')?;
        let beside = by.parent().unwrap_or(self.root).join(name);
        [beside, self.root.join(name)].into_iter().find(|path| path.is_file())
    }
}

/// `nvcc`, if this machine has it.
fn compiler() -> Option<PathBuf> {
    if env::var("KILN_CUDA_PREBUILT").is_ok_and(|value| value == "0") {
        return None;
    }
    if let Some(named) = env::var_os("NVCC") {
        return Some(named.into());
    }
    let home = env::var_os("CUDA_HOME").map(|home| PathBuf::from(home).join("bin"));
    let path = env::var_os("PATH").unwrap_or_default();
    let file = format!("nvcc{}", env::consts::EXE_SUFFIX);
    let folders = home.into_iter().chain(env::split_paths(&path).collect::<Vec<_>>());
    folders.map(|folder| folder.join(&file)).find(|path| path.is_file())
}

/// Machine code for all architectures in one file, and PTX in another.
fn compile(compiler: &Path, source: &Path, out: &Path, name: &str) -> (PathBuf, PathBuf) {
    let (cubins, ptx) = (out.join(format!("{name}.fatbin")), out.join(format!("{name}.ptx")));
    let mut machine: Vec<String> = vec!["-fatbin".into()];
    for architecture in ARCHITECTURES {
        let code = format!("arch=compute_{architecture},code=sm_{architecture}");
        machine.extend(["-gencode".into(), code]);
    }
    run(compiler, source, &cubins, &machine);
    run(compiler, source, &ptx, &["-ptx".into(), format!("-arch=compute_{PTX_ARCHITECTURE}")]);
    (cubins, ptx)
}

fn run(compiler: &Path, source: &Path, target: &Path, arguments: &[String]) {
    let mut command = Command::new(compiler);
    command.args(["-std=c++17", "-O3"]).args(arguments);
    command.arg("-o").arg(target).arg(source);
    let status = command.status();
    assert!(
        status.as_ref().is_ok_and(|status| status.success()),
        "{} failed on {} ({status:?}); KILN_CUDA_PREBUILT=0 builds without it",
        compiler.display(),
        source.display()
    );
}
