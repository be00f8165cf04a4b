// SPDX-License-Identifier: MIT OR Apache-2.0
//! The register tile that all three matrix products share.

use super::base::{Kernel, Vector};
use super::choice::{self, TALLEST_TILE};
use super::panels::PANEL;
use std::cell::RefCell;
use std::mem::MaybeUninit;
use std::ops::Range;

/// Steps of the reduction between prefetches of a panel row and its use.
const PREFETCH_STEPS: usize = 8;

/// Terms that are added up in one chain. The error of a chain grows with the root of its length, so
/// longer sums are sums of chains, in order; sparse products cut theirs at the same terms.
pub(crate) const CHAIN: usize = 1024;

/// The factors of a tile: `sum over s of left(row, s) * right(s, column)`.
#[derive(Clone, Copy)]
pub(crate) struct Factors {
    /// Terms of the sum.
    pub(crate) steps: usize,
    /// `left(row, s)` is at `row + s * left_step`: rows lie next to one another, since a pointer
    /// per row would not fit in the registers.
    pub(crate) left: *const f32,
    pub(crate) left_step: usize,
    /// `right(s, column)` is at `s * right_step + column`.
    pub(crate) right: *const f32,
    pub(crate) right_step: usize,
    /// What is needed after this tile: one cache line of it is prefetched every four steps.
    pub(crate) ahead: *const f32,
    /// Distance between prefetched lines; 0 for no prefetch.
    pub(crate) ahead_step: usize,
}

/// Adds the products to a tile of `R` rows of `C` vectors, chain by chain.
///
/// # Safety
/// The factors are valid for reading `R` rows, `C` vectors of columns and all steps.
#[inline(always)]
pub(crate) unsafe fn accumulate<V: Vector, const R: usize, const C: usize>(
    tile: &mut [[V; C]; R],
    factors: &Factors,
) {
    let mut earlier = MaybeUninit::<[f32; TALLEST_TILE * PANEL]>::uninit();
    // Out of the compiler's sight, so that it stays in memory: the registers are for one chain.
    let earlier = std::hint::black_box(earlier.as_mut_ptr().cast::<f32>());
    let mut done = 0;
    loop {
        let steps = (factors.steps - done).min(CHAIN);
        let chain = Factors {
            steps,
            left: factors.left.wrapping_add(done * factors.left_step),
            right: factors.right.wrapping_add(done * factors.right_step),
            ahead: factors.ahead.wrapping_add(done / 4 * factors.ahead_step),
            ..*factors
        };
        // SAFETY: the caller's; a tile is no larger than `earlier`, which is written before it is read.
        unsafe {
            add_chain(tile, &chain);
            let is_first = done == 0;
            done += steps;
            let is_last = done == factors.steps;
            if is_first && is_last {
                break;
            }
            for row in 0..R {
                for vector in 0..C {
                    let earlier = earlier.add((row * C + vector) * V::LANES);
                    if !is_first {
                        tile[row][vector] = V::load(earlier).add(tile[row][vector]);
                    }
                    if !is_last {
                        tile[row][vector].store(earlier);
                        tile[row][vector] = V::splat(0.0);
                    }
                }
            }
            if is_last {
                break;
            }
        }
    }
}

/// Adds the products of at most [`CHAIN`] steps, one after the other.
///
/// # Safety
/// As [`accumulate`].
#[inline(always)]
pub(crate) unsafe fn add_chain<V: Vector, const R: usize, const C: usize>(
    tile: &mut [[V; C]; R],
    factors: &Factors,
) {
    let mut left = factors.left;
    let mut right = factors.right;
    let mut ahead = factors.ahead;
    // SAFETY: the caller's, for each of the steps; prefetches may touch any address.
    unsafe {
        for _ in 0..factors.steps / 4 {
            if factors.ahead_step != 0 {
                V::prefetch_later(ahead);
                ahead = ahead.wrapping_add(factors.ahead_step);
            }
            for _ in 0..4 {
                step(tile, factors, &mut left, &mut right);
            }
        }
        for _ in 0..factors.steps % 4 {
            step(tile, factors, &mut left, &mut right);
        }
    }
}

/// One term of the sum; moves on to the next.
///
/// # Safety
/// As [`add_chain`], for the step that `left` and `right` point to.
#[inline(always)]
unsafe fn step<V: Vector, const R: usize, const C: usize>(
    tile: &mut [[V; C]; R],
    factors: &Factors,
    left: &mut *const f32,
    right: &mut *const f32,
) {
    // SAFETY: the caller's.
    unsafe {
        let mut columns = [V::splat(0.0); C];
        for vector in 0..C {
            columns[vector] = V::load(right.add(vector * V::LANES));
        }
        V::prefetch(right.wrapping_add(PREFETCH_STEPS * factors.right_step));
        for row in 0..R {
            let value = V::splat(*left.add(row));
            for vector in 0..C {
                tile[row][vector] = value.mul_add(columns[vector], tile[row][vector]);
            }
        }
    }
    *left = left.wrapping_add(factors.left_step);
    *right = right.wrapping_add(factors.right_step);
}

/// Bytes of packed rows that are used again for every panel: half of a small second cache.
const PACKED_BYTES: usize = 512 << 10;

/// How many rows are packed at a time for a product of so many steps: whole tiles of any height.
pub(crate) fn rows_per_block(steps: usize) -> usize {
    const TILES: usize = 4 * TALLEST_TILE;
    (PACKED_BYTES / (4 * steps.max(1)) / TILES).max(1) * TILES
}

thread_local! {
    static PACKED: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// Calls `each(rows, packed)` for some rows of `steps` values, `stride` apart, a block at a time; packed
/// as by [`pack_rows`] in this thread's buffer, which grows once and stays.
///
/// # Safety
/// `from` is valid for all rows up to the last of these.
#[inline(always)]
pub(crate) unsafe fn for_each_packed<V: Vector>(
    from: *const f32,
    stride: usize,
    rows: Range<usize>,
    steps: usize,
    each: impl Fn(Range<usize>, *const f32),
) {
    let block = rows_per_block(steps).min(rows.len().max(1));
    PACKED.with_borrow_mut(|packed| {
        if packed.len() < block * steps {
            packed.resize(block * steps, 0.0);
        }
        let packed = packed.as_mut_ptr();
        for start in rows.clone().step_by(block) {
            let rows = start..(start + block).min(rows.end);
            // SAFETY: the caller's, and the buffer was just made long enough.
            unsafe { pack_rows::<V>(from.add(start * stride), stride, rows.len(), steps, packed) };
            each(rows, packed);
        }
    });
}

/// Copies rows of `steps` values, `stride` apart, so that the rows of each tile lie next to one
/// another for every step. The tile that starts at row `r` begins at `r * steps`.
///
/// # Safety
/// `from` is valid for `rows` rows, `to` for `rows * steps` values.
#[inline(always)]
unsafe fn pack_rows<V: Vector>(
    from: *const f32,
    stride: usize,
    rows: usize,
    steps: usize,
    to: *mut f32,
) {
    let mut row = 0;
    while row < rows {
        let tile = next_tile_rows::<V>(rows - row);
        // SAFETY: the caller's; the tile's rows are among them.
        unsafe {
            let (from, to) = (from.add(row * stride), to.add(row * steps));
            let blocks = if tile >= 8 { steps / 8 * 8 } else { 0 };
            for step in (0..blocks).step_by(8) {
                // Twelve rows are two overlapping blocks of eight.
                for first in [0, tile.saturating_sub(8)] {
                    let from = from.add(first * stride + step);
                    V::transpose_8x8(from, stride, to.add(step * tile + first), tile);
                    if tile == 8 {
                        break;
                    }
                }
            }
            for step in blocks..steps {
                for index in 0..tile {
                    *to.add(step * tile + index) = *from.add(index * stride + step);
                }
            }
        }
        row += tile;
    }
}

/// A matrix product's way to compute one tile of `R` rows and `C` vectors of columns.
pub(crate) trait Tiled: Copy {
    /// # Safety
    /// The machine has `V`'s instruction set; `row` and `column` name a tile inside the product.
    unsafe fn tile<V: Vector, const R: usize, const C: usize>(self, row: usize, column: usize);
}

/// Computes the tiles of `rows` rows in one column group, as tall as the registers allow.
///
/// # Safety
/// As [`Tiled::tile`], for all of these rows and `width` columns from `column` on. `width` is 32
/// or 16.
#[inline(always)]
pub(crate) unsafe fn tile_rows<V: Vector, T: Tiled>(
    product: T,
    row: usize,
    rows: usize,
    column: usize,
    width: usize,
) {
    let mut offset = 0;
    while offset < width {
        // SAFETY: the caller's.
        unsafe {
            if V::LANES == width - offset {
                enter_rows::<V, T, 1>(product, row, rows, column + offset);
            } else {
                enter_rows::<V, T, 2>(product, row, rows, column + offset);
            }
        }
        offset += 2 * V::LANES;
    }
}

/// How many rows the next tile takes of `left` remaining ones.
#[inline(always)]
pub(crate) fn next_tile_rows<V: Vector>(left: usize) -> usize {
    choice::tile_rows(V::TILE_ROWS, left)
}

/// One tile as a function of its own, so that its registers are allocated for it alone.
struct Tile<T, const R: usize, const C: usize> {
    product: T,
    row: usize,
    column: usize,
}

impl<T: Tiled, const R: usize, const C: usize> Kernel for Tile<T, R, C> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        // SAFETY: the caller's.
        unsafe { self.product.tile::<V, R, C>(self.row, self.column) }
    }
}

/// # Safety
/// As [`tile_rows`]. `rows` came from [`next_tile_rows`].
#[inline(always)]
unsafe fn enter_rows<V: Vector, T: Tiled, const C: usize>(
    product: T,
    row: usize,
    rows: usize,
    column: usize,
) {
    // Guards that are constant for `V` keep tiles taller than its registers from being compiled.
    // SAFETY: the caller's.
    unsafe {
        match rows {
            12 if V::TILE_ROWS >= 12 => V::enter(Tile::<T, 12, C> { product, row, column }),
            8 if V::TILE_ROWS >= 8 => V::enter(Tile::<T, 8, C> { product, row, column }),
            6 if V::TILE_ROWS == 6 => V::enter(Tile::<T, 6, C> { product, row, column }),
            4 if V::TILE_ROWS >= 4 => V::enter(Tile::<T, 4, C> { product, row, column }),
            2 => V::enter(Tile::<T, 2, C> { product, row, column }),
            1 => V::enter(Tile::<T, 1, C> { product, row, column }),
            _ => unreachable!("no tile of {rows} rows"),
        }
    }
}
