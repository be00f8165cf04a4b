// SPDX-License-Identifier: MIT OR Apache-2.0
//! Products of transformed images and gradients, and the taps that they become.

use super::super::direct::with_rows;
use super::base::{Kernel, Vector};
use super::products::{add_chain, Factors};
use super::transforms::{both, PointsToFilter, POINTS, TAPS};

/// One of the products, of some inputs and a panel.
pub(super) struct Multiply {
    pub(super) factors: Factors,
    pub(super) to: *mut f32,
    pub(super) is_first: bool,
}

impl Multiply {
    /// # Safety
    /// The factors are valid for so many rows, `to` for their products.
    #[inline(always)]
    pub(super) unsafe fn run<V: Vector>(&self, rows: usize) {
        let width = self.factors.right_step;
        let mut column = 0;
        while column < width {
            // SAFETY: the caller's.
            unsafe {
                if V::LANES == width - column {
                    with_rows!(V, rows, |R| V::enter(Tile::<R, 1> { multiply: self, column }));
                } else {
                    with_rows!(V, rows, |R| V::enter(Tile::<R, 2> { multiply: self, column }));
                }
            }
            column += 2 * V::LANES;
        }
    }
}

/// One tile as a function of its own, so that its registers are allocated for it alone.
struct Tile<'a, const R: usize, const C: usize> {
    multiply: &'a Multiply,
    column: usize,
}

impl<const R: usize, const C: usize> Kernel for Tile<'_, R, C> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let Multiply { factors, to, is_first } = *self.multiply;
        let mut tile = [[V::splat(0.0); C]; R];
        let right = factors.right.wrapping_add(self.column);
        // SAFETY: the caller's.
        unsafe {
            add_chain(&mut tile, &Factors { right, ..factors });
            for row in 0..R {
                for vector in 0..C {
                    let at = row * factors.right_step + self.column + vector * V::LANES;
                    let to = to.add(at);
                    let sum = match is_first {
                        true => tile[row][vector],
                        false => V::load(to).add(tile[row][vector]),
                    };
                    sum.store(to);
                }
            }
        }
    }
}

/// The taps of a panel's filters from its products.
pub(super) struct Taps {
    pub(super) inputs: usize,
    pub(super) width: usize,
    pub(super) products: *const f32,
    /// `[tap][input][output]`
    pub(super) to: *mut f32,
}

impl Kernel for Taps {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let Taps { inputs, width, products, to } = self;
        for input in 0..inputs {
            for at in (0..width).step_by(V::LANES) {
                let product = |row: usize, column: usize| {
                    let row = (row * POINTS + column) * inputs + input;
                    // SAFETY: the caller's.
                    unsafe { V::load(products.wrapping_add(row * width + at)) }
                };
                both::<V, PointsToFilter, POINTS, TAPS>(product, |row, column, value| {
                    let tap = (row * TAPS + column) * inputs + input;
                    // SAFETY: the caller's.
                    unsafe { value.store(to.wrapping_add(tap * width + at)) };
                });
            }
        }
    }
}
