// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which instruction set to use, and how a generic kernel is entered with it.

use super::portable::Portable;
use super::vector::Vector;

#[cfg(target_arch = "x86_64")]
use super::{avx2::Avx2, avx512::Avx512};

/// An instruction set that the kernels are compiled for.
///
/// There is no entry for NEON: every aarch64 has it, so there the compiler turns the portable
/// kernels, plain loops over eight lanes, into NEON code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Isa {
    /// AVX-512 F, BW, DQ and VL.
    Avx512,
    /// AVX2, FMA, BMI1 and POPCNT.
    Avx2,
    /// Whatever the target guarantees.
    Portable,
}

impl Isa {
    /// The fastest one that this machine has.
    pub(crate) fn best() -> Self {
        Self::available()[0]
    }

    /// All that this machine has, fastest first.
    pub(crate) fn available() -> Vec<Self> {
        let all = [Isa::Avx512, Isa::Avx2, Isa::Portable];
        all.into_iter().filter(|isa| isa.is_available()).collect()
    }

    /// Whether [`Vector::compress`] is fast enough to list a sparse matrix.
    pub(crate) const fn lists_zeros(self) -> bool {
        !matches!(self, Isa::Portable)
    }

    fn is_available(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => {
                is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
                    && Isa::Avx2.is_available()
            }
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => {
                is_x86_feature_detected!("avx2")
                    && is_x86_feature_detected!("fma")
                    && is_x86_feature_detected!("bmi1")
                    && is_x86_feature_detected!("popcnt")
            }
            #[cfg(not(target_arch = "x86_64"))]
            Isa::Avx512 | Isa::Avx2 => false,
            Isa::Portable => true,
        }
    }
}

impl std::fmt::Display for Isa {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Isa::Avx512 => "AVX-512",
            Isa::Avx2 => "AVX2",
            Isa::Portable if cfg!(target_arch = "aarch64") => "NEON",
            Isa::Portable => "portable",
        })
    }
}

/// A loop written once for all instruction sets: its arguments, and what it does with them.
pub(crate) trait Kernel {
    /// What it returns.
    type Output;

    /// Runs it. Implementations are `#[inline(always)]`, so that they are compiled with the
    /// features of the function they are entered through.
    ///
    /// # Safety
    /// The machine has `V`'s instruction set, and the pointers inside `self` are valid for what
    /// the kernel's own documentation says.
    unsafe fn run<V: Vector>(self) -> Self::Output;
}

/// Runs a kernel with an instruction set.
///
/// # Safety
/// The pointers inside `kernel` are valid for what its documentation says.
///
/// # Panics
/// If the machine lacks the instruction set.
pub(crate) unsafe fn dispatch<K: Kernel>(isa: Isa, kernel: K) -> K::Output {
    assert!(isa.is_available(), "this machine lacks {isa}");
    // SAFETY: the instruction set was just checked; the caller vouches for the pointers.
    unsafe {
        match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => Avx512::enter(kernel),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => Avx2::enter(kernel),
            _ => Portable::enter(kernel),
        }
    }
}
