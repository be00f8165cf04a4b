// SPDX-License-Identifier: MIT OR Apache-2.0
//! What every loop stands on: vectors of each instruction set, and how a loop is entered with one.
//!
//! [`Vector`] is what loops are written over; `avx512`, `avx2` and `portable` implement it. [`Kernel`]
//! is a loop with its arguments, and [`dispatch`] runs it with the instruction set that an [`Isa`]
//! names. `draws` is what an instruction set must know to draw mask bits.

mod avx2;
mod avx512;
mod draws;
mod isa;
mod memory;
mod portable;
mod shared;
mod vector;

pub(crate) use draws::{Group, KeepSchedule};
pub(crate) use isa::{dispatch, Isa, Kernel};
pub(crate) use memory::{matrix_len, on_line, LINE};
pub(crate) use shared::SharedSlice;
pub(crate) use vector::{for_each_vector, load, store, store_as, LongSum, Vector};

use super::Stores;
