// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the host and the kernels agree on. Written by `cargo xtask abi` from `kernels/abi_recurrent.h`.

use super::abi::*;
use super::memory::Address;

pub(crate) const KILN_RECURRENT_ROWS: u32 = 32;
pub(crate) const KILN_RECURRENT_COLUMNS: u32 = 64;
pub(crate) const KILN_RECURRENT_UNITS: u32 = 16;
pub(crate) const KILN_WALK_THREADS: u32 = 256;
pub(crate) const KILN_WALK_ROWS: u32 = 16;
pub(crate) const KILN_WALK_UNITS: u32 = 8;
pub(crate) const KILN_WALK_PASS_WORDS: u32 = 512;
pub(crate) const KILN_WALK_COUNTERS: u32 = 32;
pub(crate) const KILN_CELL_LSTM: KilnCell = 0;
pub(crate) const KILN_CELL_GRU: KilnCell = 1;
pub(crate) const KILN_CELL_TANH: KilnCell = 2;
pub(crate) const KILN_CELL_RELU: KilnCell = 3;
pub(crate) const KILN_CELL_STATE: KilnCell = 4;
pub(crate) type KilnCell = u32;
pub(crate) const KILN_ROWS_OF_STEP: KilnRecurrentRows = 0;
pub(crate) const KILN_ROWS_OWN: KilnRecurrentRows = 1;
pub(crate) const KILN_ROWS_BEHIND: KilnRecurrentRows = 2;
pub(crate) type KilnRecurrentRows = u32;
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, PartialEq)]
pub(crate) struct KilnStep {
    pub(crate) lengths: Address,
    pub(crate) samples: u32,
    pub(crate) steps: u32,
    pub(crate) time: u32,
    pub(crate) reversed: u32,
}
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, PartialEq)]
pub(crate) struct KilnRecurrentParams {
    pub(crate) step: KilnStep,
    pub(crate) cell: KilnCell,
    pub(crate) source: KilnRecurrentRows,
    pub(crate) units: u32,
    pub(crate) state: u32,
    pub(crate) k: u32,
    pub(crate) rows: Address,
    pub(crate) first: Address,
    pub(crate) weight: Address,
    pub(crate) split: KilnSplitK,
    pub(crate) x: Address,
    pub(crate) bias: Address,
    pub(crate) initial_hidden: Address,
    pub(crate) initial_cell: Address,
    pub(crate) hidden: Address,
    pub(crate) cell_state: Address,
    pub(crate) output: Address,
    pub(crate) made: Address,
    pub(crate) saved: Address,
    pub(crate) dropped_output: Address,
    pub(crate) dropped_hidden: Address,
    pub(crate) scalars: Address,
    pub(crate) output_mask: KilnMask,
    pub(crate) hidden_mask: KilnMask,
}
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, PartialEq)]
pub(crate) struct KilnRecurrentGradientParams {
    pub(crate) step: KilnStep,
    pub(crate) cell: KilnCell,
    pub(crate) source: KilnRecurrentRows,
    pub(crate) units: u32,
    pub(crate) state: u32,
    pub(crate) k: u32,
    pub(crate) rows: Address,
    pub(crate) weight: Address,
    pub(crate) split: KilnSplitK,
    pub(crate) dy: Address,
    pub(crate) d_hidden: Address,
    pub(crate) d_cell: Address,
    pub(crate) output: Address,
    pub(crate) saved: Address,
    pub(crate) initial_hidden: Address,
    pub(crate) initial_cell: Address,
    pub(crate) dx: Address,
    pub(crate) carried: Address,
    pub(crate) recurrent: Address,
    pub(crate) direct: Address,
    pub(crate) cell_slope: Address,
    pub(crate) previous: Address,
    pub(crate) unprojected: Address,
    pub(crate) total: Address,
    pub(crate) d_output: Address,
    pub(crate) d_initial: Address,
    pub(crate) scalars: Address,
    pub(crate) drops_output: u32,
    pub(crate) drops_hidden: u32,
    pub(crate) output_mask: KilnMask,
    pub(crate) hidden_mask: KilnMask,
}
