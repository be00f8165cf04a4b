// SPDX-License-Identifier: MIT OR Apache-2.0
//! Ranges of bytes that are taken at some time: which are taken within a stretch of time.

use std::ops::Range;

/// Disjoint ranges that do not touch, in order.
#[derive(Clone, Debug, Default)]
pub(super) struct Ranges(Vec<Range<usize>>);

impl Ranges {
    /// Adds a range that is not empty; what it touches becomes one with it.
    fn add(&mut self, mut range: Range<usize>) {
        let first = self.0.partition_point(|known| known.end < range.start);
        let last = first + self.0[first..].partition_point(|known| known.start <= range.end);
        if let Some(known) = self.0[first..last].first() {
            range.start = range.start.min(known.start);
        }
        if let Some(known) = self.0[first..last].last() {
            range.end = range.end.max(known.end);
        }
        self.0.splice(first..last, [range]);
    }

    /// The lowest start at or behind `start` of as many bytes that none of these ranges has.
    fn free(&self, mut start: usize, bytes: usize) -> usize {
        let first = self.0.partition_point(|known| known.end <= start);
        for known in &self.0[first..] {
            if start + bytes <= known.start {
                break;
            }
            start = known.end;
        }
        start
    }
}

/// Ranges of bytes with the stretches of time in which they are taken: a segment tree over time.
///
/// Of the many ranges that are taken at one time, most lie side by side and are kept as one, so
/// that looking for a gap takes few steps however many there are.
#[derive(Debug)]
pub(super) struct Taken {
    /// Number of leaves, a power of two. The node `n` has the children `2 n` and `2 n + 1`.
    leaves: usize,
    /// Ranges that are taken at some time within a node's stretch, but for those that an ancestor
    /// has in `throughout`.
    sometimes: Vec<Ranges>,
    /// Ranges that are taken all along a node's stretch.
    throughout: Vec<Ranges>,
}

impl Taken {
    /// Nothing taken, for times below `end`.
    pub(super) fn until(end: usize) -> Self {
        let leaves = end.next_power_of_two();
        let none = vec![Ranges::default(); 2 * leaves];
        Taken { leaves, sometimes: none.clone(), throughout: none }
    }

    /// Takes a range of bytes for a stretch of time; neither is empty.
    pub(super) fn take(&mut self, time: Range<usize>, bytes: Range<usize>) {
        self.tiles(&time).for_each(|tile| {
            self.throughout[tile].add(bytes.clone());
            self.sometimes[tile].add(bytes.clone());
        });
        for node in self.above(&time) {
            self.sometimes[node].add(bytes.clone());
        }
    }

    /// What is taken at some time within a stretch, which is not empty: the union of these.
    pub(super) fn during(&self, time: Range<usize>) -> impl Iterator<Item = &Ranges> {
        let within = self.tiles(&time).map(|tile| &self.sometimes[tile]);
        within.chain(self.above(&time).map(|node| &self.throughout[node]))
    }

    /// The fewest nodes whose stretches together are this one.
    fn tiles(&self, time: &Range<usize>) -> impl Iterator<Item = usize> + use<> {
        let (mut start, mut end) = (time.start + self.leaves, time.end + self.leaves);
        let mut tiles = Vec::new();
        while start < end {
            if start % 2 == 1 {
                tiles.push(start);
                start += 1;
            }
            if end % 2 == 1 {
                end -= 1;
                tiles.push(end);
            }
            (start, end) = (start / 2, end / 2);
        }
        tiles.into_iter()
    }

    /// The nodes above the first and the last instant of a stretch: all nodes above its tiles, and
    /// some below.
    fn above(&self, time: &Range<usize>) -> impl Iterator<Item = usize> + use<> {
        let parent = |node: &usize| Some(node / 2).filter(|&parent| parent > 0);
        let first = std::iter::successors(Some(time.start + self.leaves), parent).skip(1);
        let last = std::iter::successors(Some(time.end - 1 + self.leaves), parent).skip(1);
        first.chain(last)
    }
}

/// The lowest offset of as many bytes, not 0, that none of several sets of ranges has.
pub(super) fn lowest_free(taken: &[&Ranges], bytes: usize) -> usize {
    let mut offset = 0;
    loop {
        let next = taken.iter().fold(offset, |offset, ranges| ranges.free(offset, bytes));
        if next == offset {
            return offset;
        }
        offset = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_that_touch_become_one() {
        let mut ranges = Ranges::default();
        for range in [10..20, 30..40, 50..60, 20..25, 29..51] {
            ranges.add(range);
        }
        assert_eq!(ranges.0, [10..25, 29..60]);
        ranges.add(25..29);
        assert_eq!(ranges.0, vec![10..60; 1]);
        assert_eq!([ranges.free(0, 10), ranges.free(0, 11), ranges.free(30, 1)], [0, 60, 60]);
    }

    #[test]
    fn a_gap_is_free_only_where_nothing_is_taken_meanwhile() {
        let mut taken = Taken::until(11);
        taken.take(0..4, 0..8);
        taken.take(3..11, 8..16);
        taken.take(5..6, 0..4);
        let free = |time, bytes| {
            let sets: Vec<&Ranges> = taken.during(time).collect();
            lowest_free(&sets, bytes)
        };
        assert_eq!([free(0..1, 4), free(3..4, 4), free(4..5, 4), free(5..6, 4)], [8, 16, 0, 4]);
        assert_eq!([free(4..6, 4), free(4..6, 5), free(0..11, 1), free(6..11, 8)], [4, 16, 16, 0]);
    }
}
