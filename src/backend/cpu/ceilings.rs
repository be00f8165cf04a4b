// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a machine gives at the moment, which rates of kernels are compared with: multiply-adds in
//! registers, and copies.

use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::pool::{split_by, Pool};
use super::simd::{peak, Isa};
use super::ALIGNMENT;

/// Bytes that copies read and write, within the second-level cache and up to beyond all.
const COPIES: [usize; 4] = [512 << 10, 8 << 20, 32 << 20, 128 << 20];
/// About half a millisecond.
const ROUNDS: u64 = 200_000;
/// How long one ceiling is tried, and how often at least: the best attempt counts.
const PATIENCE: Duration = Duration::from_millis(30);
const ATTEMPTS: usize = 3;

/// The most that some threads reach together, measured in about a fifth of a second.
///
/// A machine that others use gives less from one moment to the next: measure ceilings near what is
/// compared with them.
///
/// ```
/// use std::num::NonZeroUsize;
/// use kiln::backend::cpu::Ceilings;
///
/// let ceilings = Ceilings::measure(NonZeroUsize::MIN);
/// let (flops, bytes, seconds) = (1e6, 3 << 20, 0.01); // of some kernel
/// let of_copy = bytes as f64 / seconds / ceilings.copied(bytes);
/// let of_peak = ceilings.flops.map(|peak| flops / seconds / peak);
/// assert!(of_copy > 0.0 && of_peak.is_none_or(|share| share > 0.0));
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Ceilings {
    /// Multiplications and additions per second, fused, in registers and in the widest vectors that the
    /// kernels use; `None` where the machine fuses none.
    pub flops: Option<f64>,
    /// Copies, the smallest first.
    pub copies: Vec<CopyRate>,
}

/// How fast a copy is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CopyRate {
    /// Bytes that it reads and writes together.
    pub bytes: usize,
    /// Bytes per second.
    pub rate: f64,
}

impl Ceilings {
    /// Measures with so many threads. Its copies take 128 MiB for the time.
    pub fn measure(threads: NonZeroUsize) -> Self {
        let gauge = Gauge::new(threads);
        let flops = gauge.flops_per_round().map(|flops| {
            let seconds = shortest(|| gauge.multiply_add(ROUNDS));
            (flops * ROUNDS) as f64 / seconds
        });
        // Written, since pages that nobody wrote to are all the same one.
        let from = vec![1.0; elements(COPIES[COPIES.len() - 1])];
        let mut to = vec![0.0; from.len()];
        let copies = COPIES.map(|bytes| {
            let count = elements(bytes);
            let seconds = shortest(|| gauge.copy(&from[..count], &mut to[..count]));
            CopyRate { bytes, rate: bytes as f64 / seconds }
        });
        Ceilings { flops, copies: copies.into() }
    }

    /// Bytes per second of the copy whose size is nearest to so many bytes, read and written together.
    pub fn copied(&self, bytes: usize) -> f64 {
        let distance = |copy: &CopyRate| (bytes.max(1) as f64 / copy.bytes as f64).ln().abs();
        let nearer = |a: &&CopyRate, b: &&CopyRate| distance(a).total_cmp(&distance(b));
        self.copies.iter().min_by(nearer).map_or(f64::NAN, |copy| copy.rate)
    }
}

/// What [`Ceilings`] is measured by, for those who take the time themselves.
#[derive(Debug)]
pub struct Gauge {
    pool: Pool,
    isa: Isa,
}

impl Gauge {
    /// Starts the threads.
    pub fn new(threads: NonZeroUsize) -> Self {
        Gauge { pool: Pool::new(threads), isa: Isa::best() }
    }

    /// Multiplications and additions of a round, of all threads together; `None` where the machine
    /// fuses none.
    pub fn flops_per_round(&self) -> Option<u64> {
        Some(peak::flops_per_round(self.isa)? * self.pool.threads() as u64)
    }

    /// Does so many rounds of multiply-adds on every thread.
    pub fn multiply_add(&self, rounds: u64) {
        self.pool.run(&|_| peak::multiply_add(self.isa, rounds));
    }

    /// Copies as many elements as both slices have, each thread its share.
    pub fn copy(&self, from: &[f32], to: &mut [f32]) {
        let (count, threads) = (from.len().min(to.len()), self.pool.threads());
        let granule = ALIGNMENT / size_of::<f32>();
        let mut left = &mut to[..count];
        let shares = (0..threads).map(|index| {
            let share = split_by(granule, count, threads, index);
            let (own, rest) = std::mem::take(&mut left).split_at_mut(share.len());
            left = rest;
            Mutex::new((&from[share], own))
        });
        let shares: Vec<_> = shares.collect();
        self.pool.run(&|index| {
            let mut share = shares[index].lock().unwrap_or_else(PoisonError::into_inner);
            let (from, to) = &mut *share;
            to.copy_from_slice(from);
        });
    }
}

/// Elements of each side of a copy that reads and writes so many bytes.
const fn elements(bytes: usize) -> usize {
    bytes / 2 / size_of::<f32>()
}

/// Seconds of the fastest of some attempts.
fn shortest(mut attempt: impl FnMut()) -> f64 {
    let begun = Instant::now();
    let (mut best, mut attempts) = (Duration::MAX, 0);
    while attempts < ATTEMPTS || begun.elapsed() < PATIENCE {
        let start = Instant::now();
        attempt();
        best = best.min(start.elapsed());
        attempts += 1;
    }
    best.as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn threads(count: usize) -> NonZeroUsize {
        NonZeroUsize::new(count).expect("one or more")
    }

    #[test]
    fn ceilings_are_finite_rates() {
        for count in [1, 2] {
            let ceilings = Ceilings::measure(threads(count));
            let rates = ceilings.copies.iter().map(|copy| copy.rate).chain(ceilings.flops);
            let rates: Vec<f64> = rates.collect();
            assert!(rates.len() >= COPIES.len(), "{ceilings:?}");
            assert!(rates.iter().all(|rate| rate.is_finite() && *rate > 1e6), "{ceilings:?}");
        }
    }

    #[test]
    fn the_copy_of_the_nearest_size_counts() {
        let copies = [(1000, 4.0), (10_000, 2.0)].map(|(bytes, rate)| CopyRate { bytes, rate });
        let ceilings = Ceilings { flops: None, copies: copies.into() };
        let rates = [0, 1000, 3000, 4000, 1 << 40].map(|bytes| ceilings.copied(bytes));
        assert_eq!(rates, [4.0, 4.0, 4.0, 2.0, 2.0]);
    }

    #[test]
    fn threads_copy_everything_once() {
        for (count, elements) in [(1, 7), (2, 0), (3, 1000), (4, 5)] {
            let from: Vec<f32> = (0..elements).map(|index| index as f32 + 1.0).collect();
            let mut to = vec![0.0; elements + 2];
            Gauge::new(threads(count)).copy(&from, &mut to);
            assert_eq!((&to[..elements], &to[elements..]), (&from[..], &[0.0; 2][..]));
        }
    }
}
