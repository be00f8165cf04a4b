// SPDX-License-Identifier: MIT OR Apache-2.0
//! The gradient of a linear layer's input where its mask drops most of it: only what passes is computed.
//!
//! Each element that passes is the dot product of a row of `dy` and an input's weights. Some vectors
//! of a row stay in registers while the weights of all inputs that pass are taken; lanes are added up
//! at the end.

use super::beside::{Ahead, Beside};
use super::input_gradient::{Product, Share};
use super::isa::Kernel;
use super::panels::PANEL;
use super::sparse::{density, on_line, LINE, SPARSE_DENSITY};
use super::sparse_input_gradient::finish;
use super::vector::{load, Vector};
use std::cell::RefCell;
use std::ops::Range;

/// Vectors of `dy` that stay in registers. With 16, where there are as many, the weights of a visit
/// do not fit into a first cache, and it took longer on Zen 4.
const HELD: usize = 8;

/// Rows whose sums are kept between visits.
const GROUP: usize = 64;

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
    /// A vector of sums for every element of a group that passes. It grows once and stays.
    static SUMS: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// Computes a share by dot products.
///
/// # Safety
/// As the share's own kernel; [`pays`] said so.
#[inline(always)]
pub(super) unsafe fn run<V: Vector>(share: &Share<'_>) {
    let mut room = SUMS.take();
    room.resize(GROUP * PANEL * V::LANES + LINE, 0.0);
    let sums = on_line(room.as_mut_ptr());
    let chunks = share.product.layout.outputs / (HELD * V::LANES);
    for block in share.blocks.clone() {
        let mut ahead = ahead(share, block + 1).over(share.rows.len() * chunks);
        for first in share.rows.clone().step_by(GROUP) {
            let rows = first..(first + GROUP).min(share.rows.end);
            // SAFETY: the group lies inside the share, and there is room for all its sums.
            unsafe { group::<V>(share, block, rows, sums, &mut ahead) };
        }
    }
    SUMS.set(room);
}

/// What the next block of inputs needs: its mask and its weights.
fn ahead(share: &Share<'_>, block: usize) -> Ahead {
    let mut ahead = Ahead::nothing();
    if block < share.blocks.end {
        let end = (block * PANEL + PANEL).min(share.product.layout.inputs);
        let inputs = block * PANEL..end;
        ahead.add(share.product.mask_at(&share.rows, &inputs));
        ahead.add(share.product.weights_of(&inputs));
    }
    ahead
}

/// One block of 32 inputs of at most [`GROUP`] rows.
///
/// # Safety
/// The block and the rows lie inside the share; `sums` has room for a vector per element.
#[inline(always)]
unsafe fn group<V: Vector>(
    share: &Share<'_>,
    block: usize,
    rows: Range<usize>,
    sums: *mut f32,
    ahead: &mut Ahead,
) {
    let Product { layout, mask, dx_stride, .. } = share.product;
    let Some(mask) = mask else { return };
    let inputs = block * PANEL..(block * PANEL + PANEL).min(layout.inputs);
    let mut passing = [0u32; GROUP];
    // SAFETY: the caller's.
    unsafe {
        for (row, passing) in rows.clone().zip(&mut passing) {
            let y = mask.y.as_ptr().add(row * dx_stride + inputs.start);
            *passing = passing_bits::<V>(y, inputs.len());
        }
        for chunk in 0..layout.outputs / (HELD * V::LANES) {
            let visit = Visit {
                product: share.product,
                rows: rows.clone(),
                passing: &passing,
                input: inputs.start,
                chunk,
                sums,
                ahead: &mut *ahead,
            };
            V::enter(visit);
        }
        let count: u32 = passing.iter().map(|bits| bits.count_ones()).sum();
        add_lanes::<V>(sums, count as usize);
        // What does not pass is masked out again when the tile is stored.
        let mut tile = [0.0; GROUP * PANEL];
        let mut next = sums.cast_const();
        for (row, mut bits) in passing.into_iter().enumerate() {
            while bits != 0 {
                tile[row * PANEL + bits.trailing_zeros() as usize] = *next;
                next = next.add(1);
                bits &= bits - 1;
            }
        }
        finish::<V>(share, block, rows, tile.as_ptr());
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

/// Adds up the lanes of `count` vectors of sums; the totals, one after the other, replace the first
/// of the vectors.
///
/// # Safety
/// `sums` is valid for `count` vectors, rounded up to a multiple of their lanes.
#[inline(always)]
unsafe fn add_lanes<V: Vector>(sums: *mut f32, count: usize) {
    let mut turned = [0.0f32; 16 * 16];
    for first in (0..count).step_by(V::LANES) {
        // SAFETY: the caller's; totals are written where vectors have been read.
        unsafe {
            for row in (0..V::LANES).step_by(8) {
                for column in (0..V::LANES).step_by(8) {
                    let from = sums.add((first + row) * V::LANES + column);
                    let to = turned.as_mut_ptr().add(column * V::LANES + row);
                    V::transpose_8x8(from, V::LANES, to, V::LANES);
                }
            }
            let mut totals = V::load(turned.as_ptr());
            for lane in 1..V::LANES {
                totals = totals.add(V::load(turned.as_ptr().add(lane * V::LANES)));
            }
            totals.store(sums.add(first));
        }
    }
}

/// The part of a group's dot products over the outputs of one chunk.
struct Visit<'a> {
    product: Product<'a>,
    rows: Range<usize>,
    passing: &'a [u32; GROUP],
    /// The first of the block's inputs.
    input: usize,
    chunk: usize,
    sums: *mut f32,
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
        let mut sums = self.sums;
        // SAFETY: the caller's: rows, inputs and outputs lie inside the product, and there is a
        // vector of sums for each bit.
        unsafe {
            for (row, &bits) in self.rows.zip(self.passing) {
                self.ahead.visit::<V>();
                let from = dy.add(row * dy_stride + first_output);
                let held: [V; HELD] =
                    std::array::from_fn(|vector| V::load(from.add(vector * V::LANES)));
                let mut bits = bits;
                while bits != 0 {
                    let weight = weight.add(bits.trailing_zeros() as usize * PANEL);
                    let mut sum = if self.chunk > 0 { V::load(sums) } else { V::splat(0.0) };
                    for vector in 0..HELD {
                        let output = vector * V::LANES;
                        let at = output / PANEL * panel_length + output % PANEL;
                        sum = held[vector].mul_add(V::load(weight.add(at)), sum);
                    }
                    sum.store(sums);
                    sums = sums.add(V::LANES);
                    bits &= bits - 1;
                }
            }
        }
    }
}
