// SPDX-License-Identifier: MIT OR Apache-2.0
//! Register tiles of pixels by channels.

use super::base::{Kernel, Vector};
use super::choice::TALLEST_TILE;
use super::products::{CHAIN, PANEL};
use super::tail::{ConvTail, Kept, Spot};
use std::mem::MaybeUninit;

/// Steps of the sum between the prefetch of weights and their use.
const PREFETCH_STEPS: usize = 8;

/// A packed row of the source and the weights that go with it.
#[derive(Clone, Copy)]
pub(super) struct RowTerm {
    pub(super) source: *const f32,
    pub(super) weights: *const f32,
}

/// Rows of the next of several tiles, all about as tall as each other.
#[inline(always)]
pub(crate) fn next_rows<V: Vector>(left: usize) -> usize {
    left.div_ceil(left.div_ceil(V::TILE_ROWS))
}

/// Calls a function with the rows of a tile as a constant. Guards that are constant for the vector
/// keep tiles taller than its registers from being compiled.
macro_rules! with_rows {
    ($vector:ty, $rows:expr, |$R:ident| $body:expr) => {
        with_rows!(@arms $vector, $rows, $R, $body, 1 2 3 4 5 6 7 8 9 10 11 12)
    };
    (@arms $vector:ty, $rows:expr, $R:ident, $body:expr, $($n:literal)+) => {
        match $rows {
            $($n if $n <= <$vector>::TILE_ROWS => {
                const $R: usize = $n;
                $body
            })+
            rows => unreachable!("no tile of {rows} rows"),
        }
    };
}
pub(crate) use with_rows;

/// The tiles of some rows of a panel, and what they share.
pub(super) struct Tiles<'a> {
    pub(super) tail: &'a ConvTail<'a>,
    pub(super) terms: &'a [RowTerm],
    pub(super) offsets: &'a [usize],
    /// The first of the packed targets.
    pub(super) from: usize,
    /// Columns of the panel.
    pub(super) width: usize,
    pub(super) kept: Option<&'a Kept>,
}

impl Tiles<'_> {
    /// # Safety
    /// The lists are of these rows, and the spot is theirs.
    #[inline(always)]
    pub(super) unsafe fn run<V: Vector>(&self, rows: usize, spot: &Spot) {
        let mut column = 0;
        while column < self.width {
            let spot = spot.beyond(column);
            // SAFETY: the caller's.
            unsafe {
                if V::LANES == self.width - column {
                    with_rows!(V, rows, |R| V::enter(Tile::<R, 1> { tiles: self, spot, column }));
                } else {
                    with_rows!(V, rows, |R| V::enter(Tile::<R, 2> { tiles: self, spot, column }));
                }
            }
            column += 2 * V::LANES;
        }
    }
}

/// One tile as a function of its own, so that its registers are allocated for it alone.
struct Tile<'a, const R: usize, const C: usize> {
    tiles: &'a Tiles<'a>,
    spot: Spot,
    column: usize,
}

impl<const R: usize, const C: usize> Kernel for Tile<'_, R, C> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let Tiles { tail, terms, offsets, from, width, kept } = *self.tiles;
        let mut earlier = MaybeUninit::<[f32; TALLEST_TILE * PANEL]>::uninit();
        // Out of the compiler's sight, so that it stays in memory: the registers are for one chain.
        let earlier = std::hint::black_box(earlier.as_mut_ptr().cast::<f32>());
        let (mut room, mut is_first) = (CHAIN, true);
        // SAFETY: the caller's: every offset lies in a packed row, weights follow one another; a tile is
        // no larger than `earlier`, which is written before it is read.
        unsafe {
            let mut tile = tail.start::<V, R, C>(&self.spot);
            for term in terms {
                let source = term.source.add(from);
                let mut weights = term.weights.add(self.column);
                let mut left = offsets;
                while !left.is_empty() {
                    if room == 0 {
                        if !is_first {
                            add_earlier(&mut tile, earlier);
                        }
                        for row in 0..R {
                            for vector in 0..C {
                                tile[row][vector].store(earlier.add((row * C + vector) * V::LANES));
                                tile[row][vector] = V::splat(0.0);
                            }
                        }
                        (room, is_first) = (CHAIN, false);
                    }
                    let (now, later) = left.split_at(left.len().min(room));
                    add(&mut tile, source, now, &mut weights, width);
                    room -= now.len();
                    left = later;
                }
            }
            if !is_first {
                add_earlier(&mut tile, earlier);
            }
            tail.finish(tile, &self.spot, self.column, kept);
        }
    }
}

/// Adds a tile that was stored.
///
/// # Safety
/// `earlier` holds a tile.
#[inline(always)]
unsafe fn add_earlier<V: Vector, const R: usize, const C: usize>(
    tile: &mut [[V; C]; R],
    earlier: *const f32,
) {
    for row in 0..R {
        for vector in 0..C {
            // SAFETY: the caller's.
            let earlier = unsafe { V::load(earlier.add((row * C + vector) * V::LANES)) };
            tile[row][vector] = earlier.add(tile[row][vector]);
        }
    }
}

/// Adds the products of some terms.
///
/// # Safety
/// `source` is valid for `R` values at each offset, `weights` for `C` vectors `width` apart for each.
#[inline(always)]
unsafe fn add<V: Vector, const R: usize, const C: usize>(
    tile: &mut [[V; C]; R],
    source: *const f32,
    offsets: &[usize],
    weights: &mut *const f32,
    width: usize,
) {
    for &offset in offsets {
        // SAFETY: the caller's; a prefetch may touch any address.
        unsafe {
            let mut columns = [V::splat(0.0); C];
            for vector in 0..C {
                columns[vector] = V::load(weights.add(vector * V::LANES));
            }
            V::prefetch(weights.wrapping_add(PREFETCH_STEPS * width));
            let source = source.add(offset);
            for row in 0..R {
                let value = V::splat(*source.add(row));
                for vector in 0..C {
                    tile[row][vector] = value.mul_add(columns[vector], tile[row][vector]);
                }
            }
        }
        *weights = weights.wrapping_add(width);
    }
}
