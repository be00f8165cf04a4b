// SPDX-License-Identifier: MIT OR Apache-2.0
//! Chores of this repository: `cargo xtask COMMAND`.

mod abi;
#[cfg(unix)]
mod bundle;
mod clock;
mod kernels;
mod peers;
mod rates;
mod report;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// What every command returns: an error is printed as one line.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", about = "Chores of this repository")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Abi(abi::Args),
    #[cfg(unix)]
    Bundle(bundle::Args),
    Kernels(kernels::Args),
    #[command(hide = true)]
    Peer(peers::serve::Args),
    Peers(peers::Args),
    Rates(rates::Args),
    Report(report::Args),
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Abi(args) => abi::run(&args),
        #[cfg(unix)]
        Command::Bundle(args) => bundle::run(&args),
        Command::Kernels(args) => kernels::run(&args),
        Command::Peer(args) => peers::serve::run(&args),
        Command::Peers(args) => peers::run(&args),
        Command::Rates(args) => rates::run(&args),
        Command::Report(args) => report::run(&args),
    };
    done.unwrap_or_else(|error| {
        eprintln!("error: {error}");
        ExitCode::from(2)
    })
}
