// SPDX-License-Identifier: MIT OR Apache-2.0
//! The program `kiln`: trains, evaluates and compares networks, and shows what the engine plans.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
