// SPDX-License-Identifier: MIT OR Apache-2.0
//! Layers, written as the user reads them.
//!
//! A layer holds its options and the identities of its parameters; the numbers live in the
//! network. `forward` is called once per input shape to record a graph.

mod activation;
mod batch_norm;
mod conv;
mod dropout;
mod flatten;
pub(crate) mod init;
mod linear;
mod ops;
mod pool;
mod scope;
mod sequential;

pub use activation::{
    Gelu, GeluApproximation, LeakyRelu, LogSoftmax, Relu, Sigmoid, Silu, Softmax, Tanh,
};
pub use batch_norm::{Affine, BatchNorm, BatchNormOptions, Momentum, Tracking};
pub use conv::{Conv, Conv1d, Conv2d, Conv3d, ConvOptions, Padding};
pub use dropout::Dropout;
pub use flatten::Flatten;
pub use init::{Fan, Init};
pub use linear::Linear;
pub use ops::{Axis, Correction, Keep, Number, Operand};
pub use pool::{
    AvgPool, AvgPool1d, AvgPool2d, AvgPool3d, MaxPool, MaxPool1d, MaxPool2d, MaxPool3d,
};
pub use scope::Scope;
pub use sequential::Sequential;

pub(crate) use scope::Registry;

pub use crate::graph::Param;
pub use crate::kernel::Bias;
pub use crate::op::{Divisor, Rounding};

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
pub trait Module: Send + Sync {
    /// Records the forward pass; `x` has one sample per index of its first extent.
    fn forward(&self, x: &Var) -> Var;
}

impl<M: Module + ?Sized> Module for Box<M> {
    fn forward(&self, x: &Var) -> Var {
        (**self).forward(x)
    }
}
