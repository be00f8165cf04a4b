// SPDX-License-Identifier: MIT OR Apache-2.0
//! The simulated driver, through cudarc alone. Tests take turns: each has the driver for itself.

#![cfg(target_os = "linux")]

mod attributes;
mod capture;
mod common;
mod cooperation;
mod driver;
mod instructions;
mod nvrtc;
mod planted_bugs;
mod streams;
