// SPDX-License-Identifier: MIT OR Apache-2.0
//! Modules written with functions that no layer uses. Rows of a batch do not see one another.

use kiln::nn::{Correction, Init, Keep, Module, Param, Scope};
use kiln::Var;

/// Every function of one element, on numbers where it is smooth.
pub(crate) struct Functions;

impl Module for Functions {
    fn forward(&self, x: &Var) -> Var {
        let positive = x.square() + 0.5;
        let roots = positive.sqrt() + positive.rsqrt() - positive.reciprocal();
        let waves = x.sin() * 0.5 + x.cos() / 3.0 - x.erf();
        let powers = positive.powf(1.5) + positive.pow(x) - 2.0 / &positive;
        (1.0 - roots) * waves + 0.1 * powers
    }
}

/// Comparisons, choices and bounds.
pub(crate) struct Choices {
    gain: Param,
}

impl Choices {
    pub(crate) fn new(p: &Scope, width: usize) -> Self {
        Choices { gain: p.parameter("gain", [width], Init::Uniform { bound: 1.0 }) }
    }
}

impl Module for Choices {
    fn forward(&self, x: &Var) -> Var {
        let gain = x.parameter(&self.gain);
        let bounded = x.clamp(-0.5, 0.75) + x.abs().minimum(&gain) - x.maximum(0.25);
        // The branch that is not taken is not even finite.
        let guarded = x.gt(0.25).where_(x.log(), &gain * x);
        let same = gain.eq(&gain) * gain.ne(x) + x.le(&gain) - x.ge(0.5) * x.lt(&gain);
        bounded * same + guarded
    }
}

/// Sums, means, variances and extremes over the axes behind the first.
pub(crate) struct Reductions;

impl Module for Reductions {
    fn forward(&self, x: &Var) -> Var {
        let centred = x - x.mean_over([-1], Keep::Extents);
        let scale = (x.var_over([-1], Correction::Population, Keep::Extents) + 0.1).rsqrt();
        let largest = x.max_over([-1], Keep::Extents) - x.min_over([-1], Keep::Extents);
        let rank = x.shape().map_or(2, |shape| shape.rank());
        let all = x.sum_over(1..rank, Keep::Extents) * 0.1;
        centred * scale + (largest + all).tanh()
    }
}

/// Pieces of rows, put together in other orders.
pub(crate) struct Pieces;

impl Module for Pieces {
    fn forward(&self, x: &Var) -> Var {
        let width = x.shape().map_or(1, |shape| shape.last());
        let half = width.div_ceil(2);
        let (first, second) = (x.narrow(-1, 0, half), x.slice(-1, width - half..));
        let pairs = Var::stack(&[first.tanh(), second], -2).transpose(-1, -2);
        let padded = pairs.pad(-2, 1, 0).slice(-2, ..half).permute(match x.shape() {
            Some(shape) if shape.rank() == 3 => vec![0, 3, 1, 2],
            _ => vec![0, 2, 1],
        });
        Var::concat(&[padded.flatten(1), x.flatten(1)], 1)
    }
}

/// Each sample's rows attend to one another.
pub(crate) struct Attention;

impl Module for Attention {
    fn forward(&self, x: &Var) -> Var {
        let scores = x.tanh().matmul_transposed(x) * 0.3;
        let mixed = scores.softmax().matmul(x);
        // The same, with the factors turned.
        mixed.transpose(1, 2).matmul(&scores).transpose(1, 2)
    }
}

/// Rows of a table chosen by where the largest elements are, and elements chosen in turn.
pub(crate) struct Chosen {
    table: Param,
}

impl Chosen {
    pub(crate) fn new(p: &Scope, width: usize) -> Self {
        Chosen { table: p.parameter("table", [width, 3], Init::Uniform { bound: 1.0 }) }
    }
}

impl Module for Chosen {
    fn forward(&self, x: &Var) -> Var {
        let largest = x.argmax_over(-1, Keep::Nothing);
        let rows = x.parameter(&self.table).take(0, &largest);
        let smallest = x.argmin_over(-1, Keep::Extents);
        let gathered = x.gather(-1, &smallest);
        rows * gathered
    }
}
