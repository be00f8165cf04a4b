// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the host and the kernels agree on. Written by `cargo xtask abi` from `kernels/abi.h`.

use super::memory::Address;

pub(crate) const KILN_BLOCK_THREADS: u32 = 256;
pub(crate) const KILN_ROWS_PER_BLOCK: u32 = 8;
pub(crate) const KILN_ROW_REGISTERS: u32 = 1024;
pub(crate) const KILN_OPTIMIZER_VECTOR: u32 = 4;
pub(crate) const KILN_OPTIMIZER_STRETCHES: u32 = 32;
pub(crate) const KILN_TRANSPOSE_TILE: u32 = 32;
pub(crate) const KILN_TRANSPOSE_ROWS: u32 = 8;
pub(crate) const KILN_MAX_RANK: u32 = 6;
pub(crate) const KILN_PHILOX_ROUNDS: u32 = 10;
pub(crate) const KILN_LATER_RATES: u32 = 4;
pub(crate) const KILN_CHAIN_OPERANDS: u32 = 8;
pub(crate) const KILN_CHAIN_LINKS: u32 = 24;
pub(crate) const KILN_CHAIN_RESULTS: u32 = 8;
pub(crate) const KILN_CHAIN_KEPT: u32 = 4;
pub(crate) const KILN_CHAIN_AXES: u32 = 8;
pub(crate) const KILN_CHAIN_LAST: u32 = 0;
pub(crate) const KILN_CHAIN_FIRST_KEPT: u32 = 1;
pub(crate) const KILN_CHAIN_FIRST_OPERAND: u32 = 8;
pub(crate) const KILN_CHAIN_NOWHERE: u32 = 255;
pub(crate) const KILN_COPY_PIECES: u32 = 8;
pub(crate) const KILN_CHOICE_SUMS: u32 = 8192;
pub(crate) const KILN_CHOICE_LIST: u32 = 1024;
pub(crate) const KILN_GEMM_DEPTH_BYTES: u32 = 64;
pub(crate) const KILN_GEMM_STAGES: u32 = 4;
pub(crate) const KILN_GEMM_STAGES_SMALL: u32 = 3;
pub(crate) const KILN_GEMM_THREADS: u32 = 128;
pub(crate) const KILN_GEMM_F32_DEPTH: u32 = 16;
pub(crate) const KILN_GEMM_F32_STAGES: u32 = 2;
pub(crate) const KILN_GEMM_F32_PAD: u32 = 4;
pub(crate) const KILN_LINEAR_LOSS_CLASSES: u32 = 64;
pub(crate) const KILN_LINEAR_LOSS_ROWS: u32 = 32;
pub(crate) const KILN_GEMM_GROUP: u32 = 8;
pub(crate) const KILN_GEMM_BIAS_COLUMNS: u32 = 64;
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, PartialEq)]
pub(crate) struct KilnScalars {
    pub(crate) learning_rate: f32,
    pub(crate) momentum: f32,
    pub(crate) one_minus_momentum: f32,
    pub(crate) share: f32,
    pub(crate) exact_momentum: f64,
    pub(crate) pass: u32,
    pub(crate) sample_offset: u32,
    pub(crate) average: f32,
}
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, PartialEq)]
pub(crate) struct KilnRates {
    pub(crate) learning_rate: f32,
    pub(crate) momentum: f32,
    pub(crate) one_minus_momentum: f32,
    pub(crate) average: f32,
    pub(crate) exact_momentum: [u32; 2usize],
}
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, PartialEq)]
pub(crate) struct KilnLaterRates {
    pub(crate) skipped: u32,
    pub(crate) rates: [KilnRates; 4usize],
}
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, PartialEq)]
pub(crate) struct KilnProgress {
    pub(crate) updates: u32,
    pub(crate) found_inf: u32,
    pub(crate) loss_scale: f32,
    pub(crate) growth: u32,
    pub(crate) skipped: u32,
    pub(crate) unused: [u32; 3usize],
}
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, PartialEq)]
pub(crate) struct KilnMask {
    pub(crate) round_keys: [u32; 20usize],
    pub(crate) site: u32,
    pub(crate) threshold: u32,
    pub(crate) scale: f32,
}
pub(crate) const KILN_RATE_NONE: KilnRate = 0;
pub(crate) const KILN_RATE_CONSTANT: KilnRate = 1;
pub(crate) const KILN_RATE_SCHEDULED: KilnRate = 2;
pub(crate) type KilnRate = u32;
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, PartialEq)]
pub(crate) struct KilnDivider {
    pub(crate) divisor: u32,
    pub(crate) multiplier: u32,
    pub(crate) shift: u32,
}
pub(crate) const KILN_UNARY_NONE: KilnUnary = 0;
pub(crate) const KILN_UNARY_RELU: KilnUnary = 1;
pub(crate) const KILN_UNARY_LEAKY_RELU: KilnUnary = 2;
pub(crate) const KILN_UNARY_GELU: KilnUnary = 3;
pub(crate) const KILN_UNARY_GELU_TANH: KilnUnary = 4;
pub(crate) const KILN_UNARY_SILU: KilnUnary = 5;
pub(crate) const KILN_UNARY_TANH: KilnUnary = 6;
pub(crate) const KILN_UNARY_SIGMOID: KilnUnary = 7;
pub(crate) const KILN_UNARY_SOFTPLUS: KilnUnary = 8;
pub(crate) const KILN_UNARY_EXP: KilnUnary = 9;
pub(crate) const KILN_UNARY_LOG: KilnUnary = 10;
pub(crate) const KILN_UNARY_SQUARE: KilnUnary = 11;
pub(crate) const KILN_UNARY_SCALE: KilnUnary = 12;
pub(crate) const KILN_UNARY_OFFSET: KilnUnary = 13;
pub(crate) const KILN_UNARY_ABS: KilnUnary = 14;
pub(crate) const KILN_UNARY_SQRT: KilnUnary = 15;
pub(crate) const KILN_UNARY_RSQRT: KilnUnary = 16;
pub(crate) const KILN_UNARY_RECIPROCAL: KilnUnary = 17;
pub(crate) const KILN_UNARY_SIN: KilnUnary = 18;
pub(crate) const KILN_UNARY_COS: KilnUnary = 19;
pub(crate) const KILN_UNARY_ERF: KilnUnary = 20;
pub(crate) const KILN_UNARY_POW: KilnUnary = 21;
pub(crate) const KILN_UNARY_CLAMP: KilnUnary = 22;
pub(crate) const KILN_UNARY_NOT: KilnUnary = 23;
pub(crate) type KilnUnary = u32;
pub(crate) const KILN_BINARY_ADD: KilnBinary = 0;
pub(crate) const KILN_BINARY_SUBTRACT: KilnBinary = 1;
pub(crate) const KILN_BINARY_MULTIPLY: KilnBinary = 2;
pub(crate) const KILN_BINARY_DIVIDE: KilnBinary = 3;
pub(crate) const KILN_BINARY_LOGISTIC_LOSS: KilnBinary = 4;
pub(crate) const KILN_BINARY_LOGISTIC_SLOPE: KilnBinary = 5;
pub(crate) const KILN_BINARY_MINIMUM: KilnBinary = 6;
pub(crate) const KILN_BINARY_MAXIMUM: KilnBinary = 7;
pub(crate) const KILN_BINARY_POWER: KilnBinary = 8;
pub(crate) const KILN_BINARY_POWER_SLOPE: KilnBinary = 9;
pub(crate) const KILN_BINARY_LESS: KilnBinary = 10;
pub(crate) const KILN_BINARY_LESS_EQUAL: KilnBinary = 11;
pub(crate) const KILN_BINARY_EQUAL: KilnBinary = 12;
pub(crate) const KILN_BINARY_MAXIMUM_SHARE: KilnBinary = 13;
pub(crate) type KilnBinary = u32;
pub(crate) const KILN_LINK_COPY: KilnLinkKind = 0;
pub(crate) const KILN_LINK_UNARY: KilnLinkKind = 1;
pub(crate) const KILN_LINK_UNARY_GRADIENT: KilnLinkKind = 2;
pub(crate) const KILN_LINK_BINARY: KilnLinkKind = 3;
pub(crate) const KILN_LINK_MASK_NONZERO: KilnLinkKind = 4;
pub(crate) const KILN_LINK_WHERE: KilnLinkKind = 5;
pub(crate) type KilnLinkKind = u32;
pub(crate) const KILN_CHAIN_DENSE: KilnChainAccess = 0;
pub(crate) const KILN_CHAIN_NUMBER: KilnChainAccess = 1;
pub(crate) const KILN_CHAIN_ALIGNED: KilnChainAccess = 2;
pub(crate) const KILN_CHAIN_ROW: KilnChainAccess = 3;
pub(crate) const KILN_CHAIN_SINGLE: KilnChainAccess = 4;
pub(crate) type KilnChainAccess = u32;
pub(crate) const KILN_CHAIN_T: KilnChainStorage = 0;
pub(crate) const KILN_CHAIN_F32: KilnChainStorage = 1;
pub(crate) const KILN_CHAIN_ROUNDED: KilnChainStorage = 2;
pub(crate) type KilnChainStorage = u32;
pub(crate) const KILN_STORE_OVERWRITE: KilnStore = 0;
pub(crate) const KILN_STORE_ACCUMULATE: KilnStore = 1;
pub(crate) type KilnStore = u32;
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, PartialEq)]
pub(crate) struct KilnChainOperand {
    pub(crate) x: Address,
    pub(crate) storage: KilnChainStorage,
    pub(crate) access: KilnChainAccess,
    pub(crate) axes: u32,
    pub(crate) extents: [KilnDivider; 8usize],
    pub(crate) strides: [u32; 8usize],
}
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, PartialEq)]
pub(crate) struct KilnChainResult {
    pub(crate) y: Address,
    pub(crate) storage: KilnChainStorage,
}
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, PartialEq)]
pub(crate) struct KilnChainLink {
    pub(crate) kind: ::core::ffi::c_uchar,
    pub(crate) function: ::core::ffi::c_uchar,
    pub(crate) arguments: [::core::ffi::c_uchar; 3usize],
    pub(crate) keep: ::core::ffi::c_uchar,
    pub(crate) store: ::core::ffi::c_uchar,
    pub(crate) parameters: [f32; 2usize],
}
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, PartialEq)]
pub(crate) struct KilnChainParams {
    pub(crate) count: u32,
    pub(crate) length: u32,
    pub(crate) links: [KilnChainLink; 24usize],
    pub(crate) operands: [KilnChainOperand; 8usize],
    pub(crate) results: [KilnChainResult; 8usize],
}
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, PartialEq)]
pub(crate) struct KilnDropoutParams {
    pub(crate) y: Address,
    pub(crate) x: Address,
    pub(crate) scalars: Address,
    pub(crate) samples: u32,
    pub(crate) elements: u32,
    pub(crate) blocks: KilnDivider,
    pub(crate) offset_factor: u32,
    pub(crate) mask: KilnMask,
}
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, PartialEq)]
pub(crate) struct KilnReduceParams {
    pub(crate) y: Address,
    pub(crate) x: Address,
    pub(crate) partials: Address,
    pub(crate) tickets: Address,
    pub(crate) outer: u32,
    pub(crate) reduced: u32,
    pub(crate) inner: u32,
    pub(crate) splits: u32,
    pub(crate) scale: f32,
    pub(crate) store: KilnStore,
}
pub(crate) const KILN_FOLD_SUM: KilnFold = 0;
pub(crate) const KILN_FOLD_MAX: KilnFold = 1;
pub(crate) const KILN_FOLD_MIN: KilnFold = 2;
pub(crate) type KilnFold = u32;
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, PartialEq)]
pub(crate) struct KilnFoldParams {
    pub(crate) y: Address,
    pub(crate) x: Address,
    pub(crate) partials: Address,
    pub(crate) places: Address,
    pub(crate) tickets: Address,
    pub(crate) function: KilnFold,
    pub(crate) lines: u32,
    pub(crate) reduced: u32,
    pub(crate) inner: u32,
    pub(crate) turns: u32,
    pub(crate) splits: u32,
    pub(crate) columns: KilnDivider,
}
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, PartialEq)]
pub(crate) struct KilnNormParams {
    pub(crate) x: Address,
    pub(crate) norm: Address,
    pub(crate) coefficient: Address,
    pub(crate) partials: Address,
    pub(crate) tickets: Address,
    pub(crate) count: u32,
    pub(crate) first_block: u32,
    pub(crate) blocks: u32,
    pub(crate) max_norm: f32,
}
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, PartialEq)]
pub(crate) struct KilnUnscaleParams {
    pub(crate) x: Address,
    pub(crate) coefficient: Address,
    pub(crate) overflow: Address,
    pub(crate) norm: Address,
    pub(crate) partials: Address,
    pub(crate) tickets: Address,
    pub(crate) progress: Address,
    pub(crate) scalars: Address,
    pub(crate) later: Address,
    pub(crate) count: u32,
    pub(crate) first_block: u32,
    pub(crate) blocks: u32,
    pub(crate) max_norm: f32,
    pub(crate) growth_factor: f32,
    pub(crate) backoff_factor: f32,
    pub(crate) growth_interval: u32,
}
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, PartialEq)]
pub(crate) struct KilnStateParams {
    pub(crate) state: Address,
    pub(crate) statistic: Address,
    pub(crate) count: Address,
    pub(crate) elements: u32,
    pub(crate) kept: f32,
    pub(crate) taken: f32,
}
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, PartialEq)]
pub(crate) struct KilnSoftmaxParams {
    pub(crate) out: Address,
    pub(crate) a: Address,
    pub(crate) dy: Address,
    pub(crate) rows: u32,
    pub(crate) columns: u32,
    pub(crate) logarithm: u32,
}
pub(crate) const KILN_REDUCTION_MEAN: KilnReduction = 0;
pub(crate) const KILN_REDUCTION_SUM: KilnReduction = 1;
pub(crate) const KILN_REDUCTION_NONE: KilnReduction = 2;
pub(crate) type KilnReduction = u32;
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, PartialEq)]
pub(crate) struct KilnCrossEntropyLoss {
    pub(crate) labels: Address,
    pub(crate) class_weights: Address,
    pub(crate) dloss: Address,
    pub(crate) loss_scale: Address,
    pub(crate) scalars: Address,
    pub(crate) divisor: Address,
    pub(crate) loss: Address,
    pub(crate) partials: Address,
    pub(crate) tickets: Address,
    pub(crate) rows: u32,
    pub(crate) classes: u32,
    pub(crate) ignore_index: i32,
    pub(crate) smoothing: f32,
    pub(crate) reduction: KilnReduction,
}
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, PartialEq)]
pub(crate) struct KilnCrossEntropyParams {
    pub(crate) loss: KilnCrossEntropyLoss,
    pub(crate) scores: Address,
    pub(crate) d_scores: Address,
}
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, PartialEq)]
pub(crate) struct KilnLinearCrossEntropyParams {
    pub(crate) loss: KilnCrossEntropyLoss,
    pub(crate) x: Address,
    pub(crate) weight: Address,
    pub(crate) bias: Address,
    pub(crate) d_scores: Address,
    pub(crate) scores: Address,
    pub(crate) features: u32,
    pub(crate) rows_per_block: u32,
}
pub(crate) const KILN_NESTEROV_OFF: KilnNesterov = 0;
pub(crate) const KILN_NESTEROV_ON: KilnNesterov = 1;
pub(crate) type KilnNesterov = u32;
pub(crate) const KILN_DECAY_GRADIENT: KilnDecay = 0;
pub(crate) const KILN_DECAY_DECOUPLED: KilnDecay = 1;
pub(crate) type KilnDecay = u32;
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, PartialEq)]
pub(crate) struct KilnStretch {
    pub(crate) first_block: u32,
    pub(crate) count: u32,
    pub(crate) start: u32,
    pub(crate) moments: u32,
    pub(crate) skipped: u32,
    pub(crate) rate_factor: f32,
    pub(crate) weight_decay: f32,
}
pub(crate) const KILN_COPY_F32: KilnCopyType = 0;
pub(crate) const KILN_COPY_BF16: KilnCopyType = 1;
pub(crate) const KILN_COPY_F16: KilnCopyType = 2;
pub(crate) type KilnCopyType = u32;
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, PartialEq)]
pub(crate) struct KilnTurned {
    pub(crate) start: u32,
    pub(crate) count: u32,
    pub(crate) columns: KilnDivider,
    pub(crate) rows: KilnDivider,
    pub(crate) type_: KilnCopyType,
    pub(crate) unused: u32,
    pub(crate) copy: Address,
}
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, PartialEq)]
pub(crate) struct KilnOptimizerParams {
    pub(crate) values: Address,
    pub(crate) gradients: Address,
    pub(crate) moment1: Address,
    pub(crate) moment2: Address,
    pub(crate) averages: Address,
    pub(crate) shadow: Address,
    pub(crate) turned: Address,
    pub(crate) coefficient: Address,
    pub(crate) overflow: Address,
    pub(crate) scalars: Address,
    pub(crate) progress: Address,
    pub(crate) tickets: Address,
    pub(crate) exact_beta2: f64,
    pub(crate) blocks: u32,
    pub(crate) dampening: f32,
    pub(crate) beta2: f32,
    pub(crate) one_minus_beta2: f32,
    pub(crate) eps: f32,
    pub(crate) nesterov: KilnNesterov,
    pub(crate) decay: KilnDecay,
    pub(crate) shadow_type: KilnCopyType,
    pub(crate) turned_count: u32,
    pub(crate) stretch_count: u32,
    pub(crate) stretches: [KilnStretch; 32usize],
}
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, PartialEq)]
pub(crate) struct KilnCastParams {
    pub(crate) y: Address,
    pub(crate) x: Address,
    pub(crate) count: u32,
}
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, PartialEq)]
pub(crate) struct KilnTransposeParams {
    pub(crate) y: Address,
    pub(crate) x: Address,
    pub(crate) rows: u32,
    pub(crate) columns: u32,
}
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, PartialEq)]
pub(crate) struct KilnBox {
    pub(crate) rank: u32,
    pub(crate) extents: [KilnDivider; 6usize],
    pub(crate) from: [u32; 6usize],
    pub(crate) to: [u32; 6usize],
}
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, PartialEq)]
pub(crate) struct KilnPiece {
    pub(crate) y: Address,
    pub(crate) x: Address,
    pub(crate) count: u32,
    pub(crate) moved: KilnBox,
}
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, PartialEq)]
pub(crate) struct KilnCopyParams {
    pub(crate) pieces: [KilnPiece; 8usize],
}
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, PartialEq)]
pub(crate) struct KilnTurnParams {
    pub(crate) y: Address,
    pub(crate) x: Address,
    pub(crate) outer: KilnBox,
    pub(crate) column_tiles: KilnDivider,
    pub(crate) row_tiles: KilnDivider,
    pub(crate) columns: u32,
    pub(crate) rows: u32,
    pub(crate) from: u32,
    pub(crate) to: u32,
}
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, PartialEq)]
pub(crate) struct KilnChoiceParams {
    pub(crate) y: Address,
    pub(crate) x: Address,
    pub(crate) index: Address,
    pub(crate) count: u32,
    pub(crate) rows: u32,
    pub(crate) inner: KilnDivider,
    pub(crate) picks: KilnDivider,
    pub(crate) nan: u32,
    pub(crate) elements: KilnDivider,
    pub(crate) scalars: Address,
    pub(crate) mask: KilnMask,
}
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, PartialEq)]
pub(crate) struct KilnChoiceGradientParams {
    pub(crate) dx: Address,
    pub(crate) index: Address,
    pub(crate) dy: Address,
    pub(crate) rows: u32,
    pub(crate) picks: u32,
    pub(crate) inner: u32,
    pub(crate) lines: u32,
    pub(crate) columns: KilnDivider,
    pub(crate) width: u32,
    pub(crate) group: u32,
    pub(crate) groups: KilnDivider,
    pub(crate) drops: u32,
    pub(crate) elements: KilnDivider,
    pub(crate) scalars: Address,
    pub(crate) mask: KilnMask,
}
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, PartialEq)]
pub(crate) struct KilnLinearTail {
    pub(crate) bias: Address,
    pub(crate) pre_activation: Address,
    pub(crate) residual: Address,
    pub(crate) scalars: Address,
    pub(crate) activation: KilnUnary,
    pub(crate) activation_parameter: f32,
    pub(crate) dropout: KilnRate,
    pub(crate) rows: KilnDivider,
    pub(crate) columns: u32,
    pub(crate) mask: KilnMask,
}
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, PartialEq)]
pub(crate) struct KilnInputGradientTail {
    pub(crate) mask_source: Address,
    pub(crate) residual: Address,
    pub(crate) mask_scale: f32,
}
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, PartialEq)]
pub(crate) struct KilnSplitK {
    pub(crate) partials: Address,
    pub(crate) tickets: Address,
    pub(crate) splits: i32,
}
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, PartialEq)]
pub(crate) struct KilnBatch {
    pub(crate) a: u64,
    pub(crate) b: u64,
    pub(crate) d: u64,
}
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, PartialEq)]
pub(crate) struct KilnLinearParams {
    pub(crate) d: Address,
    pub(crate) a: Address,
    pub(crate) b: Address,
    pub(crate) m: i32,
    pub(crate) n: i32,
    pub(crate) k: i32,
    pub(crate) lda: i32,
    pub(crate) ldb: i32,
    pub(crate) ldd: i32,
    pub(crate) split: KilnSplitK,
    pub(crate) batch: KilnBatch,
    pub(crate) tail: KilnLinearTail,
}
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, PartialEq)]
pub(crate) struct KilnInputGradientParams {
    pub(crate) d: Address,
    pub(crate) a: Address,
    pub(crate) b: Address,
    pub(crate) m: i32,
    pub(crate) n: i32,
    pub(crate) k: i32,
    pub(crate) lda: i32,
    pub(crate) ldb: i32,
    pub(crate) ldd: i32,
    pub(crate) split: KilnSplitK,
    pub(crate) batch: KilnBatch,
    pub(crate) tail: KilnInputGradientTail,
}
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, PartialEq)]
pub(crate) struct KilnWeightGradient {
    pub(crate) d: Address,
    pub(crate) d_bias: Address,
    pub(crate) a: Address,
    pub(crate) b: Address,
    pub(crate) m: i32,
    pub(crate) n: i32,
    pub(crate) k: i32,
    pub(crate) lda: i32,
    pub(crate) ldb: i32,
    pub(crate) first_block: u32,
    pub(crate) ticket: i32,
    pub(crate) store: KilnStore,
    pub(crate) partials: u64,
    pub(crate) bias_partials: u64,
    pub(crate) bias_ticket: i32,
    pub(crate) bias_parts: u32,
}
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, PartialEq)]
pub(crate) struct KilnWeightGradientParams {
    pub(crate) products: [KilnWeightGradient; 8usize],
    pub(crate) split: KilnSplitK,
    pub(crate) batch: KilnBatch,
    pub(crate) count: i32,
}
