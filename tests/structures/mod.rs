// SPDX-License-Identifier: MIT OR Apache-2.0
//! Networks with several inputs and outputs, small ones: what they compute, how they are trained and
//! resumed on every backend, and how wrong input is refused.

mod gradients;
mod mistakes;
mod modes;
mod training;

use kiln::loss::{CrossEntropy, Loss, Reduction};
use kiln::nn::{BatchNorm, Dropout, Init, Keep, Linear, Module, Param, Scope};
use kiln::{Device, Net, Seed, Tensor, Var};

use crate::common::zoo::SEED;
use crate::common::Numbers;

pub(crate) const SAMPLES: usize = 6;
pub(crate) const FEATURES: usize = 7;
pub(crate) const CLASSES: usize = 5;
const HIDDEN: usize = 12;

/// Two inputs through one tower, whose dropout draws a mask in each call.
pub(crate) struct Siamese {
    tower: Linear,
    dropout: Dropout,
    head: Linear,
}

impl Siamese {
    pub(crate) fn new(p: &Scope, rate: f32) -> Self {
        Siamese {
            tower: Linear::new(&p.at("tower"), FEATURES, HIDDEN),
            dropout: Dropout::new(&p.at("dropout"), rate),
            head: Linear::new(&p.at("head"), HIDDEN, 1),
        }
    }

    fn half(&self, x: &Var) -> Var {
        self.dropout.forward(&self.tower.forward(x).relu())
    }
}

impl Module<(Var, Var)> for Siamese {
    fn forward(&self, (a, b): &(Var, Var)) -> Var {
        self.head.forward(&(&self.half(a) * &self.half(b)))
    }
}

/// Class scores and the input again, from one trunk.
pub(crate) struct TwoOutputs {
    trunk: Linear,
    scores: Linear,
    again: Linear,
}

impl TwoOutputs {
    pub(crate) fn new(p: &Scope) -> Self {
        TwoOutputs {
            trunk: Linear::new(&p.at("trunk"), FEATURES, HIDDEN),
            scores: Linear::new(&p.at("scores"), HIDDEN, CLASSES),
            again: Linear::new(&p.at("again"), HIDDEN, FEATURES),
        }
    }
}

impl Module<Var, (Var, Var)> for TwoOutputs {
    fn forward(&self, x: &Var) -> (Var, Var) {
        let x = self.trunk.forward(x).relu();
        (self.scores.forward(&x), self.again.forward(&x))
    }
}

/// How unexpected each class of a second input is, by a linear layer of the first.
pub(crate) struct IntegerInput {
    fc: Linear,
}

impl IntegerInput {
    pub(crate) fn new(p: &Scope) -> Self {
        IntegerInput { fc: Linear::new(&p.at("fc"), FEATURES, CLASSES) }
    }
}

impl Module<(Var, Var)> for IntegerInput {
    fn forward(&self, (x, classes): &(Var, Var)) -> Var {
        let each = CrossEntropy { reduction: Reduction::None, ..CrossEntropy::default() };
        each.forward(&self.fc.forward(x), classes, &[])
    }
}

/// Rows of a table that integers name, and the number of the largest of them.
struct Embedding {
    table: Param,
    norm: Option<BatchNorm>,
    fc: Linear,
}

/// Rows of the table of [`Embedding`].
const ROWS: usize = 9;

impl Embedding {
    fn new(p: &Scope) -> Self {
        Embedding {
            table: p.parameter("table", [ROWS, FEATURES], Init::Uniform { bound: 1.0 }),
            norm: None,
            fc: Linear::new(&p.at("fc"), FEATURES, CLASSES),
        }
    }

    /// The same with state that training changes.
    fn normalised(p: &Scope) -> Self {
        let norm = Some(BatchNorm::new(&p.at("norm"), FEATURES));
        Embedding { norm, ..Embedding::new(p) }
    }
}

impl Module<(Var, Var), (Var, Var)> for Embedding {
    fn forward(&self, (tokens, x): &(Var, Var)) -> (Var, Var) {
        let rows = tokens.parameter(&self.table).take(0, tokens);
        let rows = &rows * x;
        let rows = self.norm.as_ref().map_or_else(|| rows.clone(), |norm| norm.forward(&rows));
        let scores = self.fc.forward(&rows);
        let guesses = scores.argmax_over(1, Keep::Nothing);
        (scores, guesses)
    }
}

/// Any number of inputs through one layer; as many outputs, each the sum of those so far.
struct Sums {
    fc: Linear,
}

impl Sums {
    fn new(p: &Scope) -> Self {
        Sums { fc: Linear::new(&p.at("fc"), FEATURES, HIDDEN) }
    }
}

impl Module<Vec<Var>, Vec<Var>> for Sums {
    fn forward(&self, inputs: &Vec<Var>) -> Vec<Var> {
        let mut sums: Vec<Var> = Vec::new();
        for input in inputs {
            let next = self.fc.forward(input).tanh();
            sums.push(sums.last().map_or_else(|| next.clone(), |sum| sum + &next));
        }
        sums
    }
}

fn siamese(device: Device, rate: f32) -> Net<Siamese> {
    Net::new(device, Seed(SEED), |p| Siamese::new(p, rate)).expect("a network")
}

fn two_outputs(device: Device) -> Net<TwoOutputs> {
    Net::new(device, Seed(SEED), TwoOutputs::new).expect("a network")
}

/// Inputs of the networks; the number says which.
fn x(number: u64) -> Tensor {
    Numbers::new(number).tensor(&[SAMPLES, FEATURES])
}

fn labels(number: u64) -> Tensor {
    Numbers::new(number).labels(SAMPLES, CLASSES)
}
