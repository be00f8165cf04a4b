// SPDX-License-Identifier: MIT OR Apache-2.0
//! Layer normalisation inside of an LSTM.

use crate::graph::Var;
use crate::nn::layer_norm::rows_normalised;
use crate::nn::{Bias, Init, Param, Scope};

/// What is added to variances, as in [`LayerNorm`](crate::nn::LayerNorm).
const EPS: f64 = 1e-5;

/// The three normalisations of a layer in one direction.
#[derive(Clone, Debug)]
pub(super) struct Norms {
    /// Of the products of inputs.
    pub(super) inputs: Norm,
    /// Of the products of the hidden state.
    pub(super) hidden: Norm,
    /// Of the cell state, on its way to the hidden state.
    pub(super) cell: Norm,
}

/// Rows brought to mean 0 and variance 1, times a gain and with a bias.
#[derive(Clone, Debug)]
pub(super) struct Norm {
    weight: Param,
    bias: Option<Param>,
}

impl Norms {
    pub(super) fn new(p: &Scope, hidden: usize, gates: usize, bias: Bias, suffix: &str) -> Self {
        let norm = |what: &str, width: usize| {
            let parameter = |name: &str, value: f32| {
                p.parameter(&format!("norm_{what}_{name}_{suffix}"), [width], Init::Constant(value))
            };
            let weight = parameter("weight", 1.0);
            Norm { weight, bias: (bias == Bias::Added).then(|| parameter("bias", 0.0)) }
        };
        let sums = gates.saturating_mul(hidden);
        Norms { inputs: norm("ih", sums), hidden: norm("hh", sums), cell: norm("cell", hidden) }
    }
}

impl Norm {
    pub(super) fn of(&self, x: &Var) -> Var {
        let y = rows_normalised(x, self.weight.shape().last(), EPS) * x.parameter(&self.weight);
        match &self.bias {
            Some(bias) => y + x.parameter(bias),
            None => y,
        }
    }
}
