// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo xtask peers --device cuda`: the same on a GPU. Its clock is held by `cargo bench --bench cuda`, which takes turns
//! with the peers that are found here and writes rows; here they are read, shown and kept.

pub(crate) mod found;
#[path = "../../../../benches/cuda/row.rs"]
pub(crate) mod row;

use std::env;
use std::path::Path;
use std::process::{Command, ExitCode};

use kiln::backend::cuda::check;

use super::program::{Library, Program};
use super::record::{self, Record};
use super::report::Report;
use super::{turns, Args};
use crate::Result;
pub(crate) use found::Found;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
/// What speaks for PyTorch on a GPU.
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../benches/peers/pytorch_cuda.py");
/// Seconds after which nothing new begins: all of it takes minutes.
const SECONDS: u64 = 3600;
/// How PyTorch runs a step, and how with `--compile`.
const MODES: [&str; 2] = ["eager,fused,graph", "eager,fused,graph,compile"];

/// Lets the bench take turns, and shows what it found.
pub(super) fn run(args: &Args, ordinal: usize) -> Result<ExitCode> {
    let not_there = [
        (args.costs, "--costs"),
        (args.check_bars, "--check-bars"),
        (!args.cases.is_empty(), "--cases (--only picks training steps there)"),
    ];
    if let Some((_, option)) = not_there.iter().find(|(given, _)| *given) {
        return Err(format!("{option} is for the CPU").into());
    }
    if args.bench.is_none() {
        // Before the bench is built, which takes minutes.
        check(ordinal)?;
    }
    let file = tempfile::NamedTempFile::new()?;
    let status = bench(args, ordinal, file.path()).status();
    let status = status.map_err(|error| format!("cannot start the bench: {error}"))?;
    let found = Found::read(&std::fs::read_to_string(file.path())?)?;
    if found.rows.is_empty() {
        return Err(format!("the bench measured nothing: {status}").into());
    }
    if args.json {
        println!("{}", serde_json::to_string(&found)?);
    } else {
        println!("{found}");
    }
    let code = conclude(&found, status.code());
    if args.record {
        if !found.is_timed {
            return Err("nothing is kept of a device that is not timed".into());
        }
        let path = Record::new(Report::default(), Some(found))?.save(Path::new(record::RUNS))?;
        eprintln!("kept in {}", path.display());
    }
    Ok(code)
}

fn bench(args: &Args, ordinal: usize, json: &Path) -> Command {
    let mut command = match &args.bench {
        Some(program) => Command::new(program),
        None => {
            let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
            cargo.current_dir(ROOT).args(["bench", "--locked", "--bench", "cuda", "--"]);
            cargo
        }
    };
    let (rounds, milliseconds) = turns::rounds(args);
    command.args(["--parts", "steps", "--device", &ordinal.to_string(), "--only", &args.only]);
    command.args(["--rounds", &rounds.to_string(), "--milliseconds", &milliseconds.to_string()]);
    command.args(["--patience", &args.patience.to_string(), "--seconds", &SECONDS.to_string()]);
    command.arg("--json").arg(json);
    for &library in &args.with {
        match library.find_on_gpu(args.programs.as_deref()) {
            Ok(Program::Python(python)) => {
                command.arg("--torch").arg(python).args(["--torch-script", SCRIPT]);
                command.args(["--modes", MODES[usize::from(args.compile)]]);
            }
            Ok(Program::Alone(path)) => {
                command.arg(format!("--{library}")).arg(path);
            }
            Ok(Program::Kiln(_)) => {}
            Err(why) => eprintln!("left out: {library}, because {why}"),
        }
    }
    // What it prints of its progress is no part of the result.
    command.stdout(std::io::stderr());
    command
}

fn conclude(found: &Found, bench: Option<i32>) -> ExitCode {
    if found.rows.iter().any(|row| row.noisy) {
        eprintln!("noisy rows prove nothing: run again on a device that does nothing else");
    }
    let is_broken = found.rows.iter().any(|row| row.broken.is_some());
    if is_broken {
        eprintln!("some peers gave no figures: their rows say why");
    }
    match (bench, is_broken) {
        (Some(0), false) => ExitCode::SUCCESS,
        (Some(0 | 2), true) => ExitCode::from(2),
        _ => {
            eprintln!("error: the bench did not end as it should");
            ExitCode::from(2)
        }
    }
}

impl Library {
    /// Its program for a GPU.
    ///
    /// # Errors
    /// What is missing, and how to get it.
    fn find_on_gpu(self, programs: Option<&Path>) -> std::result::Result<Program, String> {
        match self {
            Library::Torch => self.find(programs),
            Library::Candle => Err("it has no peer on a GPU".into()),
            Library::Burn => {
                let name = format!("peer-burn-cuda{}", env::consts::EXE_SUFFIX);
                let path = programs.unwrap_or(Path::new(super::program::BUILT)).join(name);
                if path.is_file() {
                    return Ok(Program::Alone(path));
                }
                Err(format!(
                    "there is no {}: benches/peers/README.md says how it is built",
                    path.display()
                ))
            }
        }
    }
}
