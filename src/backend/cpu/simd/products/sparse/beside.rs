// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is done beside a product with a sparse factor: memory is fetched and weights are updated
//! while the product waits for neither.

use super::super::tail::Tail;
use super::super::Stores;
use super::base::{Vector, LINE};

/// Regions that may be fetched at a time: parameters and two moments of two panels.
const REGIONS: usize = 6;

/// Work that is done in small parts, one whenever a product has done a row.
pub(crate) trait Beside {
    /// Does the next part.
    ///
    /// # Safety
    /// What the implementation asks for.
    unsafe fn visit<V: Vector>(&mut self);
}

/// Rows of memory, some distance apart.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Region {
    pub(crate) start: *const f32,
    pub(crate) rows: usize,
    /// Distance between rows.
    pub(crate) stride: usize,
    /// Elements of a row.
    pub(crate) len: usize,
}

impl Region {
    /// Elements next to one another.
    pub(crate) fn slice(start: *const f32, len: usize) -> Self {
        Region { start, rows: 1, stride: 0, len }
    }

    fn lines_of_row(&self) -> usize {
        self.len.div_ceil(LINE)
    }
}

/// Cache lines to ask for.
///
/// Asked for all at once, they would fill the queue of outstanding loads and stall the product.
#[derive(Debug)]
pub(crate) struct Ahead {
    /// The next line of the row at hand.
    line: *const f32,
    /// How many lines of it are left.
    left: usize,
    per_visit: usize,
    /// Where the next row is.
    region: usize,
    row: usize,
    regions: [Region; REGIONS],
    count: usize,
}

impl Ahead {
    pub(crate) fn nothing() -> Self {
        let line = std::ptr::null();
        let regions = [Region::slice(line, 0); REGIONS];
        Ahead { line, left: 0, per_visit: 0, region: 0, row: 0, regions, count: 0 }
    }

    /// Adds a region. An empty one is left out, and so is what exceeds [`REGIONS`].
    pub(crate) fn add(&mut self, region: Region) {
        if self.count < REGIONS && region.rows > 0 && region.len > 0 {
            self.regions[self.count] = region;
            self.count += 1;
        }
    }

    /// Spreads the fetches over so many visits.
    pub(crate) fn over(mut self, visits: usize) -> Self {
        let regions = &self.regions[..self.count];
        let lines: usize = regions.iter().map(|region| region.rows * region.lines_of_row()).sum();
        self.per_visit = lines.div_ceil(visits.max(1));
        self.start_row();
        self
    }

    #[inline(always)]
    fn fetch<V: Vector>(&mut self, lines: usize) {
        for line in 0..lines {
            V::prefetch_later(self.line.wrapping_add(line * LINE));
        }
        self.line = self.line.wrapping_add(lines * LINE);
        self.left -= lines;
    }

    /// Goes to the next row, if there is one.
    #[cold]
    fn start_row(&mut self) {
        if self.region == self.count {
            return;
        }
        let region = &self.regions[self.region];
        self.line = region.start.wrapping_add(self.row * region.stride);
        self.left = region.lines_of_row();
        self.row += 1;
        if self.row == region.rows {
            (self.region, self.row) = (self.region + 1, 0);
        }
    }
}

impl Beside for Ahead {
    /// Asks for the next lines; any of them may be asked for.
    #[inline(always)]
    unsafe fn visit<V: Vector>(&mut self) {
        if self.left > self.per_visit {
            self.fetch::<V>(self.per_visit);
        } else if self.left > 0 {
            self.fetch::<V>(self.left);
            self.start_row();
        }
    }
}

/// Gradients whose tail is run while the next ones are computed, to keep divisions and square roots
/// out of the way of the products, and memory in front of them.
#[derive(Debug)]
pub(crate) struct Pending<'a> {
    tail: &'a Tail,
    slices: [Slice; 2],
    count: usize,
    ahead: Ahead,
}

/// A gradient and where it belongs.
#[derive(Clone, Copy, Debug)]
struct Slice {
    offset: usize,
    start: *const f32,
    len: usize,
    stores: Stores,
}

/// Elements of a gradient that are handed to the tail at a time: a few vectors, which a processor
/// can look past to the next products.
const PART: usize = 64;

impl<'a> Pending<'a> {
    pub(crate) fn new(tail: &'a Tail) -> Self {
        let none = Slice { offset: 0, start: std::ptr::null(), len: 0, stores: Stores::Cached };
        Pending { tail, slices: [none; 2], count: 0, ahead: Ahead::nothing() }
    }

    /// Fetches the targets of gradients to come.
    pub(crate) fn fetch(&mut self, ahead: Ahead) {
        self.ahead = ahead;
    }

    /// Adds a gradient of `len` elements from `start` on, which belong at `offset` and are stored as
    /// is asked for. There are at most two at a time.
    ///
    /// # Safety
    /// They stay valid and unchanged until [`Pending::finish`]; no other thread uses their targets.
    pub(crate) unsafe fn add(
        &mut self,
        offset: usize,
        start: *const f32,
        len: usize,
        stores: Stores,
    ) {
        self.slices[self.count] = Slice { offset, start, len, stores };
        self.count += 1;
    }

    /// Hands all that is left to the tail. Ends with [`Vector::fence`].
    #[inline(always)]
    pub(crate) fn finish<V: Vector>(&mut self) {
        while self.count > 0 {
            self.part::<V>(usize::MAX);
        }
    }

    #[inline(always)]
    fn part<V: Vector>(&mut self, most: usize) {
        let Slice { offset, start, len, stores } = &mut self.slices[self.count - 1];
        let now = most.min(*len);
        // SAFETY: by `add`.
        unsafe {
            let gradient = std::slice::from_raw_parts(*start, now);
            self.tail.apply::<V>(*offset, gradient, *stores);
        }
        (*offset, *start, *len) = (*offset + now, start.wrapping_add(now), *len - now);
        if *len == 0 {
            self.count -= 1;
        }
    }
}

impl Beside for Pending<'_> {
    #[inline(always)]
    unsafe fn visit<V: Vector>(&mut self) {
        // SAFETY: any line may be asked for.
        unsafe { self.ahead.visit::<V>() };
        if self.count > 0 {
            self.part::<V>(PART);
        }
    }
}
