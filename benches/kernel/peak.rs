// SPDX-License-Identifier: MIT OR Apache-2.0
//! The most that the machine's multipliers give: fused multiply-adds that wait for nothing but one
//! another, in the widest vectors that the CPU backend uses.

use std::hint::black_box;
use std::num::NonZeroUsize;
use std::sync::Barrier;
use std::time::{Duration, Instant};

/// Sums side by side: more than any core has multiply-adds under way, and no more than it has registers.
const CHAINS: usize = if cfg!(target_arch = "aarch64") { 24 } else { 12 };

/// Multiplications and additions of a round of one thread; `None` where the machine has no fused ones.
pub(crate) fn flops_per_round() -> Option<u64> {
    Some((2 * CHAINS * Vectors::detect()?.lanes()) as u64)
}

/// How long it takes until all of some threads have done so many rounds at the same time.
pub(crate) fn time(rounds: u64, threads: NonZeroUsize) -> Duration {
    let Some(vectors) = Vectors::detect() else { return Duration::MAX };
    let start = Barrier::new(threads.get());
    let timed = || {
        start.wait();
        let begun = Instant::now();
        black_box(vectors.multiply_add(rounds));
        begun.elapsed()
    };
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads.get()).map(|_| scope.spawn(timed)).collect();
        let own = timed();
        others.into_iter().filter_map(|other| other.join().ok()).fold(own, Duration::max)
    })
}

/// Vectors that this machine has.
#[derive(Clone, Copy, Debug)]
enum Vectors {
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "aarch64")]
    Neon,
}

impl Vectors {
    /// The widest.
    #[cfg(target_arch = "x86_64")]
    fn detect() -> Option<Self> {
        if is_x86_feature_detected!("avx512f") {
            Some(Vectors::Avx512)
        } else if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            Some(Vectors::Avx2)
        } else {
            None
        }
    }

    #[cfg(target_arch = "aarch64")]
    fn detect() -> Option<Self> {
        Some(Vectors::Neon)
    }

    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    fn detect() -> Option<Self> {
        None
    }

    fn lanes(self) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            Vectors::Avx512 => 16,
            #[cfg(target_arch = "x86_64")]
            Vectors::Avx2 => 8,
            #[cfg(target_arch = "aarch64")]
            Vectors::Neon => 4,
        }
    }

    /// A number that depends on all multiply-adds.
    fn multiply_add(self, rounds: u64) -> f32 {
        match self {
            // SAFETY: `detect` saw the instruction set.
            #[cfg(target_arch = "x86_64")]
            Vectors::Avx512 => unsafe { avx512(rounds) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Vectors::Avx2 => unsafe { avx2(rounds) },
            // SAFETY: every aarch64 has it.
            #[cfg(target_arch = "aarch64")]
            Vectors::Neon => unsafe { neon(rounds) },
        }
    }
}

/// A function that multiplies and adds in chains, whose sums stay finite.
macro_rules! chains {
    ($name:ident, $features:literal, $splat:ident, $multiply_add:ident, $number:ident) => {
        #[target_feature(enable = $features)]
        fn $name(rounds: u64) -> f32 {
            let half = $splat(black_box(0.5));
            let one = $splat(black_box(1.0));
            let mut sums = [one; CHAINS];
            for _ in 0..rounds {
                for sum in &mut sums {
                    *sum = $multiply_add(*sum, half, one);
                }
            }
            let mut total = 0.0;
            for sum in sums {
                total += $number(sum);
            }
            total
        }
    };
}

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{
    _mm256_cvtss_f32, _mm256_fmadd_ps, _mm256_set1_ps, _mm512_cvtss_f32, _mm512_fmadd_ps,
    _mm512_set1_ps,
};

#[cfg(target_arch = "x86_64")]
chains!(avx512, "avx512f", _mm512_set1_ps, _mm512_fmadd_ps, _mm512_cvtss_f32);
#[cfg(target_arch = "x86_64")]
chains!(avx2, "avx2,fma", _mm256_set1_ps, _mm256_fmadd_ps, _mm256_cvtss_f32);

#[cfg(target_arch = "aarch64")]
use std::arch::aarch64::{vaddvq_f32, vdupq_n_f32, vfmaq_f32};

#[cfg(target_arch = "aarch64")]
chains!(neon, "neon", vdupq_n_f32, vfmaq_f32, vaddvq_f32);
