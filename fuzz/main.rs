// SPDX-License-Identifier: MIT OR Apache-2.0
//! Everything that reads what others wrote is given files, sizes and arguments that are almost right;
//! README.md says how.

mod checkpoints;
mod files;
mod harness;
mod mutate;
#[cfg(target_os = "linux")]
mod program;
mod sizes;
mod tables;
