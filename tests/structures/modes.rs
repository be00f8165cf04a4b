// SPDX-License-Identifier: MIT OR Apache-2.0
//! Views and predictors of networks with several inputs and outputs.

use std::sync::Arc;

use kiln::nn::{Linear, Module, Scope};
use kiln::{DType, Net, Seed, Tensor, Var};

use super::{labels, siamese, two_outputs, x, IntegerInput, Sums, CLASSES, FEATURES, SAMPLES};
use crate::common::bits;
use crate::common::close::{assert_close, doubles, Tolerance};
use crate::common::targets::targets;
use crate::common::zoo::SEED;

#[test]
fn train_draws_and_eval_repeats() {
    for target in targets() {
        let mut net = siamese(target.device(), 0.5);
        let (a, b) = (x(1), x(2));
        let first = net.eval().forward((&a, &b)).expect("a pass");
        assert_eq!(first.shape().dims(), [SAMPLES, 1]);
        assert_ne!(first, net.train().forward((&a, &b)).expect("a pass"));
        assert_ne!(
            net.train().forward((&a, &b)).expect("a pass"),
            net.train().forward((&a, &b)).expect("a pass")
        );
        assert_eq!(first, net.eval().forward((&a, &b)).expect("a pass"));
        let predicted = net.predictor().expect("memory").forward((&a, &b)).expect("a pass");
        assert_eq!(bits(&first), bits(&predicted), "{}", target.name);
        let ways = [
            net.eval().forward(&vec![a.clone(), b.clone()]),
            net.eval().forward(&[a.clone(), b.clone()][..]),
            net.eval().forward((a.clone(), b.clone())),
            net.eval().forward(&(a, b)),
        ];
        ways.into_iter().for_each(|way| assert_eq!(first, way.expect("a pass")));
    }
}

/// Every input is repeated, integers too, and every output is told apart by draw.
#[test]
fn monte_carlo_repeats_every_input() {
    for target in targets() {
        let mut net = siamese(target.device(), 0.0);
        let (a, b) = (x(1), x(2));
        let once = net.eval().forward((&a, &b)).expect("a pass");
        let draws = net.monte_carlo(3).forward((&a, &b)).expect("a pass");
        assert_eq!(draws.shape().dims(), [3, SAMPLES, 1]);
        for draw in draws.values().expect("f32").chunks(SAMPLES) {
            assert_eq!(draw, once.values().expect("f32"), "{}", target.name);
        }
        let mut net = siamese(target.device(), 0.5);
        let draws = net.monte_carlo(2).forward((&a, &b)).expect("a pass");
        let (first, second) = draws.values().expect("f32").split_at(SAMPLES);
        assert_ne!(first, second, "{}", target.name);

        let mut net = Net::new(target.device(), Seed(SEED), IntegerInput::new).expect("a network");
        let once = net.eval().forward((&a, &labels(3))).expect("a pass");
        let draws = net.monte_carlo(2).forward((&a, &labels(3))).expect("a pass");
        assert_eq!(draws.shape().dims(), [2, SAMPLES]);
        assert_eq!(draws.values().expect("f32")[SAMPLES..], *once.values().expect("f32"));

        let (scores, again) = two_outputs(target.device()).monte_carlo(2).forward(&a).expect("ok");
        assert_eq!(scores.shape().dims(), [2, SAMPLES, CLASSES]);
        assert_eq!(again.shape().dims(), [2, SAMPLES, FEATURES]);
    }
}

/// Plans of one network for lists of several lengths are told apart.
#[test]
fn lists_have_any_length() {
    let mut net = Net::new(targets()[0].device(), Seed(SEED), Sums::new).expect("a network");
    let inputs: Vec<Tensor> = (1..5).map(x).collect();
    let all = net.eval().forward(&inputs).expect("a pass");
    assert_eq!(all.len(), 4);
    for count in 1..4 {
        let some = net.eval().forward(&inputs[..count]).expect("a pass");
        assert_eq!(some.len(), count);
        some.iter().zip(&all).for_each(|(some, all)| close(some, all));
    }
    let two = net.eval().forward([&inputs[0], &inputs[1]]).expect("a pass");
    two.iter().zip(&all).for_each(|(two, all)| close(two, all));
    assert_eq!(net.plans(), 4);
}

/// Equal up to how operations are fused.
fn close(got: &Tensor, expected: &Tensor) {
    let strict = Tolerance::strict(DType::F32);
    assert_close("an output", got, &doubles(expected), strict);
}

/// Two ways forward, told apart by what they take.
struct TwoWays {
    fc: Linear,
}

impl Module for TwoWays {
    fn forward(&self, x: &Var) -> Var {
        self.fc.forward(x)
    }
}

impl Module<(Var, Var)> for TwoWays {
    fn forward(&self, (a, b): &(Var, Var)) -> Var {
        &self.fc.forward(a) + &self.fc.forward(b)
    }
}

#[test]
fn two_ways_through_one_network() {
    let make = |p: &Scope| TwoWays { fc: Linear::new(&p.at("fc"), FEATURES, 2) };
    let mut net = Net::new(targets()[0].device(), Seed(SEED), make).expect("a network");
    let x = x(1);
    let one = net.eval().forward(&x).expect("a pass");
    let two = net.eval().forward((&x, &x)).expect("a pass");
    let doubled = one.values().expect("f32").iter().map(|y| 2.0 * y).collect();
    close(&two, &Tensor::new([SAMPLES, 2], doubled).expect("as many"));
    assert_eq!(net.eval().forward(&x).expect("a pass"), one);
}

/// Two networks that share a layer, as parts of one.
struct Shared {
    left: Part,
    right: Part,
}

struct Part {
    trunk: Arc<Linear>,
    head: Linear,
}

impl Module for Part {
    fn forward(&self, x: &Var) -> Var {
        self.head.forward(&self.trunk.forward(x).tanh())
    }
}

impl Module<(Var, Var), (Var, Var)> for Shared {
    fn forward(&self, (a, b): &(Var, Var)) -> (Var, Var) {
        (self.left.forward(a), self.right.forward(b))
    }
}

#[test]
fn two_networks_share_a_layer() {
    for target in targets() {
        let make = |p: &Scope| {
            let trunk = Arc::new(Linear::new(&p.at("trunk"), FEATURES, 9));
            let head = |name| Linear::new(&p.at(name), 9, 2);
            Shared {
                left: Part { trunk: trunk.clone(), head: head("left") },
                right: Part { trunk, head: head("right") },
            }
        };
        let mut net = Net::new(target.device(), Seed(SEED), make).expect("a network");
        assert_eq!(
            net.parameter_names(),
            [
                "trunk.weight",
                "trunk.bias",
                "left.weight",
                "left.bias",
                "right.weight",
                "right.bias"
            ]
        );
        let (a, b, zero) = (x(1), x(2), Tensor::zeros([SAMPLES, 2]));
        let dy = crate::common::Numbers::new(5).tensor(&[SAMPLES, 2]);
        let mut of_trunk = |dys: (&Tensor, &Tensor)| {
            let found = net.eval().gradients((&a, &b), dys).expect("a pass");
            let (name, gradient) = found.parameters.into_iter().next().expect("the trunk's");
            assert_eq!(name, "trunk.weight");
            gradient.values().expect("f32").to_vec()
        };
        let (left, right) = (of_trunk((&dy, &zero)), of_trunk((&zero, &dy)));
        let both = of_trunk((&dy, &dy));
        for ((left, right), both) in left.iter().zip(&right).zip(&both) {
            assert!((left + right - both).abs() < 1e-4, "{}: {left} {right} {both}", target.name);
        }
    }
}
