// SPDX-License-Identifier: MIT OR Apache-2.0
//! Long short-term memory.

use super::stack::{Sizes, Stack};
use super::{RecurrentOptions, RecurrentOutput, Sequences};
use crate::graph::Var;
use crate::nn::{Module, Scope};
use crate::op::Cell;

/// Long short-term memory (Hochreiter & Schmidhuber 1997; Gers et al. 2000), as `torch.nn.LSTM`. In
/// each step, with `x` the input and `h` and `c` the states that the step before left:
///
/// ```text
/// i, f, o = sigmoid(W_ih x + b_ih + W_hh h + b_hh)    g = tanh(the same)
/// c' = f * c + i * g                                  h' = o * tanh(c')
/// ```
///
/// All steps are one operation: a network's plan is as large for a thousand as for one.
///
/// # Shapes
/// `x`: `[samples, steps, inputs]`; output: `[samples, steps, hidden]`, twice as wide for two
/// directions; states: `[samples, hidden]` each. Parameters of layer `k`: `weight_ih_lk [4 hidden,
/// inputs]`, in higher layers as wide as the outputs below, `weight_hh_lk [4 hidden, hidden]`,
/// `bias_ih_lk` and `bias_hh_lk [4 hidden]`, each in the order i, f, g, o; those of the other direction
/// end in `_reverse`. All are uniform over `±1/sqrt(hidden)`.
///
/// # Errors
/// Sizes of 0 and rates outside `[0, 1]` come back from [`Net::new`](crate::Net::new), inputs and states
/// of other shapes from tracing, both with the layer's path. A rate of dropout with only one layer,
/// which drops nothing, is logged as a warning.
///
/// ```
/// use kiln::nn::{Lstm, RecurrentOptions};
/// use kiln::{Device, Net, Seed, Tensor};
///
/// let options = RecurrentOptions { layers: 2, dropout: 0.3, ..RecurrentOptions::default() };
/// let mut net = Net::new(Device::cpu(), Seed(7), |p| {
///     Lstm::with_options(&p.at("lstm"), 3, 5, options)
/// })?;
/// assert_eq!(net.parameter("lstm.weight_ih_l1")?.shape().dims(), [20, 5]);
/// let output = net.eval().forward(&Tensor::zeros([2, 7, 3]))?;
/// assert_eq!(output.shape().dims(), [2, 7, 5]);
/// # Ok::<(), kiln::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Lstm(Stack);

impl Lstm {
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
        Lstm(Stack::new(p, Cell::Lstm, Sizes { inputs, hidden, projected: None }, options))
    }

    /// Layers whose hidden states are projected to `projected` features, fewer than there are units,
    /// before anything takes them (Sak et al. 2014, arXiv:1402.1128): PyTorch's `proj_size`. Outputs and
    /// hidden states have so many features, `weight_hr_lk [projected, hidden]` is the projection.
    pub fn projected(
        p: &Scope,
        inputs: usize,
        hidden: usize,
        projected: usize,
        options: RecurrentOptions,
    ) -> Self {
        let sizes = Sizes { inputs, hidden, projected: Some(projected) };
        Lstm(Stack::new(p, Cell::Lstm, sizes, options))
    }

    /// The outputs of all steps and the last states.
    pub fn run<'a>(&self, sequences: impl Into<Sequences<'a>>) -> RecurrentOutput {
        self.0.run(&sequences.into())
    }
}

impl Module for Lstm {
    /// The outputs of all steps.
    fn forward(&self, x: &Var) -> Var {
        self.run(x).output
    }
}
