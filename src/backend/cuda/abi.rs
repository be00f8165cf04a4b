// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the host and the kernels agree on. Written by `cargo xtask abi` from `kernels/abi.h`.

use super::memory::Address;

pub const KILN_BLOCK_THREADS: u32 = 256;
pub const KILN_ROWS_PER_BLOCK: u32 = 8;
pub const KILN_ROW_REGISTERS: u32 = 1024;
pub const KILN_OPTIMIZER_VECTOR: u32 = 4;
pub const KILN_TRANSPOSE_TILE: u32 = 32;
pub const KILN_TRANSPOSE_ROWS: u32 = 8;
pub const KILN_MAX_RANK: u32 = 6;
pub const KILN_PHILOX_ROUNDS: u32 = 10;
pub const KILN_GEMM_DEPTH_BYTES: u32 = 64;
pub const KILN_GEMM_STAGES: u32 = 4;
pub const KILN_GEMM_STAGES_SMALL: u32 = 3;
pub const KILN_GEMM_THREADS: u32 = 128;
pub const KILN_GEMM_F32_DEPTH: u32 = 16;
pub const KILN_GEMM_F32_STAGES: u32 = 2;
pub const KILN_GEMM_F32_PAD: u32 = 4;
pub const KILN_LINEAR_LOSS_CLASSES: u32 = 64;
pub const KILN_LINEAR_LOSS_ROWS: u32 = 32;
pub const KILN_GEMM_GROUP: u32 = 8;
pub const KILN_GEMM_BIAS_COLUMNS: u32 = 64;
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, PartialEq)]
pub struct KilnScalars {
    pub pass: u32,
    pub sample_offset: u32,
    pub update: u32,
    pub learning_rate: f32,
    pub share: f32,
    pub moment1_correction: f32,
    pub moment2_correction_root: f32,
    pub reserved: f32,
}
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, PartialEq)]
pub struct KilnMask {
    pub round_keys: [u32; 20usize],
    pub site: u32,
    pub threshold: u32,
    pub scale: f32,
}
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, PartialEq)]
pub struct KilnDivider {
    pub divisor: u32,
    pub multiplier: u32,
    pub shift: u32,
}
pub const KILN_UNARY_NONE: KilnUnary = 0;
pub const KILN_UNARY_RELU: KilnUnary = 1;
pub const KILN_UNARY_LEAKY_RELU: KilnUnary = 2;
pub const KILN_UNARY_GELU: KilnUnary = 3;
pub const KILN_UNARY_GELU_TANH: KilnUnary = 4;
pub const KILN_UNARY_SILU: KilnUnary = 5;
pub const KILN_UNARY_TANH: KilnUnary = 6;
pub const KILN_UNARY_SIGMOID: KilnUnary = 7;
pub const KILN_UNARY_SOFTPLUS: KilnUnary = 8;
pub const KILN_UNARY_EXP: KilnUnary = 9;
pub const KILN_UNARY_LOG: KilnUnary = 10;
pub const KILN_UNARY_SQUARE: KilnUnary = 11;
pub const KILN_UNARY_SCALE: KilnUnary = 12;
pub type KilnUnary = u32;
pub const KILN_BINARY_ADD: KilnBinary = 0;
pub const KILN_BINARY_SUBTRACT: KilnBinary = 1;
pub const KILN_BINARY_MULTIPLY: KilnBinary = 2;
pub const KILN_BINARY_DIVIDE: KilnBinary = 3;
pub type KilnBinary = u32;
pub const KILN_STORE_OVERWRITE: KilnStore = 0;
pub const KILN_STORE_ACCUMULATE: KilnStore = 1;
pub type KilnStore = u32;
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, PartialEq)]
pub struct KilnElementwiseParams {
    pub y: Address,
    pub a: Address,
    pub b: Address,
    pub count: u32,
    pub function: u32,
    pub parameter: f32,
}
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, PartialEq)]
pub struct KilnDropoutParams {
    pub y: Address,
    pub x: Address,
    pub scalars: Address,
    pub samples: u32,
    pub elements: u32,
    pub blocks: KilnDivider,
    pub mask: KilnMask,
}
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, PartialEq)]
pub struct KilnChannelDropoutParams {
    pub y: Address,
    pub x: Address,
    pub scalars: Address,
    pub samples: u32,
    pub positions: u32,
    pub channels: u32,
    pub blocks: KilnDivider,
    pub rows: KilnDivider,
    pub mask: KilnMask,
}
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, PartialEq)]
pub struct KilnReduceParams {
    pub y: Address,
    pub x: Address,
    pub partials: Address,
    pub tickets: Address,
    pub outer: u32,
    pub reduced: u32,
    pub inner: u32,
    pub splits: u32,
    pub scale: f32,
    pub store: KilnStore,
}
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, PartialEq)]
pub struct KilnNormParams {
    pub x: Address,
    pub norm: Address,
    pub coefficient: Address,
    pub partials: Address,
    pub tickets: Address,
    pub count: u32,
    pub max_norm: f32,
}
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, PartialEq)]
pub struct KilnSoftmaxParams {
    pub out: Address,
    pub a: Address,
    pub dy: Address,
    pub rows: u32,
    pub columns: u32,
    pub logarithm: u32,
}
pub const KILN_REDUCTION_MEAN: KilnReduction = 0;
pub const KILN_REDUCTION_SUM: KilnReduction = 1;
pub const KILN_REDUCTION_NONE: KilnReduction = 2;
pub type KilnReduction = u32;
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, PartialEq)]
pub struct KilnCrossEntropyLoss {
    pub labels: Address,
    pub class_weights: Address,
    pub dloss: Address,
    pub scalars: Address,
    pub loss: Address,
    pub partials: Address,
    pub tickets: Address,
    pub rows: u32,
    pub classes: u32,
    pub ignore_index: i32,
    pub smoothing: f32,
    pub reduction: KilnReduction,
}
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, PartialEq)]
pub struct KilnCrossEntropyParams {
    pub loss: KilnCrossEntropyLoss,
    pub scores: Address,
    pub d_scores: Address,
}
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, PartialEq)]
pub struct KilnLinearCrossEntropyParams {
    pub loss: KilnCrossEntropyLoss,
    pub x: Address,
    pub weight: Address,
    pub bias: Address,
    pub d_scores: Address,
    pub scores: Address,
    pub features: u32,
}
pub const KILN_NESTEROV_OFF: KilnNesterov = 0;
pub const KILN_NESTEROV_ON: KilnNesterov = 1;
pub type KilnNesterov = u32;
pub const KILN_DECAY_GRADIENT: KilnDecay = 0;
pub const KILN_DECAY_DECOUPLED: KilnDecay = 1;
pub type KilnDecay = u32;
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, PartialEq)]
pub struct KilnOptimizerParams {
    pub values: Address,
    pub gradients: Address,
    pub moment1: Address,
    pub moment2: Address,
    pub shadow: Address,
    pub coefficient: Address,
    pub scalars: Address,
    pub count: u32,
    pub momentum: f32,
    pub dampening: f32,
    pub beta1: f32,
    pub beta2: f32,
    pub one_minus_beta1: f32,
    pub one_minus_beta2: f32,
    pub eps: f32,
    pub weight_decay: f32,
    pub nesterov: KilnNesterov,
    pub decay: KilnDecay,
}
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, PartialEq)]
pub struct KilnCastParams {
    pub y: Address,
    pub x: Address,
    pub count: u32,
}
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, PartialEq)]
pub struct KilnTransposeParams {
    pub y: Address,
    pub x: Address,
    pub rows: u32,
    pub columns: u32,
}
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, PartialEq)]
pub struct KilnStridedCopyParams {
    pub y: Address,
    pub x: Address,
    pub count: u32,
    pub rank: u32,
    pub extents: [KilnDivider; 6usize],
    pub strides: [i32; 6usize],
}
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, PartialEq)]
pub struct KilnLinearTail {
    pub bias: Address,
    pub pre_activation: Address,
    pub residual: Address,
    pub scalars: Address,
    pub activation: KilnUnary,
    pub activation_parameter: f32,
    pub dropout: u32,
    pub mask: KilnMask,
}
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, PartialEq)]
pub struct KilnInputGradientTail {
    pub mask_source: Address,
    pub residual: Address,
    pub mask_scale: f32,
}
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, PartialEq)]
pub struct KilnSplitK {
    pub partials: Address,
    pub tickets: Address,
    pub splits: i32,
}
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, PartialEq)]
pub struct KilnLinearParams {
    pub d: Address,
    pub a: Address,
    pub b: Address,
    pub m: i32,
    pub n: i32,
    pub k: i32,
    pub lda: i32,
    pub ldb: i32,
    pub ldd: i32,
    pub split: KilnSplitK,
    pub tail: KilnLinearTail,
}
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, PartialEq)]
pub struct KilnInputGradientParams {
    pub d: Address,
    pub a: Address,
    pub b: Address,
    pub m: i32,
    pub n: i32,
    pub k: i32,
    pub lda: i32,
    pub ldb: i32,
    pub ldd: i32,
    pub split: KilnSplitK,
    pub tail: KilnInputGradientTail,
}
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, PartialEq)]
pub struct KilnWeightGradient {
    pub d: Address,
    pub d_bias: Address,
    pub a: Address,
    pub b: Address,
    pub m: i32,
    pub n: i32,
    pub k: i32,
    pub lda: i32,
    pub ldb: i32,
    pub first_block: u32,
    pub ticket: i32,
    pub store: KilnStore,
    pub partials: u64,
}
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, PartialEq)]
pub struct KilnWeightGradientParams {
    pub products: [KilnWeightGradient; 8usize],
    pub split: KilnSplitK,
    pub count: i32,
}
