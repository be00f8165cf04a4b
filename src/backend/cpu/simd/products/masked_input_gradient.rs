// SPDX-License-Identifier: MIT OR Apache-2.0
//! The gradient of a linear layer's input where its mask drops most of it: only what passes is computed.

use super::base::{for_each_vector, load, store_as, Vector};
use super::input_gradient::{Product, Share};
use super::masked::{Columns, Masked, Rows, BLOCK};
use super::panels::PANEL;
use super::sparse::{density, Ahead, SPARSE_DENSITY};
use std::ops::Range;

/// Vectors of `dy` that stay in registers. With 16, where there are as many, the weights of a visit
/// do not fit into a first cache, and it took longer on Zen 4.
const HELD: usize = 8;

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

/// Computes a share by dot products.
///
/// # Safety
/// As the share's own kernel; [`pays`] said so.
#[inline(always)]
pub(super) unsafe fn run<V: Vector>(share: &Share<'_>) {
    let mut masked = Masked::take::<V>(0);
    let chunks = share.product.layout.outputs / (HELD * V::LANES);
    for block in share.blocks.clone() {
        let mut ahead = ahead(share, block + 1).over(share.rows.len() * chunks);
        for first in share.rows.clone().step_by(BLOCK) {
            let rows = first..(first + BLOCK).min(share.rows.end);
            // SAFETY: the rows lie inside the share.
            unsafe { some_rows::<V>(share, block, rows, &mut masked, &mut ahead) };
        }
    }
    masked.keep();
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
/// The inputs and the rows lie inside the share.
#[inline(always)]
unsafe fn some_rows<V: Vector>(
    share: &Share<'_>,
    block: usize,
    rows: Range<usize>,
    masked: &mut Masked,
    ahead: &mut Ahead,
) {
    let Product { layout, mask, dy, dy_stride, weight, dx, dx_stride, stores } = share.product;
    let Some(mask) = mask else { return };
    let inputs = inputs_of(share, block);
    // SAFETY: the caller's.
    unsafe {
        for (index, row) in rows.clone().enumerate() {
            let y = mask.y.as_ptr().add(row * dx_stride + inputs.start);
            masked.passing[index] = passing_bits::<V>(y, inputs.len());
        }
        masked.start(rows.len());
        for chunk in 0..layout.outputs / (HELD * V::LANES) {
            let output = chunk * HELD * V::LANES;
            let from = Rows { start: dy.add(rows.start * dy_stride + output), stride: dy_stride };
            let start = weight.add(layout.offset(output, inputs.start));
            let columns = Panels { start, length: layout.panel_start(1) };
            masked.add_chunk::<V, HELD>(rows.len(), chunk, from, columns, ahead);
        }
        let scale = V::splat(mask.scale);
        for (index, row) in rows.enumerate() {
            let to = dx.wrapping_add(row * dx_stride + inputs.start);
            for_each_vector!(V, inputs.len(), |at, lanes| {
                let value = masked.total::<V>(index, at).mul(scale);
                store_as(stores, value, to.wrapping_add(at), lanes);
            });
        }
    }
}

/// The weights of a block of inputs, from the first output of a chunk on: those of one input to the
/// outputs of a panel lie next to one another.
#[derive(Clone, Copy)]
struct Panels {
    start: *const f32,
    length: usize,
}

impl Columns for Panels {
    #[inline(always)]
    fn at(self, column: usize, term: usize) -> *const f32 {
        self.start.wrapping_add(column * PANEL + term / PANEL * self.length + term % PANEL)
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
