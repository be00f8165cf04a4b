// SPDX-License-Identifier: MIT OR Apache-2.0
//! How numbers are distributed.

use std::ops::Range;

/// Counts of numbers in buckets that are an eighth of a power of two wide, from 1e-12 up in either
/// direction. NaN and infinity are not counted.
///
/// ```
/// use kiln::watch::Histogram;
///
/// let mut histogram = Histogram::default();
/// histogram.add(&[-1.0, 0.0, 1.0, 1.05, 3.0]);
/// assert_eq!((histogram.min(), histogram.max(), histogram.count()), (-1.0, 3.0, 5));
/// // Right edges and counts; an empty bucket ends where the next that is not begins.
/// let ones = histogram.buckets().find(|(edge, _)| *edge > 1.0);
/// assert_eq!(ones, Some((1.125, 2)));
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Histogram {
    min: f64,
    max: f64,
    sum: f64,
    sum_of_squares: f64,
    /// By the upper bits of numbers without their sign.
    below_zero: Vec<u64>,
    above_zero: Vec<u64>,
    around_zero: u64,
}

/// Bits of a number below those that tell its bucket.
const BELOW: u32 = 20;

/// Buckets of finite numbers of one sign.
const BUCKETS: usize = (f32::INFINITY.to_bits() >> BELOW) as usize;

/// The first bucket of numbers that are not taken for 0: that of 1e-12.
const FIRST: usize = (1e-12_f32.to_bits() >> BELOW) as usize;

impl Default for Histogram {
    fn default() -> Self {
        Histogram {
            min: f64::INFINITY,
            max: f64::NEG_INFINITY,
            sum: 0.0,
            sum_of_squares: 0.0,
            below_zero: vec![0; BUCKETS],
            above_zero: vec![0; BUCKETS],
            around_zero: 0,
        }
    }
}

impl Histogram {
    /// Counts more numbers.
    pub fn add(&mut self, values: &[f32]) {
        for &value in values.iter().filter(|value| value.is_finite()) {
            let wide = f64::from(value);
            (self.min, self.max) = (self.min.min(wide), self.max.max(wide));
            self.sum += wide;
            self.sum_of_squares += wide * wide;
            let bucket = (value.abs().to_bits() >> BELOW) as usize;
            match (bucket < FIRST, value < 0.0) {
                (true, _) => self.around_zero += 1,
                (false, true) => self.below_zero[bucket] += 1,
                (false, false) => self.above_zero[bucket] += 1,
            }
        }
    }

    /// The least number; infinity if there is none.
    pub fn min(&self) -> f64 {
        self.min
    }

    /// The largest number; negative infinity if there is none.
    pub fn max(&self) -> f64 {
        self.max
    }

    /// How many numbers there are.
    pub fn count(&self) -> u64 {
        let both = self.below_zero.iter().chain(&self.above_zero);
        both.sum::<u64>() + self.around_zero
    }

    /// Their sum.
    pub fn sum(&self) -> f64 {
        self.sum
    }

    /// The sum of their squares.
    pub fn sum_of_squares(&self) -> f64 {
        self.sum_of_squares
    }

    /// Right edge and count of each bucket, in ascending order. Empty buckets in a row are one, and there
    /// are none behind the last that is not.
    pub fn buckets(&self) -> impl Iterator<Item = (f64, u64)> {
        let of = |range: Range<usize>| range.map(edge);
        let below = of(FIRST..BUCKETS).map(|edge| -edge).zip(self.below_zero[FIRST..].iter());
        let above = of(FIRST + 1..BUCKETS + 1).zip(self.above_zero[FIRST..].iter());
        let zero = std::iter::once((edge(FIRST), &self.around_zero));
        let mut buckets: Vec<(f64, u64)> = Vec::new();
        for (edge, &count) in below.rev().chain(zero).chain(above) {
            match buckets.last_mut() {
                Some((last, 0)) if count == 0 => *last = edge,
                _ => buckets.push((edge, count)),
            }
        }
        buckets.pop_if(|(_, count)| *count == 0);
        buckets.into_iter()
    }
}

/// The left edge of a bucket above zero.
fn edge(bucket: usize) -> f64 {
    match f64::from(f32::from_bits((bucket as u32) << BELOW)) {
        edge if edge.is_finite() => edge,
        _ => f64::MAX,
    }
}
