// SPDX-License-Identifier: MIT OR Apache-2.0
//! A kernel launch as plain data.

use cudarc::driver::{
    CudaFunction, CudaStream, DeviceRepr, DriverError, LaunchConfig, PushKernelArg,
};

use super::abi::*;
use super::geometry::Grid;

/// A kernel, its grid and its parameters.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Launch {
    pub(super) kernel: String,
    pub(super) grid: Grid,
    pub(super) params: Params,
}

impl Launch {
    pub(super) fn new(kernel: impl Into<String>, grid: Grid, params: impl Into<Params>) -> Self {
        Launch { kernel: kernel.into(), grid, params: params.into() }
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

            // SAFETY: plain numbers in the layout that the kernels' header gives.
            unsafe impl DeviceRepr for $params {}
        )*

        impl Params {
            /// Puts a launch of `function` on a stream.
            ///
            /// # Safety
            /// The parameters are those of the function, and the memory that they name is the
            /// device's and outlives the launch.
            pub(super) unsafe fn launch(
                &self,
                function: &CudaFunction,
                grid: &Grid,
                stream: &std::sync::Arc<CudaStream>,
            ) -> Result<(), DriverError> {
                let [x, y, z] = grid.blocks;
                let [tx, ty, tz] = grid.threads;
                let config = LaunchConfig {
                    grid_dim: (x, y, z),
                    block_dim: (tx, ty, tz),
                    shared_mem_bytes: grid.shared,
                };
                let mut launch = stream.launch_builder(function);
                match self {
                    $(Params::$variant(params) => launch.arg(&**params),)*
                };
                // SAFETY: the caller's promise is passed on.
                unsafe { launch.launch(config) }.map(|_| ())
            }
        }
    };
}

params! {
    Cast(KilnCastParams),
    Copy(KilnCopyParams),
    Turn(KilnTurnParams),
    Choice(KilnChoiceParams),
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
    State(KilnStateParams),
    Optimizer(KilnOptimizerParams),
}
