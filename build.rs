// SPDX-License-Identifier: MIT OR Apache-2.0
//! Embeds the CUDA kernels: compiled ahead of time where `nvcc` is found, and always as sources for
//! NVRTC.
//!
//! `NVCC` names the compiler; else it is looked for in `bin` of `CUDA_HOME` and of `CUDA_PATH`, which
//! the toolkit's installer for Windows sets, and on `PATH`.
//! `KILN_CUDA_PREBUILT=0` embeds sources alone.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Architectures with machine code of their own; others compile the PTX when the program starts.
const ARCHITECTURES: &[u32] = &[80, 86, 89, 90, 100, 120];
/// Architecture of the PTX: the oldest with asynchronous copies and bf16.
const PTX_ARCHITECTURE: u32 = 80;

fn main() {
    let kernels = PathBuf::from(variable("CARGO_MANIFEST_DIR")).join("kernels");
    let out = PathBuf::from(variable("OUT_DIR"));
    println!("cargo:rerun-if-changed={}", kernels.display());
    for name in ["NVCC", "CUDA_HOME", "CUDA_PATH", "PATH", "KILN_CUDA_PREBUILT"] {
        println!("cargo:rerun-if-env-changed={name}");
    }
    let paths = sources(&kernels);
    for path in &paths {
        let text = Flattened::of(path, &kernels);
        fs::write(out.join(name(path) + ".cu"), text).expect("OUT_DIR can be written");
    }
    let compiler = compiler();
    if let Some(compiler) = &compiler {
        compile_all(compiler, &out, &paths);
    }
    let mut table = String::from("&[\n");
    for path in &paths {
        let name = name(path);
        let file = |extension: &str| format!("{:?}", out.join(format!("{name}.{extension}")));
        let (cubins, ptx) = match &compiler {
            Some(_) => (
                format!("Some(include_bytes!({}))", file("fatbin")),
                format!("Some(include_str!({}))", file("ptx")),
            ),
            None => ("None".into(), "None".into()),
        };
        let text = format!("include_str!({})", file("cu"));
        let kernels = exports(path);
        writeln!(table, "    Source {{ name: {name:?}, text: {text}, kernels: &{kernels:?}, cubins: {cubins}, ptx: {ptx} }},")
            .expect("a string can be written");
    }
    table.push(']');
    fs::write(out.join("kernels.rs"), table).expect("OUT_DIR can be written");
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("cargo sets {name}"))
}

/// A source's name without its extension.
fn name(path: &Path) -> String {
    path.file_stem().expect("a source has a name").to_string_lossy().into_owned()
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
    let homes = ["CUDA_HOME", "CUDA_PATH"].into_iter().filter_map(env::var_os);
    let homes = homes.map(|home| PathBuf::from(home).join("bin"));
    let path = env::var_os("PATH").unwrap_or_default();
    let file = format!("nvcc{}", env::consts::EXE_SUFFIX);
    let folders = homes.chain(env::split_paths(&path).collect::<Vec<_>>());
    folders.map(|folder| folder.join(&file)).find(|path| path.is_file())
}

/// Compiles every source, as many at a time as the machine has processors.
fn compile_all(compiler: &Path, out: &Path, sources: &[PathBuf]) {
    let next = AtomicUsize::new(0);
    let work = || {
        while let Some(source) = sources.get(next.fetch_add(1, Ordering::Relaxed)) {
            compile(compiler, &out.join(name(source)));
        }
    };
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| (0..workers).for_each(|_| drop(scope.spawn(work))));
}

/// Machine code for all architectures in one file, and PTX in another.
fn compile(compiler: &Path, stem: &Path) {
    let source = stem.with_extension("cu");
    let mut machine: Vec<String> = vec!["-fatbin".into()];
    for architecture in ARCHITECTURES {
        let code = format!("arch=compute_{architecture},code=sm_{architecture}");
        machine.extend(["-gencode".into(), code]);
    }
    run(compiler, &source, &stem.with_extension("fatbin"), &machine);
    let ptx = ["-ptx".into(), format!("-arch=compute_{PTX_ARCHITECTURE}")];
    run(compiler, &source, &stem.with_extension("ptx"), &ptx);
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
