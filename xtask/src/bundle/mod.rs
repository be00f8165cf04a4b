// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo xtask bundle`: everything that a machine with a GPU needs to try and measure kiln, in one folder that is copied
//! there. The machine needs glibc and Python, and neither Rust nor the sources.

#[cfg(test)]
mod runner;

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use clap::ValueEnum;
use serde_json::{json, Value};

use crate::kernels::toolchain::Toolchain;
use crate::Result;

/// What a folder that is carried to another machine may weigh.
const MOST_BYTES: u64 = 56 << 20;
/// Programs by the names that they have in the folder, and what cargo calls them: kind and name of a target.
const PROGRAMS: [(&str, &str, &str); 4] = [
    ("kiln", "bin", "kiln"),
    ("cuda_test", "test", "cuda"),
    ("kernels_test", "test", "kernels"),
    ("bench", "bench", "cuda"),
];
/// Files of the folder, and where they are here.
const FILES: [(&str, &str); 5] = [
    ("first_contact.py", "scripts/gpu/first_contact.py"),
    ("stepper.py", "scripts/gpu/stepper.py"),
    ("summary.py", "scripts/gpu/summary.py"),
    ("lab.cu", "scripts/gpu/lab.cu"),
    ("peers/pytorch_cuda.py", "benches/peers/pytorch_cuda.py"),
];

/// burn's peer, which is a workspace of its own and built beforehand, if at all.
const BURN: &str = "peer-burn-cuda";

/// Build a folder that tries and measures kiln on a machine with a GPU.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Architectures with machine code, separated by commas; with --profile dev as the build has them.
    #[arg(long, value_delimiter = ',')]
    arch: Vec<String>,
    /// The folder; what is in it is replaced.
    #[arg(long, default_value = "target/bundle")]
    out: PathBuf,
    /// Where burn's peer for a GPU is; without it the folder has none.
    #[arg(long, value_name = "FOLDER", default_value = "target/peers/release")]
    peers: PathBuf,
    /// How programs are built: `dev` takes what is built already, to try the folder itself.
    #[arg(long, value_enum, default_value = "release")]
    profile: Profile,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Profile {
    /// For measuring: optimised, with machine code, which needs nvcc.
    Release,
    /// For trying: with machine code only if the build finds nvcc.
    Dev,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let programs = build(args)?;
    prepare(&args.out)?;
    for ((name, ..), program) in PROGRAMS.iter().zip(&programs) {
        pack(program, &args.out.join(name))?;
    }
    for (name, source) in FILES {
        install(Path::new(source), &args.out.join(name))?;
    }
    copy_all(Path::new("kernels"), &args.out.join("kernels"))?;
    match take_along(&args.peers.join(BURN), &args.out, MOST_BYTES)? {
        Taken::Yes => {}
        Taken::No(why) => println!("left out: {BURN}, because {why}"),
    }
    let files = sizes(&args.out)?;
    let total: u64 = files.iter().map(|(_, bytes)| bytes).sum();
    write_manifest(args, &files)?;
    for (name, bytes) in files.iter().filter(|(name, _)| !name.starts_with("kernels/")) {
        println!("{bytes:>11}  {name}");
    }
    println!("{total:>11}  {} files in {}", files.len(), args.out.display());
    if total > MOST_BYTES && args.profile == Profile::Release {
        return Err(format!("{total} bytes are more than {MOST_BYTES}: name fewer --arch").into());
    }
    println!("there: python3 first_contact.py . OUT --budget 480");
    Ok(ExitCode::SUCCESS)
}

/// Whether something is in the folder.
#[derive(Debug, PartialEq)]
enum Taken {
    Yes,
    No(String),
}

/// Packs a program that need not be there, as long as the folder weighs no more than it may.
fn take_along(program: &Path, out: &Path, most: u64) -> Result<Taken> {
    if !program.is_file() {
        return Ok(Taken::No(format!("there is no {}", program.display())));
    }
    let to = out.join(program.file_name().unwrap_or(OsStr::new(BURN)));
    pack(program, &to)?;
    let total: u64 = sizes(out)?.iter().map(|(_, bytes)| bytes).sum();
    if total <= most {
        return Ok(Taken::Yes);
    }
    fs::remove_file(to.with_extension("gz"))?;
    Ok(Taken::No(format!("with it {total} bytes would be more than {most}")))
}

/// A program without its symbols, compressed: the kernels, which each of kiln's carries in three forms, are most of it and
/// shrink well. The runner unpacks.
fn pack(program: &Path, to: &Path) -> Result<()> {
    install(program, to)?;
    for tool in [["strip", "-s"], ["gzip", "-9f"]] {
        let done = Command::new(tool[0]).arg(tool[1]).arg(to).status();
        if !done.map_err(|error| format!("{}: {error}", tool[0]))?.success() {
            return Err(format!("{} failed on {}", tool[0], to.display()).into());
        }
    }
    Ok(())
}

/// Builds the programs; where cargo put them, in the order of [`PROGRAMS`].
fn build(args: &Args) -> Result<Vec<PathBuf>> {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--workspace", "--locked", "--message-format=json-render-diagnostics"]);
    for (_, kind, name) in PROGRAMS {
        cargo.arg(format!("--{kind}")).arg(name);
    }
    if args.profile == Profile::Release {
        cargo
            .arg("--release")
            .env("NVCC", Toolchain::find()?.nvcc())
            .env_remove("KILN_CUDA_PREBUILT");
    }
    let chosen: Vec<&str> = match (args.arch.as_slice(), args.profile) {
        ([], Profile::Dev) => Vec::new(),
        ([], Profile::Release) => vec!["90"],
        (some, _) => some.iter().map(|name| name.trim_start_matches("sm_")).collect(),
    };
    if !chosen.is_empty() {
        cargo.env("KILN_CUDA_ARCHITECTURES", chosen.join(","));
    }
    let output = cargo.stderr(std::process::Stdio::inherit()).output();
    let output = output.map_err(|error| format!("cargo: {error}"))?;
    if !output.status.success() {
        return Err(format!("cargo: {}", output.status).into());
    }
    let messages: Vec<Value> = String::from_utf8(output.stdout)?
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    PROGRAMS.iter().map(|(_, kind, name)| executable(&messages, kind, name)).collect()
}

/// The program of a target, by what cargo tells of it.
fn executable(messages: &[Value], kind: &str, name: &str) -> Result<PathBuf> {
    let is_it = |message: &&Value| {
        let target = &message["target"];
        let is_kind =
            target["kind"].as_array().is_some_and(|kinds| kinds.iter().any(|k| k == kind));
        is_kind && target["name"] == name
    };
    let mut paths =
        messages.iter().filter(is_it).filter_map(|message| message["executable"].as_str());
    let path = paths.next_back().ok_or_else(|| format!("cargo built no {kind} {name}"))?;
    Ok(path.into())
}

/// An empty folder in the place of an earlier one; what is no such folder is left alone.
fn prepare(out: &Path) -> Result<()> {
    if out.exists() {
        let is_ours = out.join("manifest.json").is_file() || fs::read_dir(out)?.next().is_none();
        if !is_ours {
            return Err(format!(
                "{}: expected a bundle or nothing, got other files",
                out.display()
            )
            .into());
        }
        fs::remove_dir_all(out)?;
    }
    // So that a folder that was left half done is replaced by the next.
    fs::create_dir_all(out)?;
    Ok(fs::write(out.join("manifest.json"), "{}\n")?)
}

fn install(from: &Path, to: &Path) -> Result<()> {
    to.parent().map_or(Ok(()), fs::create_dir_all)?;
    fs::copy(from, to).map_err(|error| format!("{}: {error}", from.display()))?;
    // What cargo builds is executable; a stripped copy must stay writable until then.
    let mode = fs::metadata(to)?.permissions().mode();
    Ok(fs::set_permissions(to, fs::Permissions::from_mode(mode | 0o200))?)
}

fn copy_all(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let path = entry?.path();
        let target = to.join(path.file_name().unwrap_or(OsStr::new("")));
        match path.is_dir() {
            true => copy_all(&path, &target)?,
            false => install(&path, &target)?,
        }
    }
    Ok(())
}

/// The files below a folder, sorted, with their sizes.
fn sizes(folder: &Path) -> Result<Vec<(String, u64)>> {
    let (mut folders, mut files) = (vec![folder.to_path_buf()], Vec::new());
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let name = path.strip_prefix(folder)?.to_string_lossy().into_owned();
            files.push((name, fs::metadata(&path)?.len()));
        }
    }
    files.sort();
    Ok(files)
}

/// What the folder was made from, for the rows of the bench.
fn write_manifest(args: &Args, files: &[(String, u64)]) -> Result<()> {
    let git = Command::new("git").args(["describe", "--always", "--dirty"]).output().ok();
    let git = git.filter(|output| output.status.success());
    let git = git.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    let manifest = json!({
        "git": git,
        "profile": format!("{:?}", args.profile).to_lowercase(),
        "kernel_hash": kiln::backend::cuda::kernel_hash(),
        "files": files.iter().map(|(name, bytes)| json!({ "name": name, "bytes": bytes })).collect::<Vec<_>>(),
    });
    Ok(fs::write(args.out.join("manifest.json"), format!("{manifest:#}\n"))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_in_what_cargo_tells() {
        let message = |kind: &str, name: &str, path: Value| json!({ "reason": "compiler-artifact", "target": { "kind": [kind], "name": name }, "executable": path });
        let messages = [
            message("lib", "kiln", Value::Null),
            message("bin", "kiln", "debug/kiln".into()),
            message("test", "cuda", "debug/deps/cuda-1".into()),
            message("bench", "cuda", "debug/deps/cuda-2".into()),
        ];
        let found = |kind, name| executable(&messages, kind, name).ok();
        assert_eq!(found("bin", "kiln"), Some("debug/kiln".into()));
        assert_eq!(found("test", "cuda"), Some("debug/deps/cuda-1".into()));
        assert_eq!(found("bench", "cuda"), Some("debug/deps/cuda-2".into()));
        assert_eq!(found("test", "kernels"), None);
    }

    /// A folder that somebody keeps other things in is not emptied.
    #[test]
    fn only_a_bundle_is_replaced() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("thesis"), "all of it").expect("written");
        assert!(prepare(folder.path()).is_err());
        assert!(folder.path().join("thesis").is_file());
        let bundle = folder.path().join("bundle");
        for _ in 0..2 {
            prepare(&bundle).expect("a new one, or one that is replaced");
            fs::write(bundle.join("kiln"), "of before").expect("written");
        }
        prepare(&bundle).expect("replaced");
        assert!(!bundle.join("kiln").exists());
    }

    /// Compressed, it is gone again where it would be too much.
    #[test]
    fn what_need_not_be_there_is_taken_along_if_it_fits() {
        let folder = tempfile::tempdir().expect("a folder");
        let program = std::env::current_exe().expect("this program");
        let out = folder.path().join("bundle");
        prepare(&out).expect("a folder");
        let absent = take_along(&folder.path().join(BURN), &out, u64::MAX).expect("no failure");
        assert!(matches!(absent, Taken::No(why) if why.starts_with("there is no ")));
        let name = program.file_name().expect("a name").to_owned();
        let packed = out.join(&name).with_extension("gz");
        let large = take_along(&program, &out, 1000).expect("packed");
        assert!(matches!(large, Taken::No(why) if why.ends_with("would be more than 1000")));
        assert!(!packed.exists());
        assert_eq!(take_along(&program, &out, u64::MAX).expect("packed"), Taken::Yes);
        assert!(packed.is_file());
    }

    #[test]
    fn what_is_carried_is_here() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        for (name, source) in FILES {
            assert!(root.join(source).is_file(), "{name}");
        }
    }
}
