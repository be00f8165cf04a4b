// SPDX-License-Identifier: MIT OR Apache-2.0
//! A model of the time that a launch of matrix products takes, in cycles of a multiprocessor.
//!
//! A block sums up one part of the products of a tile, in steps along `k`. Of a step it takes
//!
//! ```text
//! step = max(arithmetic, issue, shared, loads)
//!     arithmetic = rows * columns * depth / multiply-adds per cycle
//!     issue      = instructions of a warp * warps / 4 schedulers
//!     shared     = (bytes that warps read + bytes that are copied) / 128
//!     loads      = bytes that are copied / LOADED
//! ```
//!
//! and a multiprocessor with `r` blocks at a time
//!
//! ```text
//! round(r) = LATENCY + steps * max(r * step, step + EXPOSED) + r * (tail + part / LOADED)
//!     tail = TAIL * rows * columns / 128 lanes
//!     part = bytes of a tile's sums, if k is split, else 0
//! ```
//!
//! The multiprocessor with the most blocks decides: it takes them in rounds of as many as it holds. The last
//! block of a tile then reads what all left there:
//!
//! ```text
//! time = rounds + splits * (LATENCY / 2 + part / LOADED), the second only if k is split
//! ```
//!
//! Nothing of this was measured on a GPU. What a kernel is comes from its machine code, what a device is from
//! its data sheet; the constants are orders of magnitude.

use super::{count, Extents, Form, Tile, Tiling};
use crate::backend::cuda::geometry::{vector, Machine};
use crate::Precision;

/// Cycles until what global memory is asked for is there; half of it from the second-level cache.
const LATENCY: usize = 600;
/// Cycles of a step in which a block without company waits: for fragments, and at the barrier.
const EXPOSED: usize = 100;
/// Bytes per cycle that a multiprocessor gets from the second-level cache: an A100's 5120 for all 108.
const LOADED: usize = 48;
/// Bytes per cycle of shared memory.
const SHARED: usize = 128;
/// Instructions for an output from its sum to its store.
const TAIL: usize = 10;
/// Most parts of `k`: the last block to arrive reads them all.
const MOST_SPLITS: usize = 16;
/// Blocks that a multiprocessor holds at a time, of most kernels.
const HELD: usize = 3;
/// Least steps of a part: below it, filling the pipeline costs more than the steps.
const LEAST_STEPS: usize = 2;

/// A kernel as the model knows it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    pub(super) tile: Tile,
    /// Rows and columns of a warp.
    warp: [usize; 2],
    /// Blocks for whose registers a multiprocessor has room.
    blocks: usize,
    /// Instructions of a warp in a step of `nt`, `nn` and `tn`.
    instructions: [usize; 3],
}

/// The kernels of a precision: registers and instructions by `cargo xtask kernels`, nvcc 13.5 for sm_90.
pub(super) fn rows(precision: Precision) -> &'static [Row] {
    const fn row(tile: Tile, warp: [usize; 2], blocks: usize, instructions: [usize; 3]) -> Row {
        Row { tile, warp, blocks, instructions }
    }
    const SIXTEEN: &[Row] = &[
        row(Tile::Large, [64, 64], 2, [121, 122, 119]),
        row(Tile::Tall, [64, 32], 3, [79, 81, 79]),
        row(Tile::Wide, [32, 64], 3, [79, 80, 79]),
        row(Tile::Small, [32, 32], 4, [54, 54, 52]),
        row(Tile::Guarded, [32, 32], 4, [293, 304, 299]),
    ];
    const TF32: &[Row] = &[
        row(Tile::Large, [64, 64], 2, [121, 133, 159]),
        row(Tile::Tall, [64, 32], 3, [79, 87, 108]),
        row(Tile::Wide, [32, 64], 3, [79, 91, 108]),
        row(Tile::Small, [32, 32], 4, [54, 62, 74]),
        row(Tile::Guarded, [32, 32], 4, [198, 217, 227]),
    ];
    const F32: &[Row] = &[
        row(Tile::Large, [16, 128], 2, [1183, 1172, 1121]),
        row(Tile::Tall, [32, 64], 3, [1154, 1141, 1127]),
        row(Tile::Wide, [16, 128], 3, [1154, 1139, 1127]),
        row(Tile::Small, [16, 64], 4, [612, 607, 598]),
    ];
    match precision {
        Precision::F32 => F32,
        Precision::Tf32 => TF32,
        Precision::Bf16 | Precision::F16 => SIXTEEN,
    }
}

/// Parts of `k` that are worth a thought: blocks beyond those that the device holds at a time would wait for
/// others, and each leaves sums that travel twice.
pub(super) fn most_splits(
    tiles: usize,
    products: &[Extents],
    precision: Precision,
    machine: &Machine,
) -> usize {
    let idle = HELD * machine.multiprocessors / tiles.max(1);
    (steps(products, precision) / LEAST_STEPS).min(idle).clamp(1, MOST_SPLITS)
}

/// The modelled time of a launch of products, in cycles.
pub(super) fn cycles(
    row: &Row,
    form: Form,
    products: &[Extents],
    splits: usize,
    precision: Precision,
    machine: &Machine,
) -> usize {
    let tiling = Tiling { precision, tile: row.tile, splits };
    let step = row.step(form, precision, machine);
    let steps = steps(products, precision).div_ceil(splits);
    let part = if splits > 1 { 4 * row.tile.outputs() / LOADED } else { 0 };
    let tail = TAIL * row.tile.outputs() / 128;
    let round = |blocks: usize| match blocks {
        0 => 0,
        _ => LATENCY + steps * (blocks * step).max(step + EXPOSED) + blocks * (tail + part),
    };
    let most = (splits * count(row.tile, products)).div_ceil(machine.multiprocessors.max(1));
    let held = row.blocks.min(shared_memory(machine) / (tiling.shared(machine) as usize + 1024));
    let held = held.max(1);
    let join = if splits > 1 { splits * (LATENCY / 2 + part) } else { 0 };
    most / held * round(held) + round(most % held) + join
}

impl Row {
    /// Cycles of a step of a block where it shares the multiprocessor.
    fn step(&self, form: Form, precision: Precision, machine: &Machine) -> usize {
        let [rows, columns] = self.tile.sides();
        let warps = self.tile.outputs() / (self.warp[0] * self.warp[1]);
        let depth = depth(precision);
        let bytes = depth * precision.storage().bytes();
        let copied = (rows + columns) * bytes;
        let read = warps * (self.warp[0] + self.warp[1]) * bytes;
        let arithmetic = rows * columns * depth / multiply_adds(precision, machine);
        let issue = self.instructions[form as usize] * warps / 4;
        let shared = (read + copied) / SHARED;
        [arithmetic, issue, shared, copied / LOADED].into_iter().max().unwrap_or(1)
    }
}

/// Steps of the longest product.
fn steps(products: &[Extents], precision: Precision) -> usize {
    let longest = products.iter().map(|product| product.k).max().unwrap_or(0);
    longest.div_ceil(depth(precision))
}

/// Elements of a step along `k`: four times 16 bytes.
fn depth(precision: Precision) -> usize {
    4 * vector(precision.storage())
}

/// Multiply-adds per cycle of a multiprocessor, into sums of f32: what NVIDIA's data sheets tell of the A100,
/// RTX 3090, RTX 4090, H100 and RTX 5090, by multiprocessors and clock.
fn multiply_adds(precision: Precision, machine: &Machine) -> usize {
    let (sixteen, ffma) = match machine.architecture {
        80 => (1024, 64),
        90..=119 => (2048, 128),
        _ => (256, 128),
    };
    match precision {
        Precision::F32 => ffma,
        Precision::Tf32 => sixteen / 2,
        Precision::Bf16 | Precision::F16 => sixteen,
    }
}

/// Bytes of shared memory of a multiprocessor, of which each block takes 1024 more than it asks for.
fn shared_memory(machine: &Machine) -> usize {
    let kilobytes = match machine.architecture {
        80 | 87 => 164,
        86 | 89 | 120.. => 100,
        _ => 228,
    };
    kilobytes << 10
}
