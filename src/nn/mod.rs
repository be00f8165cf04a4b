// SPDX-License-Identifier: MIT OR Apache-2.0
//! Layers, written as the user reads them.
//!
//! A layer holds its options and the identities of its parameters; the numbers live in the
//! network. `forward` is called once per input shape to record a graph.

mod activation;
mod adaptive_pool;
mod alpha_dropout;
mod batch_norm;
mod channel_dropout;
mod conv;
mod conv_transpose;
mod drop_block;
mod dropout;
mod dropout_schedule;
mod embedding;
mod flatten;
mod given_masks;
mod group_norm;
pub(crate) mod init;
mod instance_norm;
mod layer_norm;
mod linear;
mod locked_dropout;
mod ops;
mod pool;
mod rates;
mod recurrent;
mod scope;
mod sequential;
mod stochastic_depth;
mod upsample;
mod zero_pad;

pub use activation::{
    Gelu, GeluApproximation, LeakyRelu, LogSoftmax, Relu, Sigmoid, Silu, Softmax, Tanh,
};
pub use adaptive_pool::AdaptiveAvgPool2d;
pub use alpha_dropout::{AlphaDropout, FeatureAlphaDropout};
pub use batch_norm::{Affine, BatchNorm, BatchNormOptions, Momentum, Tracking};
pub use channel_dropout::{ChannelDropout, Dropout1d, Dropout2d, Dropout3d};
pub use conv::{Conv, Conv1d, Conv2d, Conv3d, ConvOptions, Padding};
pub use conv_transpose::{
    ConvTranspose, ConvTranspose1d, ConvTranspose2d, ConvTranspose3d, ConvTransposeOptions,
};
pub use drop_block::DropBlock2d;
pub use dropout::Dropout;
pub use dropout_schedule::{DropoutFn, DropoutSchedule};
pub use embedding::{Embedding, EmbeddingOptions};
pub use flatten::Flatten;
pub use given_masks::GivenMasks;
pub use group_norm::{GroupNorm, GroupNormOptions};
pub use init::{Fan, Init};
pub use instance_norm::{InstanceNorm2d, InstanceNormOptions};
pub use layer_norm::{LayerNorm, LayerNormOptions};
pub use linear::Linear;
pub use locked_dropout::LockedDropout;
pub use ops::{Axis, Correction, Keep, Number, Operand};
pub use pool::{
    AvgPool, AvgPool1d, AvgPool2d, AvgPool3d, MaxPool, MaxPool1d, MaxPool2d, MaxPool3d,
};
pub use recurrent::{
    Between, Directions, GateNorm, Gru, Lstm, Nonlinearity, RecurrentOptions, RecurrentOutput, Rnn,
    SequenceOrder, Sequences,
};
pub use scope::Scope;
pub use sequential::Sequential;
pub use stochastic_depth::StochasticDepth;
pub use upsample::{Corners, Upsample, UpsampleMode};
pub use zero_pad::ZeroPad2d;

pub(crate) use dropout_schedule::is_dropout_rate;
pub(crate) use rates::{RateChange, Rates};
pub(crate) use scope::Registry;

pub use crate::graph::Param;
pub use crate::kernel::Bias;
pub use crate::op::{Divisor, Rounding};

use std::sync::Arc;

use crate::graph::Var;

/// Anything with a forward pass: a layer, or a network made of layers.
///
/// A module moves to other threads with its network, and several threads may predict with it.
///
/// ```
/// use kiln::nn::{Linear, Module, Scope};
/// use kiln::Var;
///
/// struct Perceptron { fc1: Linear, fc2: Linear }
///
/// impl Perceptron {
///     fn new(p: &Scope) -> Self {
///         Perceptron { fc1: Linear::new(&p.at("fc1"), 4, 8), fc2: Linear::new(&p.at("fc2"), 8, 3) }
///     }
/// }
///
/// impl Module for Perceptron {
///     fn forward(&self, x: &Var) -> Var {
///         self.fc2.forward(&self.fc1.forward(x).relu())
///     }
/// }
/// ```
///
/// What it takes and what it returns are its own to say, in the [structures](crate::Values) that
/// networks take and return, and among layers in any other. Here both scores come from the same
/// layer, whose gradients add up; a [`Dropout`] that is called twice draws two masks:
///
/// ```
/// use kiln::nn::{Linear, Module};
/// use kiln::{Device, Net, Seed, Tensor, Var};
///
/// struct Compare { tower: Linear, head: Linear }
///
/// impl Module<(Var, Var), (Var, Var)> for Compare {
///     fn forward(&self, (a, b): &(Var, Var)) -> (Var, Var) {
///         let (a, b) = (self.tower.forward(a).relu(), self.tower.forward(b).relu());
///         (&a - &b, self.head.forward(&(&a * &b)))
///     }
/// }
///
/// let mut net = Net::new(Device::cpu(), Seed(7), |p| Compare {
///     tower: Linear::new(&p.at("tower"), 5, 3),
///     head: Linear::new(&p.at("head"), 3, 1),
/// })?;
/// let (a, b) = (Tensor::zeros([2, 5]), Tensor::zeros([2, 5]));
/// let (difference, score) = net.eval().forward((&a, &b))?;
/// assert_eq!((difference.shape().dims(), score.shape().dims()), (&[2, 3][..], &[2, 1][..]));
/// # Ok::<(), kiln::Error>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no forward pass from `{In}` to `{Out}`",
    note = "it needs an `impl Module<{In}, {Out}> for {Self}`; `Module` alone is `Module<Var, Var>`"
)]
pub trait Module<In = Var, Out = Var>: Send + Sync {
    /// Records the forward pass; each value has one sample per index of its first extent.
    fn forward(&self, inputs: &In) -> Out;
}

impl<In, Out, M: Module<In, Out> + ?Sized> Module<In, Out> for Box<M> {
    fn forward(&self, inputs: &In) -> Out {
        (**self).forward(inputs)
    }
}

/// A module in several places of a network: its parameters are registered once, and their gradients
/// add up.
impl<In, Out, M: Module<In, Out> + ?Sized> Module<In, Out> for Arc<M> {
    fn forward(&self, inputs: &In) -> Out {
        (**self).forward(inputs)
    }
}
