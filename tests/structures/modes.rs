// SPDX-License-Identifier: MIT OR Apache-2.0
//! Views and predictors of networks with several inputs and outputs.

use std::sync::Arc;

use kiln::nn::{Dropout, Linear, Module, Scope};
use kiln::{DType, Net, Seed, Tensor, Var};

use super::{labels, siamese, x, IntegerInput, Sums, TwoOutputs, FEATURES, SAMPLES};
use crate::common::bits;
use crate::common::close::{assert_close, doubles, Tolerance};
use crate::common::targets::{targets, Target};
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

/// What comes behind a dropout, whose masks here drop nothing.
struct Behind<M>(Dropout, M);

impl<M> Behind<M> {
    fn of(p: &Scope, module: impl FnOnce(&Scope) -> M) -> Self {
        Behind(Dropout::new(&p.at("dropout"), RARELY), module(p))
    }
}

impl Module<(Var, Var)> for Behind<IntegerInput> {
    fn forward(&self, (x, classes): &(Var, Var)) -> Var {
        self.1.forward(&(self.0.forward(x), classes.clone()))
    }
}

impl Module<Var, (Var, Var)> for Behind<TwoOutputs> {
    fn forward(&self, x: &Var) -> (Var, Var) {
        let (scores, again) = self.1.forward(x);
        (self.0.forward(&scores), again)
    }
}

/// The smallest rate of dropout that there is.
const RARELY: f32 = 1.0 / 32768.0;

/// Every input is repeated, integers too, and every output is told apart by draw, whether it is random or
/// not.
#[test]
fn monte_carlo_repeats_every_input() {
    let tolerance = Tolerance { absolute: 0.0, relative: 1e-3 };
    let close = |draws: &Tensor, once: &Tensor, target: &Target| {
        let count = draws.shape().samples();
        assert_eq!(draws.shape().dims()[1..], *once.shape().dims());
        let expected = doubles(once).repeat(count);
        assert_close(&target.name, draws, &expected, tolerance);
    };
    for target in targets() {
        let mut net = siamese(target.device(), RARELY);
        let (a, b) = (x(1), x(2));
        let once = net.eval().forward((&a, &b)).expect("a pass");
        close(&net.monte_carlo(3).forward((&a, &b)).expect("a pass"), &once, &target);
        let mut net = siamese(target.device(), 0.5);
        let draws = net.monte_carlo(2).forward((&a, &b)).expect("a pass");
        let (first, second) = draws.values().expect("f32").split_at(SAMPLES);
        assert_ne!(first, second, "{}", target.name);
        let error = siamese(target.device(), 0.0).monte_carlo(2).forward((&a, &b)).unwrap_err();
        let expected = "monte_carlo: expected a network with dropout, so that draws differ";
        assert_eq!(error.to_string(), format!("{expected}, got none that drops anything"));

        let make = |p: &Scope| Behind::of(p, IntegerInput::new);
        let mut net = Net::new(target.device(), Seed(SEED), make).expect("a network");
        let once = net.eval().forward((&a, &labels(3))).expect("a pass");
        let draws = net.monte_carlo(2).forward((&a, &labels(3))).expect("a pass");
        close(&draws, &once, &target);

        let make = |p: &Scope| Behind::of(p, TwoOutputs::new);
        let mut net = Net::new(target.device(), Seed(SEED), make).expect("a network");
        let once = net.eval().forward(&a).expect("a pass");
        let (scores, again) = net.monte_carlo(2).forward(&a).expect("a pass");
        close(&scores, &once.0, &target);
        close(&again, &once.1, &target);
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
