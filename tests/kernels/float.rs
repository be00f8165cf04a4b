// SPDX-License-Identifier: MIT OR Apache-2.0
//! Storage types: rounding to them, and numbers to fill matrices with.

use half::{bf16, f16};

/// A storage type of the kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Storage {
    F32,
    Bf16,
    F16,
}

impl Storage {
    pub(crate) const ALL: [Storage; 3] = [Storage::F32, Storage::Bf16, Storage::F16];

    /// As it stands in names of kernels.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Storage::F32 => "f32",
            Storage::Bf16 => "bf16",
            Storage::F16 => "f16",
        }
    }

    /// Bytes of an element.
    pub(crate) fn bytes(self) -> usize {
        match self {
            Storage::F32 => 4,
            Storage::Bf16 | Storage::F16 => 2,
        }
    }

    /// Elements in 16 bytes.
    pub(crate) fn vector(self) -> usize {
        16 / self.bytes()
    }

    /// Largest relative error of rounding to it: half a unit of the last place.
    pub(crate) fn rounding(self) -> f64 {
        match self {
            Storage::F32 => F32_ROUNDING,
            Storage::Bf16 => 2f64.powi(-8),
            Storage::F16 => 2f64.powi(-11),
        }
    }

    /// Largest absolute error of rounding a number below the smallest normal one.
    pub(crate) fn underflow(self) -> f64 {
        match self {
            Storage::F32 | Storage::Bf16 => 1e-38,
            Storage::F16 => 2f64.powi(-25),
        }
    }

    /// The nearest number of this type, ties to even.
    pub(crate) fn round(self, x: f32) -> f32 {
        match self {
            Storage::F32 => x,
            Storage::Bf16 => bf16::from_f32(x).to_f32(),
            Storage::F16 => f16::from_f32(x).to_f32(),
        }
    }

    pub(crate) fn encode(self, values: &[f32]) -> Vec<u8> {
        let element = |&x: &f32| match self {
            Storage::F32 => x.to_ne_bytes().to_vec(),
            Storage::Bf16 => bf16::from_f32(x).to_ne_bytes().to_vec(),
            Storage::F16 => f16::from_f32(x).to_ne_bytes().to_vec(),
        };
        values.iter().flat_map(element).collect()
    }

    pub(crate) fn decode(self, bytes: &[u8]) -> Vec<f64> {
        let element = |bytes: &[u8]| match (self, bytes) {
            (Storage::Bf16, &[a, b]) => bf16::from_ne_bytes([a, b]).to_f64(),
            (Storage::F16, &[a, b]) => f16::from_ne_bytes([a, b]).to_f64(),
            (Storage::F32, &[a, b, c, d]) => f64::from(f32::from_ne_bytes([a, b, c, d])),
            _ => unreachable!("chunks have an element's size"),
        };
        bytes.chunks_exact(self.bytes()).map(element).collect()
    }
}

/// Half a unit of the last place of f32, in which all kernels compute.
pub(crate) const F32_ROUNDING: f64 = 1.0 / (1u64 << 24) as f64;

/// A small generator.
#[derive(Debug)]
pub(crate) struct Numbers(u64);

impl Numbers {
    pub(crate) fn new(seed: usize) -> Self {
        Numbers((seed as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number in [0, 1).
    pub(crate) fn next(&mut self) -> f32 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f32 / (1 << 24) as f32
    }

    /// This many numbers in [low, high).
    pub(crate) fn between(&mut self, low: f32, high: f32, count: usize) -> Vec<f32> {
        (0..count).map(|_| low + (high - low) * self.next()).collect()
    }

    /// This many numbers of either sign, none of them near zero.
    pub(crate) fn nonzero(&mut self, count: usize) -> Vec<f32> {
        (0..count)
            .map(|_| (0.25 + self.next()) * if self.next() < 0.5 { -1.0 } else { 1.0 })
            .collect()
    }

    /// This many numbers in [-1, 1), some of them zeros.
    pub(crate) fn sparse(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| if self.next() < 0.4 { 0.0 } else { 2.0 * self.next() - 1.0 }).collect()
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() * end as f32) as usize
    }
}
