// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a kernel must leave alone: values that are also returned, gradients that come from
//! elsewhere, updates that wait for something else.

use kiln::graph::{Builder, NodeId, ParamId, Traced};
use kiln::loss::{CrossEntropy, Loss, Reduction};
use kiln::nn::{Linear, Module, Scope};
use kiln::op::{Op, Store, TensorType};
use kiln::optim::{Optimizer, Sgd};
use kiln::passes::{Goal, Seed};
use kiln::{DType, Mode, Net, Result, Scalars, Tensor, Var};

use crate::common::close::{compare, doubles, Tolerance};
use crate::common::reference::{compiled, record, Parameters};
use crate::common::stepper::Stepper;
use crate::common::targets::targets;
use crate::common::zoo::SEED;
use crate::common::{bits, Numbers};

/// A loss that begins with what a linear layer could apply itself.
#[derive(Debug)]
struct OfActivation(fn(&Var) -> Var);

impl Loss for OfActivation {
    fn forward(&self, output: &Var, inputs: &[Var]) -> Var {
        (&(self.0)(output) * &inputs[0]).sum()
    }

    fn check(&self, _target: &Tensor) -> Result<()> {
        Ok(())
    }

    fn weight(&self, _target: &Tensor) -> Option<f64> {
        None
    }

    fn key(&self) -> String {
        format!("OfActivation {:?}", self.0 as *const ())
    }
}

/// The output is returned beside the loss, as it was before the loss's first function.
#[test]
fn returned_values_are_not_fused_away() {
    let functions: [fn(&Var) -> Var; 4] =
        [|y| y.tanh(), |y| y.relu(), |y| y.gelu(), |y| y.reshape([7 * 9]).tanh().reshape([7, 9])];
    let (x, target) = (Numbers::new(1).tensor(&[7, 5]), Numbers::new(2).tensor(&[7, 9]));
    for place in targets() {
        for function in functions {
            let make = |p: &Scope| Linear::new(&p.at("fc"), 5, 9);
            let mut net = Net::new(place.device(), kiln::Seed(SEED), make).expect("a network");
            let scores = net.eval().forward(&x).expect("a pass");
            let loss = OfActivation(function);
            let (value, output) = net.eval().loss_and_output(&loss, &x, &target).expect("a pass");
            assert_eq!(bits(&output), bits(&scores), "{}", place.name);
            let again = net.eval().loss_gradients(&loss, &x, &target).expect("a pass").output;
            assert_eq!(bits(&value), bits(&again), "{}", place.name);
        }
    }
}

/// Kernels of cross-entropy multiply its gradient by the run's share. A gradient that the user
/// gives is another number.
#[test]
fn cross_entropy_takes_the_gradient_that_is_given() {
    let labels = Numbers::new(3).labels(12, 6);
    let x = Numbers::new(1).tensor(&[12, 5]);
    for target in targets() {
        for reduction in [Reduction::Mean, Reduction::Sum] {
            let loss = CrossEntropy { reduction, ..CrossEntropy::default() };
            let make = |p: &Scope| Linear::new(&p.at("fc"), 5, 6);
            let mut net = Net::new(target.device(), kiln::Seed(SEED), make).expect("a network");
            let whole = net.eval().loss_gradients(&loss, &x, &labels).expect("a pass");
            let factor = Tensor::new(kiln::Shape::scalar(), vec![-0.375]).expect("one number");
            let scaled = net.eval().loss_gradients_from(&loss, &x, &labels, &factor);
            let scaled = scaled.expect("a pass");
            let pairs = whole.parameters.iter().zip(&scaled.parameters);
            let mut pairs: Vec<_> = pairs.map(|((_, whole), (_, part))| (whole, part)).collect();
            let (input, part) = (whole.input.expect("one"), scaled.input.expect("one"));
            pairs.push((&input, &part));
            for (whole, part) in pairs {
                let meant: Vec<f64> = doubles(whole).iter().map(|g| -0.375 * g).collect();
                let t = Tolerance::balanced(DType::F32);
                let judged = compare("gradient", whole.shape().dims(), &doubles(part), &meant, t);
                judged.unwrap_or_else(|what| panic!("{} {reduction:?}: {what}", target.name));
            }
            // The loss itself is not scaled.
            let (loss, again) = (doubles(&whole.output), doubles(&scaled.output));
            let judged = compare("loss", &[], &again, &loss, Tolerance::strict(DType::F32));
            judged.unwrap_or_else(|what| panic!("{} {reduction:?}: {what}", target.name));
        }
    }
}

/// A network whose first layer has one weight, so that its gradient can be another's factor.
struct Narrow {
    first: Linear,
    second: Linear,
}

impl Module for Narrow {
    fn forward(&self, x: &Var) -> Var {
        self.second.forward(&self.first.forward(x).tanh())
    }
}

/// No optimiser makes such steps yet: an update of the second layer's weight that is scaled by what
/// becomes of another gradient. The kernel that computes the weight's gradient has not got that.
#[test]
fn updates_that_read_another_gradient_wait_for_it() {
    let make = |p: &Scope| Narrow {
        first: Linear::new(&p.at("first"), 1, 1),
        second: Linear::new(&p.at("second"), 1, 7),
    };
    type Factor = fn(&mut Builder, NodeId) -> NodeId;
    let clipped: Factor = |builder, gradient| {
        let norm = builder.add(Op::GlobalNorm, &[gradient]).expect("a norm");
        builder.add(Op::ClipCoefficient(0.01), &[norm]).expect("a factor")
    };
    let itself: Factor = |_, gradient| gradient;
    for target in targets() {
        for (name, factor) in [("clipped by another", clipped), ("times another", itself)] {
            let mut net = Net::new(target.device(), kiln::Seed(SEED), make).expect("a network");
            let inputs = [Numbers::new(1).tensor(&[9, 1]), Numbers::new(2).tensor(&[9, 7])];
            let parameters = Parameters::of(&mut net, &inputs[0].ty());
            let types: Vec<TensorType> = inputs.iter().map(Tensor::ty).collect();
            let traced = record(net.module(), None, &parameters.specs, &types);
            let mut backend = target.backend();
            let goal = Goal::Gradients(Seed::Input);
            let graph = compiled(traced, Mode::Train, goal, backend.facts()).graph;
            let mut builder = Builder::extend((*graph).clone());
            let gradient = |name: &str| -> (ParamId, NodeId) {
                let found = graph.nodes().find_map(|(id, node)| match node.op {
                    Op::Gradient(parameter, Store::Overwrite)
                        if parameters.specs[parameter.index()].name == name =>
                    {
                        Some((parameter, id))
                    }
                    _ => None,
                });
                found.expect("a gradient of every parameter")
            };
            let (_, other) = gradient("first.weight");
            let (weight, own) = gradient("second.weight");
            let coefficient = factor(&mut builder, other);
            let rule = Optimizer::from(Sgd::new(0.1)).rule;
            let update = builder.add(Op::Update(weight, rule.into()), &[own, coefficient]);
            let mut results = graph.outputs().to_vec();
            results.push(update.expect("a gradient and its factor"));
            let traced = Traced { graph: builder.finish(results.clone()), results };
            let plan = compiled(traced, Mode::Train, Goal::Forward, backend.facts());
            let mut scalars = Scalars::new(SEED);
            scalars.learning_rate = 0.5;
            let mut stepper = Stepper::new(&mut *backend, &plan, &parameters);
            let judged = stepper.judge(&inputs, &scalars, Tolerance::balanced(DType::F32));
            judged.unwrap_or_else(|what| panic!("{name} on {}: {what}", target.name));
        }
    }
}
