// SPDX-License-Identifier: MIT OR Apache-2.0
//! A simulated CUDA driver for tests.
//!
//! The package is built twice from this source. As a shared object, `libkiln_simcuda.so`, it
//! answers the driver's entry points (`cuInit`, `cuLaunchKernel`, ...): stream queues are run in an
//! order chosen to expose missing waits, and kernels, compiled for the host, run thread by thread.
//! As a Rust library it only finds that shared object, loads it and talks to its switches:
//!
//! ```no_run
//! let simulator = kiln_simcuda::load()?.exclusive();   // before the first call to a CUDA driver
//! simulator.set_mode(kiln_simcuda::Mode::Checked);
//! // ... use the driver as on a GPU ...
//! assert_eq!(simulator.take_reports(), Vec::<String>::new());
//! # Ok::<(), kiln_simcuda::LoadError>(())
//! ```
//!
//! What it shows are *simulated* results: what kernels compute and how they are ordered, never how
//! fast they are.
//!
//! It takes `libcuda.so`'s place as only Linux's loader lets it; for other systems the package is empty.

#![cfg(target_os = "linux")]
#![allow(non_snake_case)] // the driver's own names

// What tests use.
mod control;
mod loader;
mod settings;

pub use control::Counters;
pub use loader::{load, Exclusive, LoadError, Simulator};
pub use settings::{DeviceModel, ImageKind, Mode, StreamOrder, ThreadOrder};

// The driver, from the outside in.
mod driver;
mod status;

mod attributes;
mod capture;
mod context;
mod device;
mod event;
mod function;
mod graph;
mod launch;
mod module;
mod pool;
mod stream;
mod transfer;

mod clock;
mod engine;
mod execute;
mod mapping;
mod memory;
mod ptx;
mod races;
mod schedule;
mod symbols;
