// SPDX-License-Identifier: MIT OR Apache-2.0
//! Listed values times the rows of a table.

use super::base::{Kernel, Vector};
use super::beside::Beside;
use super::lists::{Lists, GROUP, STEPS, WORD};
use super::panels::PANEL;
use super::tile::CHAIN;
use std::ops::Range;

/// Sums of two panels of [`GROUP`] rows, on cache lines of their own.
#[repr(align(64))]
pub(super) struct Sums([[f32; GROUP * PANEL]; 2]);

impl Sums {
    pub(super) fn new() -> Self {
        Sums([[0.0; GROUP * PANEL]; 2])
    }

    /// The two panels.
    pub(super) fn panels(&mut self) -> [*mut f32; 2] {
        let [one, two] = &mut self.0;
        [one.as_mut_ptr(), two.as_mut_ptr()]
    }
}

/// The factors that a list's values are multiplied by: a row of columns for every step.
///
/// One panel, `[steps][width]`, or two of them, whose rows are side by side in the product.
#[derive(Clone, Copy)]
pub(super) struct Table {
    pub(super) panels: [*const f32; 2],
    pub(super) columns: Columns,
}

/// How many columns a table has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Columns {
    /// One panel of 16.
    Half,
    /// One panel of 32.
    One,
    /// Two panels of 32.
    Two,
}

impl Columns {
    /// Those of a panel of this width, and of a second panel if there is one as wide.
    pub(super) fn new(width: usize, second: Option<usize>) -> Self {
        match (width, second) {
            (PANEL, Some(PANEL)) => Columns::Two,
            (PANEL, _) => Columns::One,
            _ => Columns::Half,
        }
    }

    /// Columns of each panel.
    fn width(self) -> usize {
        match self {
            Columns::Half => PANEL / 2,
            Columns::One | Columns::Two => PANEL,
        }
    }

    /// Panels of the table.
    pub(super) fn panels(self) -> usize {
        match self {
            Columns::Half | Columns::One => 1,
            Columns::Two => 2,
        }
    }
}

/// What the products are added to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Before {
    /// Nothing: whatever the sums hold is overwritten.
    Zero,
    /// What the sums hold.
    Sums,
}

/// Adds the products of some listed rows with a table to their sums, block of steps by block.
///
/// `sums` are one or two panels, `[rows][width]`.
///
/// # Safety
/// The lists hold the rows, the table all their steps, and `sums` the rows' sums; `beside` may be
/// visited.
#[inline(always)]
pub(super) unsafe fn add_products<V: Vector, B: Beside>(
    lists: &Lists,
    rows: Range<usize>,
    table: Table,
    before: Before,
    sums: [*mut f32; 2],
    beside: &mut B,
) {
    let sizes = [0, 1].map(|index| if index < table.columns.panels() { rows.len() } else { 0 });
    let sizes = sizes.map(|rows| rows * table.columns.width());
    for block in 0..lists.blocks {
        let is_new = block > 0 && block.is_multiple_of(CHAIN / STEPS);
        let before = match block {
            0 => before,
            _ if is_new => Before::Zero,
            _ => Before::Sums,
        };
        if is_new {
            // SAFETY: the caller's: the sums of `sizes` elements each.
            unsafe { lists.set_aside::<V>(sums, sizes, block == CHAIN / STEPS) };
        }
        let rows = (rows.start, rows.end);
        let visit = Visit { lists, rows, block, table, before, sums, beside: &mut *beside };
        // SAFETY: the caller's. Guards that are constant for `V` choose one kernel each.
        unsafe {
            match (table.columns, V::LANES) {
                (Columns::Two, 16) => V::enter(Sized::<_, 4, PANEL>(visit)),
                (Columns::Two, _) => V::enter(Sized::<_, 8, PANEL>(visit)),
                (Columns::One, 16) => V::enter(Sized::<_, 2, PANEL>(visit)),
                (Columns::One, _) => V::enter(Sized::<_, 4, PANEL>(visit)),
                (Columns::Half, 16) => V::enter(Sized::<_, 1, 16>(visit)),
                (Columns::Half, _) => V::enter(Sized::<_, 2, 16>(visit)),
            }
        }
    }
    if lists.blocks > CHAIN / STEPS {
        // SAFETY: as above; earlier chains were set aside.
        unsafe { lists.take_back::<V>(sums, sizes) };
    }
}

/// One block of steps of some rows.
struct Visit<'a, B> {
    lists: &'a Lists,
    rows: (usize, usize),
    block: usize,
    table: Table,
    before: Before,
    sums: [*mut f32; 2],
    beside: &'a mut B,
}

/// A visit of `C` vectors of columns in panels of width `W`.
struct Sized<'a, B, const C: usize, const W: usize>(Visit<'a, B>);

impl<B: Beside, const C: usize, const W: usize> Kernel for Sized<'_, B, C, W> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let Visit { lists, rows, block, table, before, sums, beside } = self.0;
        let per_panel = W / V::LANES;
        let panels = table.panels.map(|panel| panel.wrapping_add(block * STEPS * W));
        // SAFETY: the caller's: lists, table and sums hold these rows and their steps.
        unsafe {
            let first = rows.0 * lists.blocks + block;
            let mut bits = lists.bits.as_ptr().add(first);
            let mut starts = lists.starts.as_ptr().add(first);
            for row in 0..rows.1 - rows.0 {
                let places = std::array::from_fn::<_, C, _>(|vector| {
                    let (panel, vector) = (vector / per_panel, vector % per_panel);
                    sums[panel].wrapping_add(row * W + vector * V::LANES)
                });
                beside.visit::<V>();
                let mut tile = [V::splat(0.0); C];
                if before == Before::Sums {
                    for vector in 0..C {
                        tile[vector] = V::load(places[vector]);
                    }
                }
                let mut values = lists.values.as_ptr().add(*starts as usize);
                for (word, bits) in (*bits).into_iter().enumerate() {
                    let panels = panels.map(|panel| panel.wrapping_add(word * WORD * W));
                    values = add_word::<V, C, W>(&mut tile, bits, values, panels);
                }
                for vector in 0..C {
                    tile[vector].store(places[vector]);
                }
                (bits, starts) = (bits.add(lists.blocks), starts.add(lists.blocks));
            }
        }
    }
}

/// Adds the products of the values of one word, and returns where those of the next one start.
///
/// # Safety
/// There is a value for each bit, and the panels hold the word's steps.
#[inline(always)]
unsafe fn add_word<V: Vector, const C: usize, const W: usize>(
    tile: &mut [V; C],
    mut bits: u64,
    mut values: *const f32,
    panels: [*const f32; 2],
) -> *const f32 {
    let mut left = bits.count_ones();
    // SAFETY: the caller's.
    unsafe {
        // Loads are what limits this loop: four values come at once, and steps from registers.
        while left >= 4 {
            let quad = V::load_quad(values);
            add_product::<V, C, W>(tile, quad.quad_lane::<0>(), panels, next(&mut bits));
            add_product::<V, C, W>(tile, quad.quad_lane::<1>(), panels, next(&mut bits));
            add_product::<V, C, W>(tile, quad.quad_lane::<2>(), panels, next(&mut bits));
            add_product::<V, C, W>(tile, quad.quad_lane::<3>(), panels, next(&mut bits));
            (values, left) = (values.add(4), left - 4);
        }
        while bits != 0 {
            add_product::<V, C, W>(tile, V::splat(*values), panels, next(&mut bits));
            values = values.add(1);
        }
    }
    values
}

/// Takes the lowest bit away, and returns its number.
#[inline(always)]
fn next(bits: &mut u64) -> usize {
    let step = bits.trailing_zeros() as usize;
    *bits &= bits.wrapping_sub(1);
    step
}

/// Adds a value times a table's row to the sums of a row.
///
/// # Safety
/// The row of either panel is valid for reading.
#[inline(always)]
unsafe fn add_product<V: Vector, const C: usize, const W: usize>(
    tile: &mut [V; C],
    value: V,
    panels: [*const f32; 2],
    step: usize,
) {
    let per_panel = W / V::LANES;
    for vector in 0..C {
        // SAFETY: the caller's.
        unsafe {
            let row = panels[vector / per_panel].add(step * W);
            tile[vector] =
                value.mul_add(V::load(row.add(vector % per_panel * V::LANES)), tile[vector]);
        }
    }
}
