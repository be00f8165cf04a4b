// SPDX-License-Identifier: MIT OR Apache-2.0
//! The command line: raw arguments, checked settings, one file per command.

mod args;
mod chart;
mod compare;
mod data;
mod doctor;
mod driver_path;
mod dropout;
mod eval;
mod evaluation;
mod found;
mod images;
mod interrupt;
mod lines;
mod lint;
mod mask;
mod metrics;
mod monte_carlo;
mod network;
mod outcome;
mod output;
mod plan;
mod plot;
mod predict;
mod rates;
mod run_dir;
mod session;
mod settings;
mod table;
mod train;
mod verify;
mod watch;

use std::io::{ErrorKind, IsTerminal};
use std::path::Path;
use std::process::ExitCode;

use clap::error::ErrorKind as Usage;
use clap::Parser;
use kiln::Error;

use args::{Cli, Command, Common};
use outcome::{Ending, Fault, Outcome};
use output::{Output, Purpose, STANDARD_OUTPUT};

const FAILED: u8 = 1;
const MISUSED: u8 = 2;

/// Runs the program on the process's arguments. Exit codes: 0 done, 1 failed, 2 misused, 130 and 143
/// ended by SIGINT and SIGTERM.
pub(crate) fn main() -> ExitCode {
    driver_path::leave_stubs();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return misuse(&error),
    };
    start_logging(&cli.common);
    match run(cli) {
        Ok(Ending::Done) => ExitCode::SUCCESS,
        Ok(Ending::Stopped(signal)) => ExitCode::from(signal.exit_code()),
        Err(failure) if is_closed_output(&failure.error) => ExitCode::SUCCESS,
        Err(failure) => {
            complain(&failure.to_string());
            ExitCode::from(match failure.fault {
                Fault::OfWork => FAILED,
                Fault::OfUse => MISUSED,
            })
        }
    }
}

fn run(cli: Cli) -> Outcome {
    let common = &cli.common;
    let command = cli.command.unwrap_or_else(|| Command::Compare(compare::CompareArgs::default()));
    let purpose = match command {
        Command::Train(_) | Command::Compare(_) => Purpose::Files,
        Command::Eval(_)
        | Command::Predict(_)
        | Command::Plan(_)
        | Command::Lint(_)
        | Command::Mask(_)
        | Command::Verify(_)
        | Command::Plot(_)
        | Command::Doctor(_) => Purpose::Printing,
    };
    let mut output = Output::new(common, purpose);
    let done = |()| Ending::Done;
    let ending = match command {
        Command::Train(args) => train::run(&args, common, &mut output),
        Command::Eval(args) => Ok(eval::run(&args, common, &mut output).map(done)?),
        Command::Predict(args) => Ok(predict::run(&args, common, &mut output).map(done)?),
        Command::Compare(args) => compare::run(&args, common, &mut output),
        Command::Plan(args) => Ok(plan::run(&args, common, &mut output).map(done)?),
        Command::Lint(args) => Ok(lint::run(&args, &mut output).map(done)?),
        Command::Mask(args) => Ok(mask::run(&args, &mut output).map(done)?),
        Command::Verify(args) => verify::run(&args, common, &mut output),
        Command::Plot(args) => Ok(plot::run(&args, &mut output).map(done)?),
        Command::Doctor(args) => Ok(doctor::run(&args, common, &mut output).map(done)?),
    };
    output.finish();
    let ending = ending?;
    output.end()?;
    Ok(ending)
}

/// Whether the program failed because whoever read its output has seen enough.
fn is_closed_output(error: &Error) -> bool {
    matches!(error, Error::Io { source, path, .. }
        if source.kind() == ErrorKind::BrokenPipe && path == Path::new(STANDARD_OUTPUT))
}

/// Logs go to the standard error, results to the standard output.
fn start_logging(common: &Common) {
    let stderr = std::io::stderr();
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    tracing_subscriber::fmt()
        .with_max_level(common.log.filter())
        .with_writer(std::io::stderr)
        .with_ansi(stderr.is_terminal() && !plain)
        // What it says of its own failures it says with `eprintln!`, which panics.
        .log_internal_errors(false)
        .init();
}

/// Help and versions as clap prints them; everything else as one line.
fn misuse(error: &clap::Error) -> ExitCode {
    if matches!(error.kind(), Usage::DisplayHelp | Usage::DisplayVersion) {
        return match error.print() {
            Err(error) if error.kind() != ErrorKind::BrokenPipe => {
                complain(&Error::io("write", STANDARD_OUTPUT)(error).to_string());
                ExitCode::from(FAILED)
            }
            _ => ExitCode::SUCCESS,
        };
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
    output::to_stderr(&format!("error: {}", line.join(" ")));
}
