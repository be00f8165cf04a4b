// SPDX-License-Identifier: MIT OR Apache-2.0
//! The command line: raw arguments, checked settings, one file per command.

mod args;
mod chart;
mod compare;
mod data;
mod doctor;
mod eval;
mod metrics;
mod network;
mod output;
mod plan;
mod run_dir;
mod session;
mod settings;
mod train;
mod verdict;

use std::io::{ErrorKind, Write};
use std::process::ExitCode;

use clap::error::ErrorKind as Usage;
use clap::Parser;
use kiln::{Error, Printable, Result};

use args::{Cli, Command, Common};
use output::Output;

const FAILED: u8 = 1;
const MISUSED: u8 = 2;

/// Runs the program on the process's arguments. Exit codes: 0 done, 1 failed, 2 misused.
pub(crate) fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return misuse(&error),
    };
    start_logging(&cli.common);
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read the output has seen enough.
        Err(Error::Io { source, .. }) if source.kind() == ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(error) => {
            complain(&error.to_string());
            ExitCode::from(FAILED)
        }
    }
}

fn run(cli: Cli) -> Result<()> {
    let common = &cli.common;
    let mut output = Output::new(common);
    let device = || network::device(common);
    match cli.command.unwrap_or_else(|| Command::Compare(args::CompareArgs::default())) {
        Command::Train(args) => train::run(&args, device()?, &mut output),
        Command::Eval(args) => eval::run(&args, device()?, &mut output),
        Command::Compare(args) => compare::run(&args, device()?, &mut output),
        Command::Plan(args) => plan::run(&args, common, &mut output),
        Command::Doctor(args) => doctor::run(&args, common, &mut output),
    }
}

/// Logs go to the standard error, results to the standard output.
fn start_logging(common: &Common) {
    tracing_subscriber::fmt()
        .with_max_level(common.log.filter())
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        // What it says of its own failures it says with `eprintln!`, which panics.
        .log_internal_errors(false)
        .init();
}

/// Help and versions as clap prints them; everything else as one line.
fn misuse(error: &clap::Error) -> ExitCode {
    if matches!(error.kind(), Usage::DisplayHelp | Usage::DisplayVersion) {
        error.exit();
    }
    let text = error.to_string();
    let text = text.trim_start_matches("error: ");
    let end = ["\n\nUsage:", "\n\nFor more"].iter().filter_map(|mark| text.find(mark)).min();
    let message = text[..end.unwrap_or(text.len())].trim();
    complain(&format!("{message} (see kiln --help)"));
    ExitCode::from(MISUSED)
}

/// The one place where the program reports a failure.
fn complain(message: &str) {
    let line: Vec<&str> = message.split_whitespace().collect();
    let line = Printable(line.join(" "));
    // Whoever cannot be told is told by the exit code.
    let _ = writeln!(std::io::stderr(), "error: {line}");
}
