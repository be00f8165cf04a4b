// SPDX-License-Identifier: MIT OR Apache-2.0
//! One small network per kernel: output and all gradients.

use super::{by_reference, difference, labels, largest, margin, numbers, tolerance, Check};
use crate::graph::Var;
use crate::loss::{CrossEntropy, Reduction};
use crate::nn::{
    Bias, Directions, Dropout, DropoutSchedule, Gru, Keep, Linear, Lstm, Module, RecurrentOptions,
    Rnn, Scope,
};
use crate::{Device, Net, Result, Seed, Shape, Tensor};

/// Sums of some hundred products in another order.
const TOLERANCE: f32 = 3e-5;
const SEED: Seed = Seed(11);

/// A network that is written down as a function.
struct Function(Box<dyn Fn(&Var) -> Var + Send + Sync>);

impl Module for Function {
    fn forward(&self, x: &Var) -> Var {
        (self.0)(x)
    }
}

type Make = fn(&Scope, usize) -> Function;

/// How zeros of a result are compared.
#[derive(Clone, Copy, PartialEq)]
enum Zeros {
    /// As numbers.
    AsNumbers,
    /// They are a mask, which must be the same.
    AsMask,
}

/// Whether an activation has a kink at 0, which its inputs must keep off.
#[derive(Clone, Copy, PartialEq)]
enum Kink {
    Absent,
    /// Behind the layer `first`.
    AtZero,
}

struct Case {
    what: &'static str,
    zeros: Zeros,
    kink: Kink,
    /// Whether samples are sequences.
    sequence: bool,
    make: Make,
}

/// Compares every layer and function.
pub(super) fn compare(device: &Device, size: usize) -> Result<Vec<Check>> {
    let mut checks = Vec::new();
    for case in cases() {
        checks.push(compare_case(device, size, &case)?);
    }
    for (what, loss, classes) in losses(size) {
        checks.push(compare_loss(device, size, what, &loss, classes)?);
    }
    Ok(checks)
}

fn cases() -> Vec<Case> {
    let (zeros, kink) = (Zeros::AsNumbers, Kink::Absent);
    let function = |what, make| Case { what, zeros, kink, sequence: false, make };
    let mask = |what, make| Case { zeros: Zeros::AsMask, ..function(what, make) };
    let sequence = |what, make| Case { sequence: true, ..function(what, make) };
    vec![
        function("linear", |p, n| layer(p, n, Bias::Added, |y| y)),
        function("linear without bias", |p, n| layer(p, n, Bias::Absent, |y| y)),
        Case {
            kink: Kink::AtZero,
            ..function("linear, leaky_relu", |p, n| layer(p, n, Bias::Added, |y| y.leaky_relu(0.1)))
        },
        function("linear, gelu", |p, n| layer(p, n, Bias::Added, |y| y.gelu())),
        function("linear, gelu_tanh", |p, n| layer(p, n, Bias::Added, |y| y.gelu_tanh())),
        function("linear, silu", |p, n| layer(p, n, Bias::Added, |y| y.silu())),
        function("linear, tanh", |p, n| layer(p, n, Bias::Added, |y| y.tanh())),
        function("linear, sigmoid", |p, n| layer(p, n, Bias::Added, |y| y.sigmoid())),
        Case {
            kink: Kink::AtZero,
            ..mask("linear, relu, dropout", |p, n| dropped(p, n, |y| y.relu()))
        },
        mask("linear, sigmoid, dropout", |p, n| dropped(p, n, |y| y.sigmoid())),
        Case {
            sequence: true,
            ..mask("linear, sigmoid, dropout of sequences", |p, n| dropped(p, n, |y| y.sigmoid()))
        },
        mask("dropout", |p, _| {
            let dropout = Dropout::new(&p.at("dropout"), 0.3);
            Function(Box::new(move |x| dropout.forward(x)))
        }),
        mask("dropout of everything", |p, _| {
            let dropout = Dropout::new(&p.at("dropout"), 1.0);
            Function(Box::new(move |x| dropout.forward(x)))
        }),
        mask("dropout at a rate that changes", |p, _| {
            let rates = DropoutSchedule::Table(vec![(0, 0.3), (1, 0.6), (2, 0.1)]);
            let dropout = Dropout::scheduled(&p.at("dropout"), rates);
            Function(Box::new(move |x| dropout.forward(x)))
        }),
        mask("linear, sigmoid, dropout at a rate that changes", |p, n| {
            let rising = |_: &str, p| DropoutSchedule::Linear { start: p, end: 0.7, passes: 2 };
            dropped(&p.with_dropout_schedule(rising), n, |y| y.sigmoid())
        }),
        function("relu", |_, _| plain(|x| x.relu())),
        function("leaky_relu", |_, _| plain(|x| x.leaky_relu(0.2))),
        function("gelu", |_, _| plain(|x| x.gelu())),
        function("gelu_tanh", |_, _| plain(|x| x.gelu_tanh())),
        function("silu", |_, _| plain(|x| x.silu())),
        function("tanh", |_, _| plain(|x| x.tanh())),
        function("sigmoid", |_, _| plain(|x| x.sigmoid())),
        function("softplus", |_, _| plain(|x| x.softplus())),
        function("exp", |_, _| plain(|x| x.exp())),
        function("log", |_, _| plain(|x| x.exp().log())),
        function("square, scale", |_, _| plain(|x| x.square().scale(0.7))),
        function("softmax", |_, _| plain(|x| x.softmax())),
        function("log_softmax", |_, _| plain(|x| x.log_softmax())),
        function("sums and repetition", |_, _| {
            plain(|x| x / &(&x.square().mean() + &x.exp().sum()))
        }),
        function("sums over axes", |_, _| {
            plain(|x| {
                let images = Var::stack(&[x.tanh(), x.exp()], 1);
                let middle = images.sum_over([1], Keep::Nothing);
                let pair = images.sum_over([0, 2], Keep::Extents) * 0.01;
                (images * pair).sum_over([1], Keep::Nothing) + middle
            })
        }),
        function("extremes and their places", |_, _| {
            plain(|x| {
                let widths = x.max_over([1], Keep::Extents) - x.min_over([1], Keep::Extents);
                let first = x.gather(1, &x.argmax_over(1, Keep::Extents));
                let least = x.gather(0, &x.argmin_over(0, Keep::Extents));
                x * widths + first * least
            })
        }),
        function("add, subtract, multiply", |_, _| plain(|x| &(x + &x.tanh()) - &(x * x))),
        function("products of matrices", |_, _| {
            plain(|x| x.matmul_transposed(&x.tanh()).matmul(x))
        }),
        function("transposed", |_, _| plain(|x| x.tanh().t().matmul(x))),
        sequence("lstm, dropout of all it yields", |p, n| {
            let (dropout, options) = (Dropout::new(&p.at("dropout"), 0.3), layers(1));
            let lstm = Lstm::with_options(&p.at("lstm"), n, n + 1, options);
            Function(Box::new(move |x| dropout.forward(&lstm.forward(x))))
        }),
        sequence("lstm of two layers, both ways", |p, n| {
            let options = RecurrentOptions { directions: Directions::Both, ..layers(2) };
            let lstm = Lstm::with_options(&p.at("lstm"), n, n + 3, options);
            Function(Box::new(move |x| lstm.run(x).last_hidden() * 2.0))
        }),
        sequence("lstm with masks inside and around", |p, n| {
            let options = RecurrentOptions {
                input_dropout: 0.2,
                output_dropout: 0.2,
                weight_dropout: 0.3,
                recurrent_dropout: 0.3,
                zoneout: 0.2,
                cell_zoneout: 0.3,
                ..layers(1)
            };
            let lstm = Lstm::with_options(&p.at("lstm"), n, n + 1, options);
            Function(Box::new(move |x| lstm.forward(x)))
        }),
        sequence("lstm of two layers, projected", |p, n| {
            let lstm = Lstm::projected(&p.at("lstm"), n, n + 2, n.div_ceil(2), layers(2));
            Function(Box::new(move |x| lstm.forward(x)))
        }),
        sequence("gru of two layers", |p, n| {
            let gru = Gru::with_options(&p.at("gru"), n, n + 1, layers(2));
            Function(Box::new(move |x| gru.forward(x)))
        }),
        sequence("rnn, tanh", |p, n| {
            let rnn = Rnn::new(&p.at("rnn"), n, n + 1);
            Function(Box::new(move |x| rnn.forward(x)))
        }),
        function("both transposed", |_, _| plain(|x| x.tanh().t().matmul_transposed(&x.t()))),
    ]
}

/// So many recurrent layers, with dropout between them.
fn layers(layers: usize) -> RecurrentOptions {
    let dropout = if layers > 1 { 0.3 } else { 0.0 };
    RecurrentOptions { layers, dropout, ..RecurrentOptions::default() }
}

fn plain(function: fn(&Var) -> Var) -> Function {
    Function(Box::new(function))
}

/// Two linear layers, so that the first gets a gradient through the second.
fn layer(p: &Scope, size: usize, bias: Bias, tail: fn(Var) -> Var) -> Function {
    let first = Linear::with_bias(&p.at("first"), size, size + 2, bias);
    let second = Linear::with_bias(&p.at("second"), size + 2, 2 * size + 1, bias);
    Function(Box::new(move |x| second.forward(&tail(first.forward(x)))))
}

fn dropped(p: &Scope, size: usize, tail: fn(Var) -> Var) -> Function {
    let first = Linear::new(&p.at("first"), size, 2 * size + 3);
    let dropout = Dropout::new(&p.at("dropout"), 0.3);
    Function(Box::new(move |x| dropout.forward(&tail(first.forward(x)))))
}

fn compare_case(device: &Device, size: usize, case: &Case) -> Result<Check> {
    let shape: Shape = match case.sequence {
        true => [size, 3, size].into(),
        false => [size + 1, size].into(),
    };
    let x = numbers(1, shape)?;
    let bias = match case.kink {
        Kink::AtZero => Some(by_reference(device, |cpu| bias_off_zero(&cpu, case, size, &x))?),
        Kink::Absent => None,
    };
    let run = |device: &Device| -> Result<_> {
        let mut net = Net::new(device.clone(), SEED, |p| (case.make)(p, size))?;
        if let Some(bias) = &bias {
            net.set_parameter("first.bias", bias)?;
        }
        // Twice, so that a captured run is compared too; dropout draws anew.
        let output = net.train().forward(&x)?;
        let dy = numbers(2, output.shape().clone())?;
        net.train().gradients(&x, &dy)?;
        let gradients = net.train().gradients(&x, &dy)?;
        let mut named = vec![("output".to_string(), output), ("output".into(), gradients.output)];
        named.extend(gradients.input.map(|input| ("input".to_string(), input)));
        named.extend(gradients.parameters);
        Ok(named)
    };
    let (got, reference) = (run(device)?, by_reference(device, |cpu| run(&cpu))?);
    let mut worst = 0.0;
    for ((name, got), (_, reference)) in got.iter().zip(&reference) {
        worst = largest(worst, difference(got, reference)?);
        if case.zeros == Zeros::AsMask && name == "output" && !same_zeros(got, reference)? {
            worst = f32::INFINITY;
        }
    }
    Ok(Check {
        what: format!("{} ({size})", case.what),
        worst,
        tolerance: tolerance(device, TOLERANCE),
    })
}

/// A bias of the layer `first` that keeps its results off 0.
fn bias_off_zero(reference: &Device, case: &Case, size: usize, x: &Tensor) -> Result<Tensor> {
    let mut net = Net::new(reference.clone(), SEED, |p| (case.make)(p, size))?;
    let bias = net.parameter("first.bias")?;
    let outputs = bias.shape().elements();
    let first = |p: &Scope| Linear::new(&p.at("first"), size, outputs);
    let results = Net::new(reference.clone(), SEED, first)?.eval().forward(x)?;
    margin::off_zero(&results, &bias)
}

fn same_zeros(got: &Tensor, reference: &Tensor) -> Result<bool> {
    let mut pairs = got.values()?.iter().zip(reference.values()?);
    Ok(pairs.all(|(got, reference)| (*got == 0.0) == (*reference == 0.0)))
}

fn losses(size: usize) -> Vec<(&'static str, CrossEntropy, usize)> {
    let weights = |classes: usize| Some((0..classes).map(|c| 0.5 + c as f32 * 0.1).collect());
    let smooth = CrossEntropy { label_smoothing: 0.1, ..CrossEntropy::default() };
    let plain = CrossEntropy::default();
    vec![
        ("linear with cross-entropy", plain.clone(), 10),
        (
            "linear with weighted cross-entropy",
            CrossEntropy { weights: weights(3), ..smooth.clone() },
            3,
        ),
        ("cross-entropy of many classes", smooth.clone(), 64 + size),
        (
            "cross-entropy of aligned classes",
            CrossEntropy { weights: weights(96), ..plain.clone() },
            96,
        ),
        ("smoothed cross-entropy", CrossEntropy { weights: weights(96), ..smooth }, 96),
        ("summed cross-entropy", CrossEntropy { reduction: Reduction::Sum, ..plain }, 100),
    ]
}

fn compare_loss(
    device: &Device,
    size: usize,
    what: &str,
    loss: &CrossEntropy,
    classes: usize,
) -> Result<Check> {
    let (x, y) = (numbers(3, [size + 2, size])?, labels(size + 2, classes)?);
    let run = |device: &Device| -> Result<_> {
        let make = |p: &Scope| Linear::new(&p.at("fc"), size, classes);
        let mut net = Net::new(device.clone(), Seed(5), make)?;
        let (value, output) = net.eval().loss_and_output(loss, &x, &y)?;
        let gradients = net.train().loss_gradients(loss, &x, &y)?;
        let mut all = vec![value, output, gradients.output];
        all.extend(gradients.input);
        all.extend(gradients.parameters.into_iter().map(|(_, gradient)| gradient));
        Ok(all)
    };
    let (got, reference) = (run(device)?, by_reference(device, |cpu| run(&cpu))?);
    let mut worst = 0.0;
    for (got, reference) in got.iter().zip(&reference) {
        worst = largest(worst, difference(got, reference)?);
    }
    Ok(Check { what: format!("{what} ({size})"), worst, tolerance: tolerance(device, TOLERANCE) })
}
