// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the host and the kernels agree on. Written by `cargo xtask abi` from `kernels/abi_images.h`.

use super::abi::*;
use super::memory::Address;

pub(crate) const KILN_PARTS_TOGETHER: u32 = 16;
pub(crate) const KILN_THIN_CHANNELS: u32 = 4;
pub(crate) const KILN_THIN_COLUMNS: u32 = 64;
pub(crate) const KILN_THIN_STRIP: u32 = 4;
pub(crate) const KILN_THIN_PRODUCTS: u32 = 180;
pub(crate) const KILN_THIN_PAD: u32 = 4;
pub(crate) const KILN_THIN_HELD: u32 = 9;
pub(crate) const KILN_CONV_GROUP: u32 = 4;
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, PartialEq)]
pub(crate) struct KilnChannelDropoutParams {
    pub(crate) y: Address,
    pub(crate) x: Address,
    pub(crate) scalars: Address,
    pub(crate) samples: u32,
    pub(crate) positions: u32,
    pub(crate) channels: u32,
    pub(crate) blocks: KilnDivider,
    pub(crate) rows: KilnDivider,
    pub(crate) mask: KilnMask,
}
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, PartialEq)]
pub(crate) struct KilnTakeBytesParams {
    pub(crate) y: Address,
    pub(crate) x: Address,
    pub(crate) palette: Address,
    pub(crate) index: Address,
    pub(crate) count: u32,
    pub(crate) rows: u32,
    pub(crate) row: KilnDivider,
    pub(crate) plane: KilnDivider,
}
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, PartialEq)]
pub(crate) struct KilnWindowAxis {
    pub(crate) image: KilnDivider,
    pub(crate) places: KilnDivider,
    pub(crate) stride: KilnDivider,
    pub(crate) kernel: u32,
    pub(crate) dilation: u32,
    pub(crate) before: u32,
    pub(crate) after: u32,
}
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, PartialEq)]
pub(crate) struct KilnPoolParams {
    pub(crate) y: Address,
    pub(crate) x: Address,
    pub(crate) index: Address,
    pub(crate) samples: u32,
    pub(crate) channels: u32,
    pub(crate) chunks: KilnDivider,
    pub(crate) window: [KilnWindowAxis; 3usize],
    pub(crate) fixed: u32,
    pub(crate) padded: u32,
    pub(crate) planar: u32,
}
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, PartialEq)]
pub(crate) struct KilnGroups {
    pub(crate) rows: u32,
    pub(crate) columns: u32,
    pub(crate) width: u32,
    pub(crate) splits: u32,
    pub(crate) chunks: KilnDivider,
    pub(crate) partials: Address,
    pub(crate) tickets: Address,
}
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, PartialEq)]
pub(crate) struct KilnRunning {
    pub(crate) mean: Address,
    pub(crate) variance: Address,
    pub(crate) count: Address,
    pub(crate) kept_mean: f32,
    pub(crate) taken_mean: f32,
    pub(crate) kept_variance: f32,
    pub(crate) taken_variance: f32,
}
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, PartialEq)]
pub(crate) struct KilnNormalizeParams {
    pub(crate) y: Address,
    pub(crate) x: Address,
    pub(crate) dy: Address,
    pub(crate) mean: Address,
    pub(crate) variance: Address,
    pub(crate) gamma: Address,
    pub(crate) shift: Address,
    pub(crate) d_mean: Address,
    pub(crate) d_variance: Address,
    pub(crate) d_gamma: Address,
    pub(crate) d_beta: Address,
    pub(crate) eps: f32,
    pub(crate) is_gradient: u32,
    pub(crate) groups: KilnGroups,
    pub(crate) running: KilnRunning,
}
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, PartialEq)]
pub(crate) struct KilnBatchNormParams {
    pub(crate) y: Address,
    pub(crate) x: Address,
    pub(crate) dy: Address,
    pub(crate) source: Address,
    pub(crate) residual: Address,
    pub(crate) mean: Address,
    pub(crate) variance: Address,
    pub(crate) gamma: Address,
    pub(crate) beta: Address,
    pub(crate) d_mean: Address,
    pub(crate) d_variance: Address,
    pub(crate) d_gamma: Address,
    pub(crate) d_beta: Address,
    pub(crate) scalars: Address,
    pub(crate) eps: f32,
    pub(crate) source_scale: f32,
    pub(crate) store: KilnStore,
    pub(crate) relu: u32,
    pub(crate) dropout: u32,
    pub(crate) places: KilnDivider,
    pub(crate) mask: KilnMask,
    pub(crate) groups: KilnGroups,
}
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, PartialEq)]
pub(crate) struct KilnHeadParams {
    pub(crate) batch: KilnBatchNormParams,
    pub(crate) loss: KilnCrossEntropyLoss,
    pub(crate) weight: Address,
    pub(crate) bias: Address,
    pub(crate) pooled: Address,
    pub(crate) d_scores: Address,
    pub(crate) scores: Address,
    pub(crate) places: [u32; 2usize],
    pub(crate) window: [u32; 2usize],
}
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, PartialEq)]
pub(crate) struct KilnTerm {
    pub(crate) from: u32,
    pub(crate) weight: f32,
}
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, PartialEq)]
pub(crate) struct KilnBlendParams {
    pub(crate) y: Address,
    pub(crate) x: Address,
    pub(crate) starts: Address,
    pub(crate) terms: Address,
    pub(crate) outer: u32,
    pub(crate) extent: u32,
    pub(crate) chunks: KilnDivider,
    pub(crate) places: KilnDivider,
}
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, PartialEq)]
pub(crate) struct KilnGather {
    pub(crate) positions: [KilnDivider; 3usize],
    pub(crate) taps: [KilnDivider; 3usize],
    pub(crate) steps: [KilnDivider; 3usize],
    pub(crate) scales: [i32; 3usize],
    pub(crate) offsets: [i32; 3usize],
    pub(crate) reaches: [i32; 3usize],
    pub(crate) extents: [u32; 3usize],
    pub(crate) sample: u32,
    pub(crate) position: u32,
    pub(crate) channel: u32,
    pub(crate) channels: KilnDivider,
}
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, PartialEq)]
pub(crate) struct KilnWindows {
    pub(crate) shifts: [u32; 3usize],
    pub(crate) height: u32,
    pub(crate) width: u32,
    pub(crate) index: Address,
}
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, PartialEq)]
pub(crate) struct KilnColumnSums {
    pub(crate) mean: Address,
    pub(crate) variance: Address,
    pub(crate) running: KilnRunning,
    pub(crate) x: Address,
    pub(crate) d_mean: Address,
    pub(crate) d_variance: Address,
    pub(crate) d_gamma: Address,
    pub(crate) d_beta: Address,
    pub(crate) store: KilnStore,
    pub(crate) partials: Address,
    pub(crate) tickets: Address,
}
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, PartialEq)]
pub(crate) struct KilnConvParams {
    pub(crate) d: Address,
    pub(crate) a: Address,
    pub(crate) b: Address,
    pub(crate) gather: KilnGather,
    pub(crate) m: i32,
    pub(crate) n: i32,
    pub(crate) k: i32,
    pub(crate) ld: i32,
    pub(crate) column_tiles: KilnDivider,
    pub(crate) places: KilnDivider,
    pub(crate) strips: KilnDivider,
    pub(crate) split: KilnSplitK,
    pub(crate) windows: KilnWindows,
    pub(crate) planar: u32,
    pub(crate) bias: Address,
    pub(crate) residual: Address,
    pub(crate) mean: Address,
    pub(crate) variance: Address,
    pub(crate) gamma: Address,
    pub(crate) beta: Address,
    pub(crate) mask_source: Address,
    pub(crate) scalars: Address,
    pub(crate) activation: KilnUnary,
    pub(crate) activation_parameter: f32,
    pub(crate) mask_scale: f32,
    pub(crate) eps: f32,
    pub(crate) dropout: u32,
    pub(crate) mask: KilnMask,
    pub(crate) columns: KilnColumnSums,
}
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, PartialEq)]
pub(crate) struct KilnBatchLine {
    pub(crate) x: Address,
    pub(crate) mean: Address,
    pub(crate) variance: Address,
    pub(crate) gamma: Address,
    pub(crate) d_mean: Address,
    pub(crate) d_variance: Address,
    pub(crate) eps: f32,
}
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, PartialEq)]
pub(crate) struct KilnConvWeightGradient {
    pub(crate) d: Address,
    pub(crate) d_bias: Address,
    pub(crate) a: Address,
    pub(crate) b: Address,
    pub(crate) line: KilnBatchLine,
    pub(crate) gather: KilnGather,
    pub(crate) m: i32,
    pub(crate) n: i32,
    pub(crate) k: i32,
    pub(crate) ld: i32,
    pub(crate) groups: u32,
    pub(crate) splits: u32,
    pub(crate) thin: u32,
    pub(crate) first_block: u32,
    pub(crate) ticket: u32,
    pub(crate) partials: u64,
    pub(crate) store: KilnStore,
}
#[repr(C)]
#[derive(Debug, Default, Copy, Clone, PartialEq)]
pub(crate) struct KilnConvWeightGradientParams {
    pub(crate) layers: [KilnConvWeightGradient; 4usize],
    pub(crate) count: u32,
    pub(crate) partials: Address,
    pub(crate) tickets: Address,
}
