// SPDX-License-Identifier: MIT OR Apache-2.0
//! The most that the multipliers give: fused multiply-adds that wait for nothing but one another.

use std::hint::black_box;

use super::base::{dispatch, Isa, Kernel, Vector};

/// Sums side by side: more than any core has multiply-adds under way, and no more than it has registers.
const CHAINS: usize = 12;

/// Multiplications and additions of a round; `None` where no instruction fuses them.
pub(crate) const fn flops_per_round(isa: Isa) -> Option<u64> {
    let lanes = match isa {
        Isa::Avx512 => 16,
        Isa::Avx2 => 8,
        Isa::Portable if cfg!(target_arch = "aarch64") => 8,
        Isa::Portable => return None,
    };
    Some(2 * CHAINS as u64 * lanes)
}

/// Multiplies and adds for so many rounds.
pub(crate) fn multiply_add(isa: Isa, rounds: u64) {
    // SAFETY: the kernel holds no pointers.
    black_box(unsafe { dispatch(isa, MultiplyAdd { rounds }) });
}

struct MultiplyAdd {
    rounds: u64,
}

impl Kernel for MultiplyAdd {
    /// A number that depends on all multiply-adds.
    type Output = f32;

    #[inline(always)]
    unsafe fn run<V: Vector>(self) -> f32 {
        // The sums stay finite, and no two of them are the same.
        let (half, one) = (V::splat(black_box(0.5)), V::splat(black_box(1.0)));
        let mut sums = [one; CHAINS];
        for (index, sum) in sums.iter_mut().enumerate() {
            *sum = V::splat(black_box(index as f32));
        }
        for _ in 0..self.rounds {
            for sum in &mut sums {
                *sum = sum.mul_add(half, one);
            }
        }
        let mut total = 0.0;
        for sum in sums {
            total += sum.lanes()[0];
        }
        total
    }
}
