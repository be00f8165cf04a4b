// SPDX-License-Identifier: MIT OR Apache-2.0
//! Gated recurrent units.

use super::stack::{Sizes, Stack};
use super::{RecurrentOptions, RecurrentOutput, Sequences};
use crate::graph::Var;
use crate::nn::{Module, Scope};
use crate::op::Cell;

/// Gated recurrent units (Cho et al. 2014, arXiv:1406.1078), as `torch.nn.GRU`, whose reset gate acts on
/// the product of the hidden state. In each step, with `x` the input and `h` the state that the step
/// before left:
///
/// ```text
/// r, z = sigmoid(W_ih x + b_ih + W_hh h + b_hh)
/// n = tanh(W_in x + b_in + r * (W_hn h + b_hn))
/// h' = (1 - z) * n + z * h
/// ```
///
/// All steps are one operation: a network's plan is as large for a thousand as for one.
///
/// # Shapes
/// `x`: `[samples, steps, inputs]`; output: `[samples, steps, hidden]`, twice as wide for two
/// directions; states: `[samples, hidden]` each. Parameters of layer `k`: `weight_ih_lk [3 hidden,
/// inputs]`, in higher layers as wide as the outputs below, `weight_hh_lk [3 hidden, hidden]`,
/// `bias_ih_lk` and `bias_hh_lk [3 hidden]`, each in the order r, z, n; those of the other direction
/// end in `_reverse`. All are uniform over `±1/sqrt(hidden)`.
///
/// # Errors
/// As [`Lstm`](super::Lstm).
///
/// ```
/// use kiln::nn::{Directions, Gru, RecurrentOptions};
/// use kiln::{Device, Net, Seed, Tensor};
///
/// let options = RecurrentOptions { directions: Directions::Both, ..RecurrentOptions::default() };
/// let mut net = Net::new(Device::cpu(), Seed(7), |p| {
///     Gru::with_options(&p.at("gru"), 3, 5, options)
/// })?;
/// assert_eq!(net.parameter("gru.weight_hh_l0_reverse")?.shape().dims(), [15, 5]);
/// let output = net.eval().forward(&Tensor::zeros([2, 7, 3]))?;
/// assert_eq!(output.shape().dims(), [2, 7, 10]);
/// # Ok::<(), kiln::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Gru(Stack);

impl Gru {
    /// One layer from `inputs` features to `hidden` units.
    pub fn new(p: &Scope, inputs: usize, hidden: usize) -> Self {
        Self::with_options(p, inputs, hidden, RecurrentOptions::default())
    }

    /// Layers of `hidden` units each, over `inputs` features.
    pub fn with_options(
        p: &Scope,
        inputs: usize,
        hidden: usize,
        options: RecurrentOptions,
    ) -> Self {
        Gru(Stack::new(p, Cell::Gru, Sizes { inputs, hidden, projected: None }, options))
    }

    /// The outputs of all steps and the last states.
    pub fn run<'a>(&self, sequences: impl Into<Sequences<'a>>) -> RecurrentOutput {
        self.0.run(&sequences.into())
    }
}

impl Module for Gru {
    /// The outputs of all steps.
    fn forward(&self, x: &Var) -> Var {
        self.run(x).output
    }
}
