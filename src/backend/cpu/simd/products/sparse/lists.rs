// SPDX-License-Identifier: MIT OR Apache-2.0
//! Lists of the values that are not zero.

use super::base::{for_each_vector, load, Vector, LINE};
use super::panels::PANEL;
use super::tile::CHAIN;
use std::cell::{Cell, RefCell};

/// Steps of the reduction per visit of a table. 128 steps of two panels are 32 KiB: more than stays in
/// a first cache beside sums and lists, but a second cache delivers them fast enough. Measured on
/// Zen 4, whole training steps took up to 3 % longer with 64 and 5 % with 256.
pub(super) const STEPS: usize = 128;

/// Steps of one word of bits.
pub(super) const WORD: usize = u64::BITS as usize;

/// Words of bits of a block.
pub(super) const WORDS: usize = STEPS / WORD;

const _: () = assert!(STEPS == WORDS * WORD && CHAIN.is_multiple_of(STEPS));

/// Rows whose sums are kept between visits: 64 rows of two panels are 16 KiB.
pub(super) const GROUP: usize = 64;

/// The non-zero values of some rows, in order, cut into blocks of [`STEPS`] steps.
#[derive(Debug, Default)]
pub(super) struct Lists {
    pub(super) values: Vec<f32>,
    /// Which steps they are of. At `r * blocks + b` for block `b` of row `r`, as in `starts`.
    pub(super) bits: Vec<[u64; WORDS]>,
    /// Where a block's values start.
    pub(super) starts: Vec<u32>,
    /// Blocks of a row.
    pub(super) blocks: usize,
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
    pub(super) unsafe fn set_aside<V: Vector>(
        &self,
        sums: [*mut f32; 2],
        sizes: [usize; 2],
        is_first: bool,
    ) {
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
    pub(super) unsafe fn take_back<V: Vector>(&self, sums: [*mut f32; 2], sizes: [usize; 2]) {
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
