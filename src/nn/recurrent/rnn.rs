// SPDX-License-Identifier: MIT OR Apache-2.0
//! Elman's recurrent layers.

use super::stack::{Sizes, Stack};
use super::{RecurrentOptions, RecurrentOutput, Sequences};
use crate::graph::Var;
use crate::nn::{Module, Scope};
use crate::op::Cell;

/// Recurrent layers without gates (Elman 1990), as `torch.nn.RNN`: in each step
/// `h' = tanh(W_ih x + b_ih + W_hh h + b_hh)`, or `max(..., 0)`.
///
/// All steps are one operation: a network's plan is as large for a thousand as for one.
///
/// # Shapes
/// `x`: `[samples, steps, inputs]`; output: `[samples, steps, hidden]`, twice as wide for two
/// directions; states: `[samples, hidden]` each. Parameters of layer `k`: `weight_ih_lk [hidden,
/// inputs]`, in higher layers as wide as the outputs below, `weight_hh_lk [hidden, hidden]`,
/// `bias_ih_lk` and `bias_hh_lk [hidden]`; those of the other direction end in `_reverse`. All are
/// uniform over `±1/sqrt(hidden)`.
///
/// # Errors
/// As [`Lstm`](super::Lstm).
///
/// ```
/// use kiln::nn::{Nonlinearity, RecurrentOptions, Rnn};
/// use kiln::{Device, Net, Seed, Tensor};
///
/// let mut net = Net::new(Device::cpu(), Seed(7), |p| {
///     Rnn::with_options(p, 3, 5, Nonlinearity::Relu, RecurrentOptions::default())
/// })?;
/// let output = net.eval().forward(&Tensor::zeros([2, 7, 3]))?;
/// assert_eq!(output.shape().dims(), [2, 7, 5]);
/// # Ok::<(), kiln::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Rnn(Stack);

/// What an [`Rnn`] applies to its sums.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Nonlinearity {
    /// The hyperbolic tangent.
    #[default]
    Tanh,
    /// `max(x, 0)`.
    Relu,
}

impl Rnn {
    /// One layer from `inputs` features to `hidden` units, with the hyperbolic tangent.
    pub fn new(p: &Scope, inputs: usize, hidden: usize) -> Self {
        Self::with_options(p, inputs, hidden, Nonlinearity::Tanh, RecurrentOptions::default())
    }

    /// Layers of `hidden` units each, over `inputs` features.
    pub fn with_options(
        p: &Scope,
        inputs: usize,
        hidden: usize,
        nonlinearity: Nonlinearity,
        options: RecurrentOptions,
    ) -> Self {
        let cell = match nonlinearity {
            Nonlinearity::Tanh => Cell::Tanh,
            Nonlinearity::Relu => Cell::Relu,
        };
        Rnn(Stack::new(p, cell, Sizes { inputs, hidden, projected: None }, options))
    }

    /// The outputs of all steps and the last states.
    pub fn run<'a>(&self, sequences: impl Into<Sequences<'a>>) -> RecurrentOutput {
        self.0.run(&sequences.into())
    }
}

impl Module for Rnn {
    /// The outputs of all steps.
    fn forward(&self, x: &Var) -> Var {
        self.run(x).output
    }
}
