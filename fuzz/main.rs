// SPDX-License-Identifier: MIT OR Apache-2.0
//! Everything that reads what others wrote is given files, sizes and arguments that are almost right;
//! README.md says how.

mod checkpoints;
mod files;
mod harness;
mod mutate;
mod pictures;
#[cfg(target_os = "linux")]
mod program;
mod settings;
mod sizes;
mod tables;
