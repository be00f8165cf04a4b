// SPDX-License-Identifier: MIT OR Apache-2.0
//! Fetching what the next product will need while this one is computed.

use super::sparse::LINE;
use super::vector::Vector;

/// Regions that may be fetched at a time: parameters and two moments of two panels.
const REGIONS: usize = 6;

/// Rows of memory, some distance apart.
#[derive(Clone, Copy, Debug)]
pub(super) struct Region {
    pub(super) start: *const f32,
    pub(super) rows: usize,
    /// Distance between rows.
    pub(super) stride: usize,
    /// Elements of a row.
    pub(super) len: usize,
}

impl Region {
    /// Elements next to one another.
    pub(super) fn slice(start: *const f32, len: usize) -> Self {
        Region { start, rows: 1, stride: 0, len }
    }

    fn lines_of_row(&self) -> usize {
        self.len.div_ceil(LINE)
    }
}

/// Cache lines to ask for, a few whenever a product has done a row.
///
/// Asked for all at once, they would fill the queue of outstanding loads and stall the product.
#[derive(Debug)]
pub(super) struct Ahead {
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
    pub(super) fn nothing() -> Self {
        let line = std::ptr::null();
        let regions = [Region::slice(line, 0); REGIONS];
        Ahead { line, left: 0, per_visit: 0, region: 0, row: 0, regions, count: 0 }
    }

    /// Adds a region. An empty one is left out, and so is what exceeds [`REGIONS`].
    pub(super) fn add(&mut self, region: Region) {
        if self.count < REGIONS && region.rows > 0 && region.len > 0 {
            self.regions[self.count] = region;
            self.count += 1;
        }
    }

    /// Spreads the fetches over so many visits.
    pub(super) fn over(mut self, visits: usize) -> Self {
        let regions = &self.regions[..self.count];
        let lines: usize = regions.iter().map(|region| region.rows * region.lines_of_row()).sum();
        self.per_visit = lines.div_ceil(visits.max(1));
        self.start_row();
        self
    }

    /// Asks for the next lines.
    #[inline(always)]
    pub(super) fn visit<V: Vector>(&mut self) {
        if self.left > self.per_visit {
            self.fetch::<V>(self.per_visit);
        } else if self.left > 0 {
            self.fetch::<V>(self.left);
            self.start_row();
        }
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
