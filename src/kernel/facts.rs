// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the passes need to know about a backend.

use crate::graph::MemoryFormat;
use crate::Precision;

/// What the passes need to know about a backend.
#[derive(Clone, Debug, PartialEq)]
pub struct Facts {
    /// The device, as a user names it: `"cpu"`, `"cuda:0"`.
    pub name: String,
    /// Number of lanes that can run at the same time.
    pub lanes: usize,
    /// Alignment of buffers in the arena, in bytes.
    pub alignment: usize,
    /// Whether kernels can use host memory directly.
    pub host_memory: HostMemory,
    /// Bytes at the arena's beginning for what the host gives with a run beside its tensors.
    pub given: usize,
    /// Where the optimiser runs when nothing has to see all gradients first.
    pub update_place: UpdatePlace,
    /// How far kernels reach.
    pub fusion: Fusion,
    /// Which weight gradients share a launch, where kernels reach across layers.
    pub grouping: Grouping,
    /// How exactly kernels compute.
    pub precision: Precision,
    /// How rounded values lie in memory.
    pub storage: Storage,
    /// The order of elements in which kernels take images.
    pub image_format: MemoryFormat,
    /// Who computes convolutions, pooling and normalisation.
    pub images: ImageKernels,
}

/// Whether a backend has kernels of images: convolutions, pooling, normalisation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageKernels {
    /// It has, for images that lie channels-last.
    Own,
    /// It has, and convolutions are the sums that they mean, even where another way is faster.
    Precise,
    /// It has none: such operations are computed one by one, by their plain meaning.
    Absent,
}

/// How values that are rounded to a 16-bit type lie in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Storage {
    /// As numbers of that type, but for those that a run returns.
    Typed,
    /// As `f32`.
    Widened,
}

/// How far kernels reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fusion {
    /// A kernel computes within one layer.
    WithinLayers,
    /// Kernels also span layers, where launches cost more than what they compute: the last linear
    /// layer with its loss, all layers' weight gradients together.
    AcrossLayers,
}

/// Which products of several layers share a launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grouping {
    /// Products of so many outputs keep the device busy alone: they begin as soon as their factors are there.
    pub fills: usize,
    /// Most products of a launch.
    pub most: usize,
    /// What extents of outputs must have for the fast kernels: at least so many elements, and a multiple of
    /// so many. Products that have not are left to a launch of their own.
    pub whole: Option<[usize; 2]>,
}

impl Grouping {
    /// No launch is shared.
    pub const NONE: Grouping = Grouping { fills: 0, most: 1, whole: None };
}

/// How a run's inputs and outputs reach the kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostMemory {
    /// Kernels read and write host tensors themselves.
    Direct,
    /// Inputs are copied to the device and outputs back.
    Copied,
}

/// Where the optimiser runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpdatePlace {
    /// In the tail of the weight-gradient kernel.
    WeightGradient,
    /// In one pass over all parameters.
    Flat,
}
