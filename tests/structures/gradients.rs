// SPDX-License-Identifier: MIT OR Apache-2.0
//! Gradients of every input and parameter, against differences of the plain meaning in `f64`.

use kiln::graph::trace;
use kiln::nn::{Linear, Module, Scope};
use kiln::op::{Array, TensorType};
use kiln::{DType, Gradients, Net, Seed, Tensor, Values, Var};

use super::{labels, siamese, two_outputs, x, Embedding, IntegerInput, Sums, FEATURES, SAMPLES};
use crate::common::close::{compare, doubles, Tolerance};
use crate::common::reference::{array, run, Parameters};
use crate::common::targets::targets;
use crate::common::zoo::SEED;
use crate::common::{bits, Numbers};

/// What a pass with gradients found, without its structure.
struct Found {
    outputs: Vec<Tensor>,
    inputs: Vec<Option<Tensor>>,
    parameters: Vec<(String, Tensor)>,
}

impl Found {
    fn of<I: Values, O: Values>(
        gradients: kiln::Result<Gradients<I, O>>,
        inputs: impl FnOnce(I::Of<Option<Tensor>>) -> Vec<Option<Tensor>>,
        outputs: impl FnOnce(O::Of<Tensor>) -> Vec<Tensor>,
    ) -> Self {
        let Gradients { output, input, parameters } = gradients.expect("a pass");
        Found { outputs: outputs(output), inputs: inputs(input), parameters }
    }

    fn bits(&self) -> Vec<Vec<u32>> {
        let parameters = self.parameters.iter().map(|(_, gradient)| gradient);
        self.outputs
            .iter()
            .chain(self.inputs.iter().flatten())
            .chain(parameters)
            .map(bits)
            .collect()
    }
}

/// A network with what it is given, the gradients of its outputs among it.
struct Case<M> {
    net: Net<M>,
    inputs: Vec<Tensor>,
    dys: Vec<Tensor>,
    record: fn(&M, &[Var]) -> Vec<Var>,
}

impl<M> Case<M> {
    fn check<I: Values, O: Values>(&mut self, what: &str, found: &Found)
    where
        M: Module<I, O>,
    {
        let types: Vec<TensorType> = self.inputs.iter().map(Tensor::ty).collect();
        let parameters = Parameters::of_all(&mut self.net, &types);
        let record = |inputs: &[Var]| (self.record)(self.net.module(), inputs);
        let graph = trace(parameters.specs.clone(), &types, record).expect("a network").graph;
        let outputs = |inputs: &[Array], parameters: &Parameters| {
            run(&graph, inputs, &mut parameters.clone())
        };
        let given: Vec<Array> = self.inputs.iter().map(array).collect();
        let objective = |inputs: &[Array], parameters: &Parameters| -> f64 {
            let pairs = outputs(inputs, parameters).into_iter().zip(&self.dys);
            let product = |(y, dy): (Array, &Tensor)| -> f64 {
                y.data.iter().zip(doubles(dy)).map(|(y, dy)| y * dy).sum()
            };
            pairs.map(product).sum()
        };
        for (place, (got, meant)) in
            found.outputs.iter().zip(outputs(&given, &parameters)).enumerate()
        {
            close(&format!("{what}: output {place}"), got, &meant.data);
        }
        assert_eq!(found.inputs.len(), given.len(), "{what}");
        for (place, gradient) in found.inputs.iter().enumerate() {
            let Some(gradient) = gradient else { continue };
            let slopes = slopes(given[place].data.len(), |element, h| {
                let mut inputs = given.clone();
                inputs[place].data[element] += h;
                objective(&inputs, &parameters)
            });
            close(&format!("{what}: gradient of input {place}"), gradient, &slopes);
        }
        assert_eq!(found.parameters.len(), parameters.specs.len(), "{what}");
        for (index, (name, gradient)) in found.parameters.iter().enumerate() {
            let slopes = slopes(parameters.values[index].data.len(), |element, h| {
                let mut parameters = parameters.clone();
                parameters.values[index].data[element] += h;
                objective(&given, &parameters)
            });
            close(&format!("{what}: gradient of {name}"), gradient, &slopes);
        }
    }
}

fn slopes(count: usize, objective: impl Fn(usize, f64) -> f64) -> Vec<f64> {
    const STEP: f64 = 1e-5;
    let slope = |element| (objective(element, STEP) - objective(element, -STEP)) / (2.0 * STEP);
    (0..count).map(slope).collect()
}

fn close(what: &str, got: &Tensor, expected: &[f64]) {
    let largest = expected.iter().fold(1.0, |m: f64, x| m.max(x.abs()));
    let balanced = Tolerance::balanced(DType::F32);
    let t = Tolerance { absolute: balanced.absolute * largest, ..balanced };
    compare(what, got.shape().dims(), &doubles(got), expected, t).unwrap_or_else(|e| panic!("{e}"));
}

/// A tower called twice: gradients of its parameters add up, and each call draws its own mask.
#[test]
fn of_a_shared_tower() {
    let mut first = None;
    for target in targets() {
        let dy = Numbers::new(9).tensor(&[SAMPLES, 1]);
        let (a, b) = (x(1), x(2));
        let net = siamese(target.device(), 0.5);
        let record = |m: &super::Siamese, v: &[Var]| vec![m.forward(&(v[0].clone(), v[1].clone()))];
        let inputs = vec![a.clone(), b.clone()];
        let mut case = Case { net, inputs, dys: vec![dy.clone()], record };
        let found = case.net.train().gradients((&a, &b), &dy);
        let found = Found::of(found, |(a, b)| vec![a, b], |y| vec![y]);
        assert!(found.inputs.iter().all(Option::is_some), "{}", target.name);
        case.check::<(Var, Var), Var>(&target.name, &found);
        let (family, expected) = first.get_or_insert((target.family, found.bits()));
        assert!(*family != target.family || *expected == found.bits(), "{}", target.name);
    }
}

#[test]
fn of_two_outputs() {
    for target in targets() {
        let x = x(1);
        let dys = (
            Numbers::new(8).tensor(&[SAMPLES, super::CLASSES]),
            Numbers::new(9).tensor(&[SAMPLES, FEATURES]),
        );
        let record = |m: &super::TwoOutputs, v: &[Var]| {
            let (scores, again) = m.forward(&v[0]);
            vec![scores, again]
        };
        let net = two_outputs(target.device());
        let given = vec![dys.0.clone(), dys.1.clone()];
        let mut case = Case { net, inputs: vec![x.clone()], dys: given, record };
        let found = case.net.eval().gradients(&x, &dys);
        let found = Found::of(found, |x| vec![x], |(scores, again)| vec![scores, again]);
        case.check::<Var, (Var, Var)>(&target.name, &found);
    }
}

#[test]
fn of_lists() {
    for target in targets() {
        let net = Net::new(target.device(), Seed(SEED), Sums::new).expect("a network");
        let inputs: Vec<Tensor> = (1..4).map(x).collect();
        let dys: Vec<Tensor> =
            (0..3).map(|n| Numbers::new(n).tensor(&[SAMPLES, super::HIDDEN])).collect();
        let record = |m: &Sums, v: &[Var]| m.forward(&v.to_vec());
        let mut case = Case { net, inputs, dys, record };
        let found = case.net.eval().gradients(&case.inputs, &case.dys);
        let found = Found::of(found, |inputs| inputs, |outputs| outputs);
        case.check::<Vec<Var>, Vec<Var>>(&target.name, &found);
    }
}

/// Integers have no gradient, and the input after them has its own.
#[test]
fn of_an_input_beside_integers() {
    for target in targets() {
        let net = Net::new(target.device(), Seed(SEED), IntegerInput::new).expect("a network");
        let (x, classes, dy) = (x(1), labels(2), Numbers::new(9).tensor(&[SAMPLES]));
        let record = |m: &IntegerInput, v: &[Var]| vec![m.forward(&(v[0].clone(), v[1].clone()))];
        let inputs = vec![x.clone(), classes.clone()];
        let mut case = Case { net, inputs, dys: vec![dy.clone()], record };
        let found = case.net.eval().gradients((&x, &classes), &dy);
        let found = Found::of(found, |(x, classes)| vec![x, classes], |y| vec![y]);
        assert!(found.inputs[0].is_some() && found.inputs[1].is_none(), "{}", target.name);
        case.check::<(Var, Var), Var>(&target.name, &found);
    }
}

/// Rows that are named twice have the sum of both gradients, and what is given for the gradient of an
/// output of integers plays no part.
#[test]
fn of_rows_that_integers_name() {
    for target in targets() {
        let net = Net::new(target.device(), Seed(SEED), Embedding::new).expect("a network");
        let tokens = Numbers::new(3).labels(SAMPLES, super::ROWS);
        let (x, dy) = (x(1), Numbers::new(9).tensor(&[SAMPLES, super::CLASSES]));
        let record = |m: &Embedding, v: &[Var]| vec![m.forward(&(v[0].clone(), v[1].clone())).0];
        let inputs = vec![tokens.clone(), x.clone()];
        let mut case = Case { net, inputs, dys: vec![dy.clone()], record };
        let found = case.net.train().gradients((&tokens, &x), (&dy, &labels(1)));
        let guesses = &found.as_ref().expect("a pass").output.1;
        let scores = &found.as_ref().expect("a pass").output.0;
        let meant: Vec<i32> =
            scores.argmax().expect("numbers").iter().map(|&guess| guess as i32).collect();
        assert_eq!(guesses.integers().expect("i32"), meant, "{}", target.name);
        let found = Found::of(found, |(tokens, x)| vec![tokens, x], |(scores, _)| vec![scores]);
        assert!(found.inputs[0].is_none(), "{}", target.name);
        case.check::<(Var, Var), (Var, Var)>(&target.name, &found);
    }
}

/// Integers, and the first of two inputs without influence, come before the one that has a gradient.
struct Last {
    fc: Linear,
}

impl Module<[Var; 3], (Var, Var)> for Last {
    fn forward(&self, [integers, _, x]: &[Var; 3]) -> (Var, Var) {
        (integers.clone(), self.fc.forward(x))
    }
}

#[test]
fn are_found_by_their_input() {
    for target in targets() {
        let make = |p: &Scope| Last { fc: Linear::new(&p.at("fc"), FEATURES, 2) };
        let mut net = Net::new(target.device(), Seed(SEED), make).expect("a network");
        let (integers, x) = (labels(1), x(2));
        let dy = Numbers::new(9).tensor(&[SAMPLES, 2]);
        // What is given for the integers' gradient plays no part.
        let found = net.eval().gradients([&integers, &x, &x], (&integers, &dy)).expect("a pass");
        assert_eq!(found.output.0, integers);
        let [of_integers, of_nothing, of_x] = found.input;
        assert_eq!((of_integers, of_nothing), (None, None));
        let weight = net.parameter("fc.weight").expect("its name");
        let meant: Vec<f64> = doubles(&dy)
            .chunks_exact(2)
            .flat_map(|dy| {
                let weight = doubles(&weight);
                (0..FEATURES).map(move |i| dy[0] * weight[i] + dy[1] * weight[FEATURES + i])
            })
            .collect();
        close(&target.name, &of_x.expect("a gradient"), &meant);
    }
}

/// One value returned twice has both gradients, and an output that is an input has its own.
struct Same;

impl Module<Var, (Var, Var, Var)> for Same {
    fn forward(&self, x: &Var) -> (Var, Var, Var) {
        let y = x.scale(3.0);
        (y.clone(), x.clone(), y)
    }
}

#[test]
fn of_one_value_in_several_places_add_up() {
    for target in targets() {
        let mut net = Net::new(target.device(), Seed(SEED), |_| Same).expect("a network");
        let (x, [a, b, c]) = (x(1), [x(2), x(3), x(4)]);
        let found = net.eval().gradients(&x, (&a, &b, &c)).expect("a pass");
        assert_eq!((&found.output.1, &found.output.0), (&x, &found.output.2));
        let [a, b, c] = [a, b, c].map(|dy| doubles(&dy));
        let meant: Vec<f64> = (0..a.len()).map(|i| 3.0 * a[i] + b[i] + 3.0 * c[i]).collect();
        close(&target.name, &found.input.expect("a gradient"), &meant);
    }
}
