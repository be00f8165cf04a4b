// SPDX-License-Identifier: MIT OR Apache-2.0
//! The test suite, in parts by what a test needs: `null` nothing but the compiler of plans, `unit`
//! the CPU, `backend` every backend of the machine; and `structures`, about networks with several
//! inputs and outputs.

mod common;

mod backend;
mod null;
mod structures;
mod unit;
