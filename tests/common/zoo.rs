// SPDX-License-Identifier: MIT OR Apache-2.0
//! Every layer and loss, once: a law that is stated over these lists is a law of all of them.

use kiln::loss::{BceWithLogits, CrossEntropy, Loss, Mse, Reduction};
use kiln::models::SimpleNet;
use kiln::nn::{
    Bias, Directions, Dropout, DropoutSchedule, Flatten, Gelu, GeluApproximation, Gru, Init,
    LeakyRelu, Linear, LogSoftmax, Lstm, Module, Nonlinearity, Param, RecurrentOptions, Relu, Rnn,
    Scope, Sequential, Sigmoid, Silu, Softmax, Tanh,
};
use kiln::{Device, Net, Seed, Tensor, Var};

use super::vocabulary::{Attention, Choices, Chosen, Functions, Pieces, Reductions};
use super::Numbers;

/// The seed of all networks of the zoo.
pub(crate) const SEED: u64 = 0x0123_4567_89ab_cdef;

/// Features of [`Layer::entry`]: few, so that wide layers stay cheap to train.
const ENTRY: usize = 5;

/// Builds a layer; the number is the rate of its dropout, if it has any.
pub(crate) type Build = fn(&Scope, &[usize], f32) -> Box<dyn Module>;

/// A layer with an input to try it on.
#[derive(Clone)]
pub(crate) struct Layer {
    pub(crate) name: &'static str,
    pub(crate) input: Vec<usize>,
    build: Build,
}

/// A loss with the shape of the scores to try it on.
pub(crate) struct LossCase {
    pub(crate) name: &'static str,
    pub(crate) scores: [usize; 2],
    pub(crate) loss: Box<dyn Loss>,
}

/// All layers. Among the extents are 1, odd ones below and above a vector's width, and 1000.
pub(crate) fn layers() -> Vec<Layer> {
    let mut all = Vec::new();
    let mut add = |name, inputs: &[&[usize]], build: Build| {
        all.extend(inputs.iter().map(|input| Layer { name, input: input.to_vec(), build }));
    };
    let elements: &[&[usize]] = &[&[1, 1], &[31, 33], &[3, 1000], &[2, 3, 5, 7]];
    let rows: &[&[usize]] = &[&[7, 1], &[31, 33], &[2, 1000], &[3, 5, 7]];
    let matrices: &[&[usize]] = &[&[1, 1], &[31, 33], &[33, 31], &[2, 1000], &[1, 64], &[3, 5, 31]];
    add("relu", elements, |_, _, _| Box::new(Relu));
    add("leaky_relu", elements, |_, _, _| Box::new(LeakyRelu { slope: 0.2 }));
    add("gelu", elements, |_, _, _| Box::new(Gelu::default()));
    add("gelu_tanh", elements, |_, _, _| Box::new(Gelu { approximation: GeluApproximation::Tanh }));
    add("silu", elements, |_, _, _| Box::new(Silu));
    add("tanh", elements, |_, _, _| Box::new(Tanh));
    add("sigmoid", elements, |_, _, _| Box::new(Sigmoid));
    add("softmax", rows, |_, _, _| Box::new(Softmax));
    add("log_softmax", rows, |_, _, _| Box::new(LogSoftmax));
    add("flatten", &[&[3, 2, 5, 7]], |_, _, _| Box::new(Flatten::default()));
    add("dropout", elements, |p, _, rate| Box::new(Dropout::new(&p.at("dropout"), rate)));
    add("dropout_twice", rows, |p, _, rate| Box::new(Twice(Dropout::new(&p.at("dropout"), rate))));
    add("linear", matrices, |p, x, _| Box::new(Linear::new(p, last(x), 33)));
    add("linear_to_one", matrices, |p, x, _| Box::new(Linear::new(p, last(x), 1)));
    add("linear_no_bias", matrices, |p, x, _| {
        Box::new(Linear::with_bias(p, last(x), 31, Bias::Absent))
    });
    add("residual", &[&[7, 1], &[31, 33], &[3, 5, 7]], |p, x, _| {
        Box::new(Residual(Linear::new(&p.at("fc"), last(x), last(x))))
    });
    add("arithmetic", rows, |p, x, _| Box::new(Arithmetic::new(p, last(x))));
    add("of_parameters", &[&[5, 7], &[31, 33]], |p, x, _| Box::new(OfParameters::new(p, last(x))));
    add("products", &[&[5, 7], &[31, 33]], |_, _, _| Box::new(Products));
    add("functions", elements, |_, _, _| Box::new(Functions));
    add("choices", rows, |p, x, _| Box::new(Choices::new(p, last(x))));
    add("reductions", &[&[31, 33], &[3, 5, 7]], |_, _, _| Box::new(Reductions));
    add("pieces", &[&[5, 8], &[2, 33], &[3, 4, 7]], |_, _, _| Box::new(Pieces));
    add("attention", &[&[2, 3, 5], &[3, 17, 8]], |_, _, _| Box::new(Attention));
    add("chosen", &[&[7, 1], &[31, 33]], |p, x, _| Box::new(Chosen::new(p, last(x))));
    let sequences: &[&[usize]] = &[&[1, 1, 1], &[3, 5, 7], &[13, 3, 33]];
    add("lstm", sequences, |p, x, _| Box::new(Lstm::new(p, last(x), 9)));
    add("lstm_stack", &[&[5, 4, 7], &[50, 2, 5]], |p, x, rate| {
        Box::new(Lstm::with_options(p, last(x), 17, stack(rate)))
    });
    add("lstm_projected", &[&[5, 4, 7]], |p, x, rate| {
        Box::new(Lstm::projected(p, last(x), 9, 4, stack(rate)))
    });
    add("gru", sequences, |p, x, _| Box::new(Gru::new(p, last(x), 9)));
    add("gru_stack", &[&[5, 4, 7]], |p, x, rate| {
        Box::new(Gru::with_options(p, last(x), 17, stack(rate)))
    });
    add("rnn", sequences, |p, x, _| Box::new(Rnn::new(p, last(x), 9)));
    add("rnn_stack", &[&[5, 4, 7]], |p, x, rate| {
        Box::new(Rnn::with_options(p, last(x), 17, Nonlinearity::Relu, stack(rate)))
    });
    super::recurrent_zoo::add_to(&mut add);
    super::image_zoo::add_to(&mut add);
    add("simple_net", &[&[1, 31], &[33, 49]], |p, x, rate| {
        Box::new(SimpleNet::new(p, last(x), 33, 10, rate))
    });
    add("linear_relu_dropout", matrices, |p, x, rate| block(p, x, rate, |_| Relu));
    add("linear_gelu_dropout", matrices, |p, x, rate| block(p, x, rate, |_| Gelu::default()));
    add("linear_tanh_dropout", matrices, |p, x, rate| block(p, x, rate, |_| Tanh));
    add("linear_leaky_dropout", matrices, |p, x, rate| block(p, x, rate, |_| LeakyRelu::default()));
    all
}

/// All losses; reductions to one number, as training takes them.
pub(crate) fn losses() -> Vec<LossCase> {
    let mut all = Vec::new();
    for reduction in [Reduction::Mean, Reduction::Sum] {
        let mut add = |name, scores: [usize; 2], loss: Box<dyn Loss>| {
            all.push(LossCase { name, scores, loss });
        };
        for scores in [[1, 1], [31, 33], [2, 1000], [33, 10]] {
            add("mse", scores, Box::new(Mse { reduction }));
            add("bce_with_logits", scores, Box::new(BceWithLogits { reduction }));
            let plain = CrossEntropy { reduction, ..CrossEntropy::default() };
            add("cross_entropy", scores, Box::new(plain.clone()));
            let smooth = CrossEntropy { label_smoothing: 0.1, ..plain };
            add("cross_entropy_smooth", scores, Box::new(smooth.clone()));
            let weights = (0..scores[1]).map(|class| 0.5 + (class % 3) as f32).collect();
            let weighted = CrossEntropy { weights: Some(weights), ignore_index: 0, ..smooth };
            if scores[1] > 1 {
                add("cross_entropy_weighted_ignoring", scores, Box::new(weighted));
            }
        }
    }
    all
}

impl Layer {
    /// The layer as a network of its own.
    pub(crate) fn net(&self, device: Device, rate: f32) -> Net<Box<dyn Module>> {
        Net::new(device, Seed(SEED), |p| (self.build)(p, &self.input, rate)).expect("a network")
    }

    /// The same with dropout whose rate may change.
    pub(crate) fn net_at_changing_rates(&self, device: Device, rate: f32) -> Net<Box<dyn Module>> {
        let make = |p: &Scope| {
            let p = p.with_dropout_schedule(|_, rate| DropoutSchedule::Constant(rate));
            (self.build)(&p, &self.input, rate)
        };
        Net::new(device, Seed(SEED), make).expect("a network")
    }

    /// The layer behind a linear one, so that there is something to train.
    pub(crate) fn trainable(&self, device: Device, rate: f32) -> Net<Behind> {
        let make = |p: &Scope| Behind {
            first: Linear::new(&p.at("first"), ENTRY, last(&self.input)),
            layer: (self.build)(&p.at("layer"), &self.input, rate),
        };
        Net::new(device, Seed(SEED), make).expect("a network")
    }

    /// The layer behind a dropout.
    pub(crate) fn behind_dropout(&self, device: Device, rate: f32) -> Net<BehindDropout> {
        let make = |p: &Scope| BehindDropout {
            dropout: Dropout::new(&p.at("first"), rate),
            layer: (self.build)(&p.at("layer"), &self.input, rate),
        };
        Net::new(device, Seed(SEED), make).expect("a network")
    }

    pub(crate) fn x(&self) -> Tensor {
        Numbers::new(1).tensor(&self.input)
    }

    /// An input of the layer behind a linear one.
    pub(crate) fn entry(&self) -> Tensor {
        let mut shape = self.input.clone();
        *shape.last_mut().expect("inputs have extents") = ENTRY;
        Numbers::new(1).tensor(&shape)
    }

    pub(crate) fn label(&self) -> String {
        format!("{} {:?}", self.name, self.input)
    }
}

impl LossCase {
    pub(crate) fn x(&self) -> Tensor {
        Numbers::new(2).tensor(&self.scores)
    }

    pub(crate) fn target(&self) -> Tensor {
        let [samples, width] = self.scores;
        match self.name {
            "mse" | "bce_with_logits" => {
                let values = Numbers::new(3).tensor(&self.scores);
                let share = |x: &f32| x.abs() / 2.0;
                let values = values.values().expect("f32").iter().map(share).collect();
                Tensor::new(self.scores, values).expect("the same elements")
            }
            _ => Numbers::new(3).labels(samples, width),
        }
    }

    pub(crate) fn label(&self) -> String {
        format!("{} {:?} {}", self.name, self.scores, self.loss.key())
    }
}

/// A layer behind a linear one.
pub(crate) struct Behind {
    first: Linear,
    layer: Box<dyn Module>,
}

impl Module for Behind {
    fn forward(&self, x: &Var) -> Var {
        self.layer.forward(&self.first.forward(x))
    }
}

/// A layer behind a dropout.
pub(crate) struct BehindDropout {
    dropout: Dropout,
    layer: Box<dyn Module>,
}

impl Module for BehindDropout {
    fn forward(&self, x: &Var) -> Var {
        self.layer.forward(&self.dropout.forward(x))
    }
}

/// One dropout layer called twice, as the article's RNNClassifier does.
pub(crate) struct Twice(pub(crate) Dropout);

impl Module for Twice {
    fn forward(&self, x: &Var) -> Var {
        let first = self.0.forward(x);
        self.0.forward(&first)
    }
}

/// `x + fc(x)`.
pub(crate) struct Residual(pub(crate) Linear);

impl Module for Residual {
    fn forward(&self, x: &Var) -> Var {
        x + &self.0.forward(x)
    }
}

/// Operations that no layer uses: quotients, differences, exponentials, broadcasts, means.
struct Arithmetic {
    gain: Param,
}

impl Arithmetic {
    fn new(p: &Scope, width: usize) -> Self {
        Arithmetic { gain: p.parameter("gain", [width], Init::Uniform { bound: 1.0 }) }
    }
}

impl Module for Arithmetic {
    fn forward(&self, x: &Var) -> Var {
        let gain = x.parameter(&self.gain);
        let positive = &x.square().scale(0.5) + &x.scale(-0.25).exp();
        let quotient = &(&(x * &gain) - &x.softplus()) / &positive;
        &(&quotient + &positive.log()) - &x.mean()
    }
}

/// Linear maps of parameters, whose layout in memory is that of weights and biases.
struct OfParameters {
    matrix: Param,
    row: Param,
    out: Param,
    back: Param,
}

impl OfParameters {
    fn new(p: &Scope, width: usize) -> Self {
        let init = Init::Uniform { bound: 0.5 };
        OfParameters {
            matrix: p.linear_weight("matrix", 5, 37, init),
            row: p.parameter("row", [37], init),
            out: p.linear_weight("out", width, 37, init),
            back: p.linear_weight("back", 37, width, init),
        }
    }
}

impl Module for OfParameters {
    fn forward(&self, x: &Var) -> Var {
        let [matrix, row, out, back] =
            [&self.matrix, &self.row, &self.out, &self.back].map(|param| x.parameter(param));
        let row = row.reshape([1, 37]).matmul_transposed(&out);
        let matrix = &matrix.matmul_transposed(&out) + &matrix.matmul(&back);
        (x + &row).matmul_transposed(&matrix.scale(0.1))
    }
}

/// Products of activations with one another.
struct Products;

impl Module for Products {
    fn forward(&self, x: &Var) -> Var {
        let gram = x.t().matmul(x).scale(0.1);
        x.matmul(&gram).matmul_transposed(&gram)
    }
}

/// Two recurrent layers in both directions with dropout between them.
fn stack(dropout: f32) -> RecurrentOptions {
    let directions = Directions::Both;
    RecurrentOptions { layers: 2, directions, dropout, ..RecurrentOptions::default() }
}

fn block<M: Module + 'static>(
    p: &Scope,
    input: &[usize],
    rate: f32,
    activation: fn(&Scope) -> M,
) -> Box<dyn Module> {
    let inputs = last(input);
    let linear = move |p: &Scope| Linear::new(p, inputs, 31);
    let dropout = move |p: &Scope| Dropout::new(p, rate);
    Box::new(Sequential::new(p).with(linear).with(activation).with(dropout))
}

fn last(shape: &[usize]) -> usize {
    *shape.last().expect("inputs have extents")
}
