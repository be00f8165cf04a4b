// SPDX-License-Identifier: MIT OR Apache-2.0
//! Fixtures of recurrent layers, with states and lengths, and of embeddings.

use kiln::nn::{
    Bias, Directions, Embedding, EmbeddingOptions, Gru, Lstm, Module, Nonlinearity,
    RecurrentOptions, RecurrentOutput, Rnn, Scope, SequenceOrder, Sequences,
};
use kiln::{DType, Device, Net, Seed, Tensor, Var};

use crate::common::close::{assert_close, compare, doubles, Tolerance};
use crate::common::golden::{Fixture, Golden};

/// A recurrent layer whose inputs are sequences, hidden and cell states and lengths, as far as there
/// are, and which returns outputs and states.
struct Recurrent {
    layer: Layer,
    order: SequenceOrder,
    hidden: usize,
    cell: usize,
}

enum Layer {
    Lstm(Lstm),
    Gru(Gru),
    Rnn(Rnn),
}

impl Module<Vec<Var>, Vec<Var>> for Recurrent {
    fn forward(&self, inputs: &Vec<Var>) -> Vec<Var> {
        let (x, rest) = inputs.split_first().expect("sequences");
        let (hidden, rest) = rest.split_at(self.hidden);
        let (cell, lengths) = rest.split_at(self.cell);
        let ordered = |x: &Var| match self.order {
            SequenceOrder::SamplesFirst => x.clone(),
            SequenceOrder::StepsFirst => x.transpose(0, 1),
        };
        let x = ordered(x);
        let mut sequences = Sequences::new(&x).from_states(hidden, cell);
        if let Some(lengths) = lengths.first() {
            sequences = sequences.with_lengths(lengths);
        }
        let RecurrentOutput { output, hidden, cell } = match &self.layer {
            Layer::Lstm(lstm) => lstm.run(sequences),
            Layer::Gru(gru) => gru.run(sequences),
            Layer::Rnn(rnn) => rnn.run(sequences),
        };
        let mut results = vec![ordered(&output)];
        results.extend(hidden.into_iter().chain(cell));
        results
    }
}

impl Recurrent {
    fn new(fixture: &Fixture, p: &Scope) -> Self {
        let is = |name: &str| fixture.option(name) == "true";
        let order = match is("batch_first") {
            true => SequenceOrder::SamplesFirst,
            false => SequenceOrder::StepsFirst,
        };
        let options = RecurrentOptions {
            layers: fixture.number("layers"),
            bias: if is("bias") { Bias::Added } else { Bias::Absent },
            directions: if is("both") { Directions::Both } else { Directions::Forward },
            order,
            ..RecurrentOptions::default()
        };
        let [inputs, hidden, projected] =
            ["inputs", "hidden", "projected"].map(|name| fixture.number(name));
        let layer = match (fixture.option("name"), projected) {
            ("lstm", 0) => Layer::Lstm(Lstm::with_options(p, inputs, hidden, options)),
            ("lstm", _) => Layer::Lstm(Lstm::projected(p, inputs, hidden, projected, options)),
            ("gru", _) => Layer::Gru(Gru::with_options(p, inputs, hidden, options)),
            _ => {
                let nonlinearity = match fixture.option("nonlinearity") {
                    "relu" => Nonlinearity::Relu,
                    _ => Nonlinearity::Tanh,
                };
                Layer::Rnn(Rnn::with_options(p, inputs, hidden, nonlinearity, options))
            }
        };
        let count = |name: &str| fixture.tensors.get(name).map_or(0, |t| t.shape[0]);
        let [hidden, cell] = ["initial.hidden", "initial.cell"].map(count);
        Recurrent { layer, order, hidden, cell }
    }
}

pub(super) fn agree(fixture: &Fixture, device: &Device) -> f64 {
    let make = |p: &Scope| Recurrent::new(fixture, p);
    let mut net = Net::new(device.clone(), Seed(7), make).expect("a network");
    for (name, value) in fixture.below("param.") {
        net.set_parameter(name, &value.tensor()).expect("a parameter of this shape");
    }
    let stacked = |names: &[&str]| -> Vec<Tensor> {
        let known = names.iter().filter_map(|name| fixture.tensors.get(*name));
        known.flat_map(states).collect()
    };
    let mut inputs = vec![fixture.tensor("input")];
    inputs.extend(stacked(&["initial.hidden", "initial.cell"]));
    inputs.extend(fixture.tensors.get("lengths").map(Golden::tensor));
    let mut cotangents = vec![fixture.tensor("cotangent.output")];
    cotangents.extend(stacked(&["cotangent.hidden", "cotangent.cell"]));

    let t = Tolerance::balanced(DType::F32);
    let mut worst: f64 = 0.0;
    let mut agree = |what: &str, found: &Tensor, expected: &Tensor| {
        let what = format!("{}: {what}", fixture.stem);
        worst = worst.max(assert_close(&what, found, &doubles(expected), t));
    };
    let found = net.eval().gradients(&inputs, &cotangents).expect("gradients");
    let forward = net.eval().forward(&inputs).expect("a forward pass");
    let mut expected = vec![fixture.tensor("output")];
    expected.extend(stacked(&["hidden", "cell"]));
    assert_eq!((found.output.len(), forward.len()), (expected.len(), expected.len()));
    for (number, expected) in expected.iter().enumerate() {
        agree(&format!("result {number}"), &found.output[number], expected);
        agree(&format!("result {number} alone"), &forward[number], expected);
    }
    let mut slopes = vec![fixture.tensor("grad.input")];
    slopes.extend(stacked(&["grad.initial.hidden", "grad.initial.cell"]));
    for (number, expected) in slopes.iter().enumerate() {
        let gradient = found.input[number].as_ref().expect("a gradient");
        agree(&format!("gradient of input {number}"), gradient, expected);
    }
    for (name, gradient) in &found.parameters {
        agree(name, gradient, &fixture.tensor(&format!("grad.param.{name}")));
    }
    assert_eq!(found.parameters.len(), fixture.below("grad.param.").count(), "{}", fixture.stem);
    near_the_largest(fixture, &forward[0]);
    worst
}

/// Outputs are within 1e-5 of the largest.
fn near_the_largest(fixture: &Fixture, output: &Tensor) {
    let expected = &fixture.get("output").values;
    let largest = expected.iter().fold(0.0, |m: f64, x| m.max(x.abs()));
    let t = Tolerance { absolute: 1e-5 * largest, relative: 0.0 };
    let shape = output.shape().dims();
    compare(&fixture.stem, shape, &doubles(output), expected, t).expect("outputs of PyTorch");
}

/// What PyTorch stacks, one by one.
fn states(stacked: &Golden) -> Vec<Tensor> {
    let all = stacked.tensor();
    let shape = [stacked.shape[1], stacked.shape[2]];
    (0..stacked.shape[0])
        .map(|number| all.samples(number, number + 1).and_then(|one| one.reshaped(shape)))
        .map(|state| state.expect("a state"))
        .collect()
}

pub(super) fn agree_on_embedding(fixture: &Fixture, device: &Device) -> f64 {
    let padding = match fixture.option("padding") {
        "none" => None,
        _ => Some(fixture.number("padding")),
    };
    let options = EmbeddingOptions { padding, ..EmbeddingOptions::default() };
    let [rows, width] = ["rows", "width"].map(|name| fixture.number(name));
    let make = |p: &Scope| Embedding::with_options(p, rows, width, options);
    let mut net = Net::new(device.clone(), Seed(7), make).expect("a network");
    net.set_parameter("weight", &fixture.tensor("param.weight")).expect("its shape");
    let (tokens, dy) = (fixture.tensor("input"), fixture.tensor("cotangent"));
    let found = net.train().gradients(&tokens, &dy).expect("a pass");
    assert!(found.input.is_none(), "tokens have no gradient");
    let t = Tolerance::strict(DType::F32);
    let [(_, gradient)] = &found.parameters[..] else { panic!("{}", fixture.stem) };
    let output = &fixture.get("output").values;
    let share = assert_close(&fixture.stem, &found.output, output, Tolerance::EXACT);
    share.max(assert_close(&fixture.stem, gradient, &fixture.get("grad.param.weight").values, t))
}
