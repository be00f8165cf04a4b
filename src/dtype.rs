// SPDX-License-Identifier: MIT OR Apache-2.0
//! Element types of tensors.

use std::fmt;

/// The type of a tensor's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DType {
    /// 32-bit IEEE 754 floating point.
    F32,
    /// bfloat16: the upper half of an `f32`. Devices store activations so; tensors of users do not.
    Bf16,
    /// 16-bit IEEE 754 floating point, used like bfloat16.
    F16,
    /// 32-bit signed integers: class labels and indices.
    I32,
    /// 64-bit signed integers: counters that are part of a network's state.
    I64,
}

impl DType {
    /// Size of one element in bytes.
    pub const fn bytes(self) -> usize {
        match self {
            DType::F32 | DType::I32 => 4,
            DType::Bf16 | DType::F16 => 2,
            DType::I64 => 8,
        }
    }

    /// The number of this type that is nearest to an `f32`, ties to even.
    pub fn round(self, value: f32) -> f32 {
        match self {
            DType::F32 | DType::I32 | DType::I64 => value,
            DType::Bf16 => half::bf16::from_f32(value).to_f32(),
            DType::F16 => half::f16::from_f32(value).to_f32(),
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DType::F32 => "f32",
            DType::Bf16 => "bf16",
            DType::F16 => "f16",
            DType::I32 => "i32",
            DType::I64 => "i64",
        })
    }
}
