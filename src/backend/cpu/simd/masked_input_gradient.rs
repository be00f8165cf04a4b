// SPDX-License-Identifier: MIT OR Apache-2.0
//! The gradient of a linear layer's input where its mask drops most of it: only what passes is computed.
//!
//! Each element that passes is the dot product of a row of `dy` and an input's weights. Some vectors
//! of a row stay in registers while the weights of all inputs that pass are taken, for a chunk of
//! outputs at a time. The lanes of a group of rows are then added up while they are near.

use super::beside::{Ahead, Beside};
use super::input_gradient::{Product, Share};
use super::isa::Kernel;
use super::panels::PANEL;
use super::sparse::{density, on_line, LINE, SPARSE_DENSITY};
use super::vector::{load, store_as, Vector};
use std::cell::RefCell;
use std::ops::Range;

/// Vectors of `dy` that stay in registers. With 16, where there are as many, the weights of a visit
/// do not fit into a first cache, and it took longer on Zen 4.
const HELD: usize = 8;

/// Rows whose sums are added up at a time: they, the weights and the rows stay in a first cache.
const GROUP: usize = 16;

/// Rows whose totals are kept between chunks of outputs.
const BLOCK: usize = 8 * GROUP;

/// How much longer a term of a dot product takes than one of a sparse product (Zen 4).
const COST: f32 = 1.2;

/// Whether the mask drops so much more than `dy` has zeros that dot products are faster. All shares
/// look at the same rows, so the answer does not depend on their number.
///
/// # Safety
/// `dy` and the mask are valid for `rows` rows of the product.
#[inline(always)]
pub(super) unsafe fn pays<V: Vector>(product: &Product<'_>, rows: usize) -> bool {
    let Some(mask) = product.mask else { return false };
    let layout = product.layout;
    if !V::HAS_COMPRESS || layout.outputs == 0 || !layout.outputs.is_multiple_of(HELD * V::LANES) {
        return false;
    }
    // SAFETY: the caller's.
    unsafe {
        let passing = density::<V>(mask.y.as_ptr(), product.dx_stride, rows, layout.inputs);
        passing < SPARSE_DENSITY
            && COST * passing < density::<V>(product.dy, product.dy_stride, rows, layout.outputs)
    }
}

thread_local! {
    /// A vector of sums for every element of a group that passes, then the totals of a block of rows.
    /// It grows once and stays.
    static SUMS: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// Computes a share by dot products.
///
/// # Safety
/// As the share's own kernel; [`pays`] said so.
#[inline(always)]
pub(super) unsafe fn run<V: Vector>(share: &Share<'_>) {
    let mut room = SUMS.take();
    // Whole vectors of totals are read, past the last one.
    room.resize(GROUP * PANEL * V::LANES + BLOCK * PANEL + V::LANES + LINE, 0.0);
    let sums = on_line(room.as_mut_ptr());
    let totals = sums.wrapping_add(GROUP * PANEL * V::LANES);
    let chunks = share.product.layout.outputs / (HELD * V::LANES);
    for block in share.blocks.clone() {
        let mut ahead = ahead(share, block + 1).over(share.rows.len() * chunks);
        for first in share.rows.clone().step_by(BLOCK) {
            let rows = first..(first + BLOCK).min(share.rows.end);
            // SAFETY: the rows lie inside the share, and there is room for all their sums.
            unsafe { some_rows::<V>(share, block, rows, [sums, totals], &mut ahead) };
        }
    }
    SUMS.set(room);
}

/// What the next block of inputs needs: its mask and its weights.
fn ahead(share: &Share<'_>, block: usize) -> Ahead {
    let mut ahead = Ahead::nothing();
    if block < share.blocks.end {
        let inputs = inputs_of(share, block);
        ahead.add(share.product.mask_at(&share.rows, &inputs));
        ahead.add(share.product.weights_of(&inputs));
    }
    ahead
}

fn inputs_of(share: &Share<'_>, block: usize) -> Range<usize> {
    block * PANEL..(block * PANEL + PANEL).min(share.product.layout.inputs)
}

/// One block of 32 inputs of at most [`BLOCK`] rows.
///
/// # Safety
/// The inputs and the rows lie inside the share; there is room for a vector of sums for each element
/// of a group, and for a total, and a vector beyond, for each of a block.
#[inline(always)]
unsafe fn some_rows<V: Vector>(
    share: &Share<'_>,
    block: usize,
    rows: Range<usize>,
    [sums, totals]: [*mut f32; 2],
    ahead: &mut Ahead,
) {
    let product = share.product;
    let Some(mask) = product.mask else { return };
    let inputs = inputs_of(share, block);
    let mut passing = [0u32; BLOCK];
    // SAFETY: the caller's.
    unsafe {
        for (row, passing) in rows.clone().zip(&mut passing) {
            let y = mask.y.as_ptr().add(row * product.dx_stride + inputs.start);
            *passing = passing_bits::<V>(y, inputs.len());
        }
        for chunk in 0..product.layout.outputs / (HELD * V::LANES) {
            for start in (0..rows.len()).step_by(GROUP) {
                let group = start..(start + GROUP).min(rows.len());
                V::enter(Visit {
                    product,
                    first: rows.start + start,
                    passing: &passing[group],
                    input: inputs.start,
                    chunk,
                    sums,
                    totals: totals.add(start * PANEL),
                    ahead: &mut *ahead,
                });
            }
        }
        let scale = V::splat(mask.scale);
        for start in (0..rows.len()).step_by(GROUP) {
            let mut totals = totals.add(start * PANEL).cast_const();
            for index in start..(start + GROUP).min(rows.len()) {
                let to = (rows.start + index) * product.dx_stride + inputs.start;
                for at in (0..inputs.len()).step_by(V::LANES) {
                    let lanes = (inputs.len() - at).min(V::LANES);
                    let bits = passing[index] >> at & (u32::MAX >> (32 - V::LANES));
                    let value = V::load(totals).expand(bits).mul(scale);
                    totals = totals.add(bits.count_ones() as usize);
                    store_as(product.stores, value, product.dx.wrapping_add(to + at), lanes);
                }
            }
        }
    }
}

/// Bit `i` is set if value `i` is not 0.
///
/// # Safety
/// `y` is valid for reading `count` <= 32 values.
#[inline(always)]
unsafe fn passing_bits<V: Vector>(y: *const f32, count: usize) -> u32 {
    let mut bits = 0;
    for at in (0..count).step_by(V::LANES) {
        let lanes = (count - at).min(V::LANES);
        // SAFETY: `lanes` stops at the last value.
        bits |= unsafe { load::<V>(y.add(at), lanes) }.non_zero_bits() << at;
    }
    bits
}

/// The part of a group's dot products over the outputs of one chunk.
struct Visit<'a> {
    product: Product<'a>,
    /// The first of the rows.
    first: usize,
    /// What passes of each row.
    passing: &'a [u32],
    /// The first of the block's inputs.
    input: usize,
    chunk: usize,
    sums: *mut f32,
    totals: *mut f32,
    ahead: &'a mut Ahead,
}

impl Kernel for Visit<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let Product { layout, dy, dy_stride, weight, .. } = self.product;
        let first_output = self.chunk * HELD * V::LANES;
        let panel_length = layout.panel_start(1);
        let weight = weight.wrapping_add(first_output / PANEL * panel_length + self.input * PANEL);
        // SAFETY: the caller's: rows, inputs and outputs lie inside the product, and there is a
        // vector of sums for each bit.
        unsafe {
            let mut sums = self.sums;
            for (index, &bits) in self.passing.iter().enumerate() {
                self.ahead.visit::<V>();
                let from = dy.add((self.first + index) * dy_stride + first_output);
                let held: [V; HELD] =
                    std::array::from_fn(|vector| V::load(from.add(vector * V::LANES)));
                let mut bits = bits;
                while bits != 0 {
                    let weight = weight.add(bits.trailing_zeros() as usize * PANEL);
                    // Two short chains leave a processor more to do at a time than a long one.
                    let mut halves = [V::splat(0.0); 2];
                    for vector in 0..HELD {
                        let output = vector * V::LANES;
                        let at = output / PANEL * panel_length + output % PANEL;
                        let half = &mut halves[vector % 2];
                        *half = held[vector].mul_add(V::load(weight.add(at)), *half);
                    }
                    halves[0].add(halves[1]).store(sums);
                    sums = sums.add(V::LANES);
                    bits &= bits - 1;
                }
            }
            let count: u32 = self.passing.iter().map(|bits| bits.count_ones()).sum();
            for at in (0..count as usize).step_by(V::LANES) {
                let mut total = V::sum_each(self.sums.add(at * V::LANES));
                let to = self.totals.add(at);
                if self.chunk > 0 {
                    total = total.add(V::load(to));
                }
                total.store(to);
            }
        }
    }
}
