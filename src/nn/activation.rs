// SPDX-License-Identifier: MIT OR Apache-2.0
//! Activation functions as modules; each is also a method of [`Var`].

use super::Module;
use crate::graph::Var;

/// `max(x, 0)`, as `torch.nn.ReLU`; NaN stays NaN.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Relu;

/// `x` if positive, else `slope * x`, as `torch.nn.LeakyReLU`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LeakyRelu {
    /// Factor of negative elements; 0.01 by default.
    pub slope: f32,
}

/// `x * Phi(x)`, as `torch.nn.GELU` (Hendrycks & Gimpel 2016, arXiv:1606.08415).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gelu {
    /// How the normal distribution function is computed.
    pub approximation: GeluApproximation,
}

/// How [`Gelu`] computes the normal distribution function.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GeluApproximation {
    /// By the error function: PyTorch's `approximate="none"`.
    #[default]
    None,
    /// By a hyperbolic tangent: PyTorch's `approximate="tanh"`.
    Tanh,
}

/// `x * sigmoid(x)`, as `torch.nn.SiLU`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Silu;

/// Hyperbolic tangent, as `torch.nn.Tanh`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tanh;

/// `1 / (1 + exp(-x))`, as `torch.nn.Sigmoid`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sigmoid;

/// `exp(x) / sum(exp(x))` over the innermost extent, as `torch.nn.Softmax(dim=-1)`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Softmax;

/// The logarithm of softmax over the innermost extent, as `torch.nn.LogSoftmax(dim=-1)`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogSoftmax;

impl Default for LeakyRelu {
    fn default() -> Self {
        LeakyRelu { slope: 0.01 }
    }
}

impl Module for Relu {
    fn forward(&self, x: &Var) -> Var {
        x.relu()
    }
}

impl Module for LeakyRelu {
    fn forward(&self, x: &Var) -> Var {
        x.leaky_relu(self.slope)
    }
}

impl Module for Gelu {
    fn forward(&self, x: &Var) -> Var {
        match self.approximation {
            GeluApproximation::None => x.gelu(),
            GeluApproximation::Tanh => x.gelu_tanh(),
        }
    }
}

impl Module for Silu {
    fn forward(&self, x: &Var) -> Var {
        x.silu()
    }
}

impl Module for Tanh {
    fn forward(&self, x: &Var) -> Var {
        x.tanh()
    }
}

impl Module for Sigmoid {
    fn forward(&self, x: &Var) -> Var {
        x.sigmoid()
    }
}

impl Module for Softmax {
    fn forward(&self, x: &Var) -> Var {
        x.softmax()
    }
}

impl Module for LogSoftmax {
    fn forward(&self, x: &Var) -> Var {
        x.log_softmax()
    }
}
