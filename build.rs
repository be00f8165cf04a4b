// SPDX-License-Identifier: MIT OR Apache-2.0
//! Embeds the CUDA kernels: compiled ahead of time where `nvcc` is found, and always as sources for
//! NVRTC.
//!
//! `NVCC` names the compiler; else it is looked for in `bin` of `CUDA_HOME` and of `CUDA_PATH`, which
//! the toolkit's installer for Windows sets, and on `PATH`.
//! `KILN_CUDA_PREBUILT=0` embeds sources alone; `KILN_CUDA_ARCHITECTURES=80,90` embeds machine code for
//! these architectures alone.

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
/// The version that the PTX says it is written in: that of CUDA 12.4, so that drivers from 550 on
/// compile it. Compilers label PTX with their own version, whatever is in it, and a driver refuses
/// later ones; `.ci/run cuda` shows that compilers of CUDA 12.9 and 13.0 take it as labelled here.
const PTX_VERSION: (u32, u32) = (8, 4);

/// What decides how the kernels are built.
const VARIABLES: [&str; 6] =
    ["NVCC", "CUDA_HOME", "CUDA_PATH", "PATH", "KILN_CUDA_PREBUILT", "KILN_CUDA_ARCHITECTURES"];

fn main() {
    let kernels = PathBuf::from(variable("CARGO_MANIFEST_DIR")).join("kernels");
    let out = PathBuf::from(variable("OUT_DIR"));
    println!("cargo:rerun-if-changed={}", kernels.display());
    for name in VARIABLES {
        println!("cargo:rerun-if-env-changed={name}");
    }
    let architectures = architectures();
    let paths = sources(&kernels);
    for path in &paths {
        let text = Flattened::of(path, &kernels);
        fs::write(out.join(name(path) + ".cu"), text).expect("OUT_DIR can be written");
    }
    let compiler = compiler();
    if let Some(compiler) = &compiler {
        compile_all(compiler, &out, &paths, &architectures);
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
    let known = format!("({architectures:?}, {PTX_ARCHITECTURE})");
    fs::write(out.join("architectures.rs"), known).expect("OUT_DIR can be written");
}

/// The architectures to compile machine code for.
fn architectures() -> Vec<u32> {
    let Ok(list) = env::var("KILN_CUDA_ARCHITECTURES") else { return ARCHITECTURES.to_vec() };
    let number = |name: &str| {
        let known = name.trim().trim_start_matches("sm_").parse();
        known.ok().filter(|number| *number >= PTX_ARCHITECTURE).unwrap_or_else(|| {
            panic!("KILN_CUDA_ARCHITECTURES={list}: expected numbers such as 80,90, not {name:?}")
        })
    };
    let mut architectures: Vec<u32> = list.split(',').map(number).collect();
    architectures.sort_unstable();
    architectures.dedup();
    architectures
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
fn compile_all(compiler: &Path, out: &Path, sources: &[PathBuf], architectures: &[u32]) {
    let next = AtomicUsize::new(0);
    let work = || {
        while let Some(source) = sources.get(next.fetch_add(1, Ordering::Relaxed)) {
            compile(compiler, &out.join(name(source)), architectures);
        }
    };
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| (0..workers).for_each(|_| drop(scope.spawn(work))));
}

/// Machine code for all architectures in one file, and PTX in another.
fn compile(compiler: &Path, stem: &Path, architectures: &[u32]) {
    let source = stem.with_extension("cu");
    let mut machine: Vec<String> = vec!["-fatbin".into()];
    for architecture in architectures {
        let code = format!("arch=compute_{architecture},code=sm_{architecture}");
        machine.extend(["-gencode".into(), code]);
    }
    run(compiler, &source, &stem.with_extension("fatbin"), &machine);
    let ptx = ["-ptx".into(), format!("-arch=compute_{PTX_ARCHITECTURE}")];
    let target = stem.with_extension("ptx");
    run(compiler, &source, &target, &ptx);
    let text = fs::read_to_string(&target).expect("nvcc wrote it");
    fs::write(&target, relabelled(&text)).expect("OUT_DIR can be written");
}

/// PTX that says it is of [`PTX_VERSION`], if it said it is of a later one.
fn relabelled(ptx: &str) -> String {
    let line = |line: &str| {
        let version = line.strip_prefix(".version ").and_then(|text| text.trim().split_once('.'));
        let version = version.and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
        match version {
            Some(version) if version > PTX_VERSION => {
                format!(".version {}.{}\n", PTX_VERSION.0, PTX_VERSION.1)
            }
            _ => format!("{line}\n"),
        }
    };
    ptx.lines().map(line).collect()
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
