// SPDX-License-Identifier: MIT OR Apache-2.0
//! How exactly networks compute.

use std::fmt;

use crate::DType;

/// How a device computes matrix products, and in which type it stores what lies between layers.
///
/// Parameters, their gradients, the optimiser's moments, losses and all sums are `f32` in every
/// precision. Losses are computed in `f32`, as under PyTorch's autocast; their gradient with respect
/// to the network's output is stored as activations are. All devices round at the same places, so
/// their results can be compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Precision {
    /// Full `f32`, as PyTorch computes by default. On a GPU without tensor cores.
    #[default]
    F32,
    /// Factors of products have 10 bits of mantissa; the others are cut off, not rounded, as tensor
    /// cores do (`torch.set_float32_matmul_precision("high")`). Everything else is `f32`, bias
    /// gradients included.
    Tf32,
    /// Factors and activations are bfloat16: the range of `f32`, 7 bits of mantissa.
    Bf16,
    /// Factors and activations are IEEE half: 10 bits of mantissa, largest number 65504. Gradients
    /// below 6e-8 become 0, so a training multiplies its loss ([`LossScale`](crate::LossScale)).
    F16,
}

/// How the CPU computes convolutions in full `f32`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Convolutions {
    /// In the fastest way for their shape. Where that is Winograd's, which many 3 by 3 convolutions
    /// with stride 1 are, errors are within 1e-5 of the largest result, about ten times those of sums.
    #[default]
    Fast,
    /// By the sums that they mean, always.
    Precise,
}

impl Precision {
    /// The type in which activations and their gradients are stored.
    pub const fn storage(self) -> DType {
        match self {
            Precision::F32 | Precision::Tf32 => DType::F32,
            Precision::Bf16 => DType::Bf16,
            Precision::F16 => DType::F16,
        }
    }

    /// A factor of a product as it is multiplied.
    pub fn round(self, value: f32) -> f32 {
        match self {
            Precision::F32 => value,
            Precision::Tf32 => round_to_tf32(value),
            Precision::Bf16 | Precision::F16 => self.storage().round(value),
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Precision::F32 => "f32",
            Precision::Tf32 => "tf32",
            Precision::Bf16 => "bf16",
            Precision::F16 => "f16",
        })
    }
}

/// Without the 13 bits that `mma.sync` ignores of a tf32 factor.
fn round_to_tf32(value: f32) -> f32 {
    const IGNORED: u32 = (1 << 13) - 1;
    match value.is_finite() {
        true => f32::from_bits(value.to_bits() & !IGNORED),
        false => value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors_are_cut_or_rounded_to_the_nearest() {
        assert_eq!(Precision::F32.round(0.1), 0.1);
        assert_eq!(
            Precision::Tf32.round(1.0 + 1.9 * f32::powi(2.0, -10)),
            1.0 + f32::powi(2.0, -10)
        );
        assert_eq!(Precision::Tf32.round(-1.0 - f32::powi(2.0, -11)), -1.0);
        // The stored types round ties to even.
        assert_eq!(Precision::Bf16.round(1.0 + f32::powi(2.0, -8)), 1.0);
        assert_eq!(Precision::Bf16.round(1.0 + 3.0 * f32::powi(2.0, -8)), 1.0 + f32::powi(2.0, -6));
        assert_eq!(Precision::F16.round(1.0 + f32::powi(2.0, -11)), 1.0);
        assert_eq!(Precision::F16.round(70_000.0), f32::INFINITY);
        for precision in [Precision::Tf32, Precision::Bf16, Precision::F16] {
            assert!(precision.round(f32::NAN).is_nan());
            assert_eq!(precision.round(f32::NEG_INFINITY), f32::NEG_INFINITY);
        }
    }
}
