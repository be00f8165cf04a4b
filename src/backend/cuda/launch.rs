// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is put on a stream, as plain data: launches, copies and fills.

use std::ffi::c_void;
use std::ptr;

use cudarc::driver::sys::{
    CUfunction, CUlaunchAttribute, CUlaunchAttributeID, CUlaunchAttributeValue,
    CUlaunchAttributeValue_union__bindgen_ty_1 as ClusterDimension, CUlaunchConfig, CUstream,
};

use super::abi::*;
use super::abi_images::*;
use super::abi_recurrent::*;
use super::calls::{self, DriverError};
use super::memory::Address;

/// A piece of a step's work on the device.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Item {
    Launch(Launch),
    Copy(Copy),
    Fill(Fill),
}

/// A kernel, its grid and its parameters.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Launch {
    pub(super) kernel: String,
    pub(super) grid: Grid,
    pub(super) attributes: Attributes,
    pub(super) params: Params,
    /// Bytes that it moves beyond those of the step that it is a part of: casts.
    pub(super) extra_bytes: usize,
}

/// Blocks, threads and shared memory of a launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Grid {
    pub(super) blocks: [u32; 3],
    pub(super) threads: [u32; 3],
    /// Dynamic shared memory in bytes.
    pub(super) shared: u32,
}

/// What a launch asks of the device beyond its grid. Drivers refuse what a device cannot grant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Attributes {
    pub(super) residency: Residency,
    /// Blocks of a cluster along x, y and z, which divide those of the grid; from sm_90 on.
    pub(super) cluster: Option<[u32; 3]>,
}

/// Which blocks of a grid are on the device at the same time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Residency {
    /// As many as there is room for.
    #[default]
    Any,
    /// All, so that they may wait for each other: a cooperative launch.
    All,
}

/// A copy within the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Copy {
    pub(super) to: Address,
    pub(super) from: Address,
    pub(super) bytes: usize,
}

/// The bits of a number of four bytes, repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fill {
    pub(super) at: Address,
    pub(super) bits: u32,
    pub(super) count: usize,
}

impl Item {
    /// Whether it does nothing.
    pub(super) fn is_empty(&self) -> bool {
        match self {
            Item::Launch(launch) => launch.grid.is_empty(),
            Item::Copy(copy) => copy.bytes == 0,
            Item::Fill(fill) => fill.count == 0,
        }
    }
}

impl Grid {
    /// Whether there is nothing to run.
    pub(super) fn is_empty(&self) -> bool {
        self.blocks.contains(&0)
    }
}

impl From<Launch> for Item {
    fn from(launch: Launch) -> Self {
        Item::Launch(launch)
    }
}

impl Launch {
    pub(super) fn new(kernel: impl Into<String>, grid: Grid, params: impl Into<Params>) -> Self {
        let (attributes, extra_bytes) = (Attributes::default(), 0);
        Launch { kernel: kernel.into(), grid, attributes, params: params.into(), extra_bytes }
    }

    /// Puts it on a stream of the context that is current.
    ///
    /// # Safety
    /// `function` is the kernel's, its parameters are those that it takes, and the memory that they
    /// name is the device's and outlives the launch.
    pub(super) unsafe fn issue(
        &self,
        function: CUfunction,
        stream: CUstream,
    ) -> Result<(), DriverError> {
        let [x, y, z] = self.grid.blocks;
        let [tx, ty, tz] = self.grid.threads;
        let mut attributes = self.attributes.for_driver();
        let config = CUlaunchConfig {
            gridDimX: x,
            gridDimY: y,
            gridDimZ: z,
            blockDimX: tx,
            blockDimY: ty,
            blockDimZ: tz,
            sharedMemBytes: self.grid.shared,
            hStream: stream,
            attrs: if attributes.is_empty() { ptr::null_mut() } else { attributes.as_mut_ptr() },
            numAttrs: u32::try_from(attributes.len()).unwrap_or(u32::MAX),
        };
        let mut parameters = [self.params.address()];
        // SAFETY: by the caller's promise; the driver copies configuration, attributes and
        // parameters before it returns.
        unsafe {
            calls::cuLaunchKernelEx(&config, function, parameters.as_mut_ptr(), ptr::null_mut())
        }
    }
}

impl Attributes {
    fn for_driver(self) -> Vec<CUlaunchAttribute> {
        use CUlaunchAttributeID::{
            CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION, CU_LAUNCH_ATTRIBUTE_COOPERATIVE,
        };
        let mut attributes = Vec::new();
        let mut add = |id, value| attributes.push(CUlaunchAttribute { id, pad: [0; 4], value });
        if self.residency == Residency::All {
            let value = CUlaunchAttributeValue { cooperative: 1 };
            add(CU_LAUNCH_ATTRIBUTE_COOPERATIVE, value);
        }
        if let Some([x, y, z]) = self.cluster {
            let value = CUlaunchAttributeValue { clusterDim: ClusterDimension { x, y, z } };
            add(CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION, value);
        }
        attributes
    }
}

impl Copy {
    /// Puts it on a stream.
    ///
    /// # Safety
    /// Both ranges are device memory that outlives the copy, and they do not overlap.
    pub(super) unsafe fn issue(&self, stream: CUstream) -> Result<(), DriverError> {
        // SAFETY: by the caller's promise.
        unsafe { calls::cuMemcpyDtoDAsync_v2(self.to.0, self.from.0, self.bytes, stream) }
    }
}

impl Fill {
    pub(super) fn bytes(&self) -> usize {
        4 * self.count
    }

    /// Puts it on a stream.
    ///
    /// # Safety
    /// The range is device memory that outlives the fill.
    pub(super) unsafe fn issue(&self, stream: CUstream) -> Result<(), DriverError> {
        // SAFETY: by the caller's promise.
        unsafe { calls::cuMemsetD32Async(self.at.0, self.bits, self.count, stream) }
    }
}

/// Defines [`Params`] over the structures of `kernels/abi.h`.
macro_rules! params {
    ($($variant:ident($params:ident),)*) => {
        /// The parameters of one kernel.
        #[derive(Clone, Debug, PartialEq)]
        pub(super) enum Params {
            $($variant(Box<$params>),)*
        }

        $(
            impl From<$params> for Params {
                fn from(params: $params) -> Self {
                    Params::$variant(Box::new(params))
                }
            }
        )*

        impl Params {
            /// Where the structure lies, plain numbers in the layout that the kernels' header gives.
            fn address(&self) -> *mut c_void {
                match self {
                    $(Params::$variant(params) => ptr::from_ref(&**params).cast_mut().cast(),)*
                }
            }
        }
    };
}

params! {
    Cast(KilnCastParams),
    Copy(KilnCopyParams),
    Turn(KilnTurnParams),
    Choice(KilnChoiceParams),
    TakeBytes(KilnTakeBytesParams),
    ChoiceGradient(KilnChoiceGradientParams),
    Linear(KilnLinearParams),
    InputGradient(KilnInputGradientParams),
    WeightGradients(KilnWeightGradientParams),
    LinearCrossEntropy(KilnLinearCrossEntropyParams),
    CrossEntropy(KilnCrossEntropyParams),
    Dropout(KilnDropoutParams),
    ChannelDropout(KilnChannelDropoutParams),
    Chain(KilnChainParams),
    Softmax(KilnSoftmaxParams),
    Reduce(KilnReduceParams),
    Fold(KilnFoldParams),
    Transpose(KilnTransposeParams),
    Norm(KilnNormParams),
    Unscale(KilnUnscaleParams),
    State(KilnStateParams),
    Optimizer(KilnOptimizerParams),
    Pool(KilnPoolParams),
    Normalize(KilnNormalizeParams),
    Conv(KilnConvParams),
    Recurrent(KilnRecurrentParams),
    RecurrentGradient(KilnRecurrentGradientParams),
    ConvWeightGradients(KilnConvWeightGradientParams),
    BatchNorm(KilnBatchNormParams),
    Blend(KilnBlendParams),
}
