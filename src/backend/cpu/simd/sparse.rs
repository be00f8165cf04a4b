// SPDX-License-Identifier: MIT OR Apache-2.0
//! Products with a factor that is mostly zeros, as ReLU and dropout leave it.
//!
//! The non-zero values of a row are listed once and only they are multiplied. Each output element
//! is the same chains of fused additions in the order of the reduction as in the dense kernels, so
//! skipping a zero changes no bit of a sum of finite terms (but for the sign of a sum that is zero).
//! A zero also ignores an infinite or NaN partner, for which a dense kernel returns NaN.

use super::beside::Beside;
use super::isa::Kernel;
use super::panels::PANEL;
use super::tile::{CHAIN, MAX_TILE_ROWS};
use super::vector::{for_each_vector, load, Vector};
use std::cell::{Cell, RefCell};
use std::ops::Range;

/// Steps of the reduction per visit of a table. 128 steps of two panels are 32 KiB: more than stays in
/// a first cache beside sums and lists, but a second cache delivers them fast enough. Measured on
/// Zen 4, whole training steps took up to 3 % longer with 64 and 5 % with 256.
pub(super) const STEPS: usize = 128;

/// Steps of one word of bits.
const WORD: usize = u64::BITS as usize;

/// Words of bits of a block.
const WORDS: usize = STEPS / WORD;

const _: () = assert!(STEPS == WORDS * WORD && CHAIN.is_multiple_of(STEPS));

/// Rows whose sums are kept between visits: 64 rows of two panels are 16 KiB.
pub(super) const GROUP: usize = 64;

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

/// Moves a pointer to the next cache line, at most [`LINE`] - 1 elements on: a vector that
/// straddles two lines takes as long to load as two.
pub(super) fn on_line(pointer: *mut f32) -> *mut f32 {
    pointer.wrapping_add(pointer.align_offset(4 * LINE))
}

/// Elements of a cache line of 64 bytes, and of the widest vector. No machine's lines are shorter:
/// memory that is walked in such steps misses none.
pub(super) const LINE: usize = 16;

/// Columns below which too few sums run side by side for skipping to pay.
const MIN_COLUMNS: usize = 2 * PANEL;

/// Steps below which lists are too short to pay.
const MIN_STEPS: usize = 32;

/// Fraction of non-zero values below which skipping the others is faster than multiplying all.
pub(super) const SPARSE_DENSITY: f32 = 0.5;

/// Rows looked at to tell how many values are zero.
const SAMPLED_ROWS: usize = 8;

/// Elements whose lists may be held at a time: 32 MiB of them if nothing is zero.
const MAX_LISTED: usize = 4 << 20;

/// Whether a matrix of these extents is worth a list at all.
pub(super) fn may_be_sparse<V: Vector>(rows: usize, steps: usize, columns: usize) -> bool {
    V::HAS_COMPRESS
        && steps >= MIN_STEPS
        && columns >= MIN_COLUMNS
        && rows.saturating_mul(steps) <= MAX_LISTED
}

/// Whether to skip the zeros of a factor of `[rows, steps]` in a product with so many columns.
///
/// All shares of a product ask about the same rows, so the answer does not depend on their number.
///
/// # Safety
/// `from` is valid for `rows` rows of `steps` values, `stride` apart.
#[inline(always)]
pub(super) unsafe fn is_sparse<V: Vector>(
    from: *const f32,
    stride: usize,
    [rows, steps]: [usize; 2],
    columns: usize,
) -> bool {
    // SAFETY: the caller's.
    rows >= MAX_TILE_ROWS
        && may_be_sparse::<V>(1, steps, columns)
        && unsafe { density::<V>(from, stride, rows, steps) } < SPARSE_DENSITY
}

/// The fraction of non-zero values in a matrix, from a few rows spread over it.
///
/// # Safety
/// `from` is valid for `rows` rows of `columns` values, `stride` apart.
#[inline(always)]
pub(super) unsafe fn density<V: Vector>(
    from: *const f32,
    stride: usize,
    rows: usize,
    columns: usize,
) -> f32 {
    let sampled = rows.min(SAMPLED_ROWS);
    let mut count = 0;
    for index in 0..sampled {
        let row = from.wrapping_add((rows * index / sampled) * stride);
        for_each_vector!(V, columns, |at, lanes| {
            // SAFETY: the row is one of the caller's, and `lanes` stops at its end.
            count += unsafe { load::<V>(row.add(at), lanes) }.non_zero_bits().count_ones();
        });
    }
    count as f32 / (sampled * columns).max(1) as f32
}

/// The non-zero values of some rows, in order, cut into blocks of [`STEPS`] steps.
#[derive(Debug, Default)]
pub(super) struct Lists {
    values: Vec<f32>,
    /// Which steps they are of. At `r * blocks + b` for block `b` of row `r`, as in `starts`.
    bits: Vec<[u64; WORDS]>,
    /// Where a block's values start.
    starts: Vec<u32>,
    /// Blocks of a row.
    blocks: usize,
    /// How many values are listed.
    count: usize,
    /// Columns turned into rows, while column lists are built.
    turned: Vec<f32>,
    /// The sums of earlier chains of [`GROUP`] rows of two panels, where sums are that long.
    earlier: Vec<Cell<f32>>,
}

thread_local! {
    /// Grows to the largest operand and stays.
    static LISTS: RefCell<Lists> = RefCell::default();
}

impl Lists {
    /// This thread's buffers, to be given back by [`Lists::keep`].
    pub(super) fn take() -> Self {
        LISTS.take()
    }

    /// Keeps the buffers for this thread's next product.
    pub(super) fn keep(self) {
        LISTS.set(self);
    }

    /// How often a product with so many of the rows visits a row.
    pub(super) fn visits(&self, rows: usize) -> usize {
        rows * self.blocks
    }

    /// Forgets all rows and makes room for `rows` rows of `steps` values.
    pub(super) fn clear(&mut self, rows: usize, steps: usize) {
        // Whole vectors are stored, past the end of the last list.
        let room = rows * steps + PANEL;
        if self.values.len() < room {
            self.values.resize(room, 0.0);
        }
        if steps > CHAIN && self.earlier.is_empty() {
            self.earlier.resize(GROUP * 2 * PANEL, Cell::new(0.0));
        }
        self.blocks = steps.div_ceil(STEPS);
        self.count = 0;
        self.bits.clear();
        self.bits.reserve(rows * self.blocks);
        self.starts.clear();
        self.starts.reserve(rows * self.blocks);
    }

    /// Lists rows of `steps` values, `stride` apart.
    ///
    /// # Safety
    /// `from` is valid for the rows, for which [`Lists::clear`] made room.
    #[inline(always)]
    pub(super) unsafe fn add_rows<V: Vector>(
        &mut self,
        from: *const f32,
        stride: usize,
        rows: usize,
        steps: usize,
    ) {
        debug_assert!(self.count + rows * steps + V::LANES <= self.values.len());
        let mut count = self.count;
        let values = self.values.as_mut_ptr();
        for row in 0..rows {
            let from = from.wrapping_add(row * stride);
            for block in (0..steps).step_by(STEPS) {
                self.starts.push(count as u32);
                let mut words = [0; WORDS];
                for (index, word) in words.iter_mut().enumerate() {
                    let first = block + index * WORD;
                    for_each_vector!(V, WORD.min(steps.saturating_sub(first)), |at, lanes| {
                        // SAFETY: the caller's row; there are never more non-zeros than values,
                        // and room for a vector beyond them.
                        unsafe {
                            let vector = load::<V>(from.add(first + at), lanes);
                            let bits = vector.non_zero_bits();
                            // In a register: compressing on the way to memory is slow microcode on Zen 4.
                            vector.compress(bits).store(values.add(count));
                            *word |= u64::from(bits) << at;
                            count += bits.count_ones() as usize;
                        }
                    });
                }
                self.bits.push(words);
            }
        }
        self.count = count;
    }

    /// Lists `columns` columns of `steps` values, rows of the matrix `stride` apart.
    ///
    /// # Safety
    /// `from` is valid for the columns, for which [`Lists::clear`] made room.
    #[inline(always)]
    pub(super) unsafe fn add_columns<V: Vector>(
        &mut self,
        from: *const f32,
        stride: usize,
        columns: usize,
        steps: usize,
    ) {
        let mut turned = std::mem::take(&mut self.turned);
        if turned.len() < LINE * steps {
            turned.resize(LINE * steps, 0.0);
        }
        let whole_steps = steps / 8 * 8;
        // Whole lines: rows are often a power of two apart, and push each other out of a first cache.
        for column in (0..columns).step_by(LINE) {
            let here = (columns - column).min(LINE);
            let whole = here / 8 * 8;
            // SAFETY: the caller's columns; `turned` holds a line of columns of all steps.
            unsafe {
                let (from, to) = (from.add(column), turned.as_mut_ptr());
                for step in (0..whole_steps).step_by(8) {
                    for index in (0..whole).step_by(8) {
                        let from = from.add(step * stride + index);
                        V::transpose_8x8(from, stride, to.add(index * steps + step), steps);
                    }
                }
                for step in 0..steps {
                    let first = if step < whole_steps { whole } else { 0 };
                    for index in first..here {
                        *to.add(index * steps + step) = *from.add(step * stride + index);
                    }
                }
                self.add_rows::<V>(to, steps, here, steps);
            }
        }
        self.turned = turned;
    }
}

impl Lists {
    /// Adds the sums of a chain to those of earlier ones, or takes them as the first.
    ///
    /// # Safety
    /// `sums` are valid for reading these sizes, together at most [`GROUP`] rows of two panels and
    /// multiples of a vector's lanes.
    #[inline(always)]
    unsafe fn set_aside<V: Vector>(&self, sums: [*mut f32; 2], sizes: [usize; 2], is_first: bool) {
        // SAFETY: the caller's; `earlier` holds as much and may be written, since it is cells.
        unsafe {
            self.each_vector::<V>(sums, sizes, |sums, earlier| {
                let sum = V::load(sums);
                let sum = if is_first { sum } else { V::load(earlier).add(sum) };
                sum.store(earlier);
            });
        }
    }

    /// Adds the sums of earlier chains to those of the last one.
    ///
    /// # Safety
    /// As [`Lists::set_aside`], which was called for the same sums.
    #[inline(always)]
    unsafe fn take_back<V: Vector>(&self, sums: [*mut f32; 2], sizes: [usize; 2]) {
        // SAFETY: the caller's.
        unsafe {
            self.each_vector::<V>(sums, sizes, |sums, earlier| {
                V::load(earlier).add(V::load(sums)).store(sums);
            });
        }
    }

    /// Calls `each(sums, earlier)` for all vectors of both panels.
    ///
    /// # Safety
    /// As [`Lists::set_aside`].
    #[inline(always)]
    unsafe fn each_vector<V: Vector>(
        &self,
        sums: [*mut f32; 2],
        sizes: [usize; 2],
        each: impl Fn(*mut f32, *mut f32),
    ) {
        debug_assert!(sizes[0] + sizes[1] <= self.earlier.len());
        let mut earlier = self.earlier.as_ptr().cast::<f32>().cast_mut();
        for (sums, size) in sums.into_iter().zip(sizes) {
            for at in (0..size).step_by(V::LANES) {
                each(sums.wrapping_add(at), earlier.wrapping_add(at));
            }
            earlier = earlier.wrapping_add(size);
        }
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
