// SPDX-License-Identifier: MIT OR Apache-2.0
//! Networks and requests that the tests of plans look at.

use kiln::backend::{Facts, Fusion, HostMemory, UpdatePlace};
use kiln::loss::{CrossEntropy, Loss, Mse};
use kiln::models::{SimpleNet, VariableDropoutNet};
use kiln::nn::{Dropout, Gelu, Init, Linear, Module, Param, Scope, Sequential, Softmax};
use kiln::op::{Groups, Store, TensorType};
use kiln::optim::{Adam, Optimizer, Sgd};
use kiln::passes::{Averages, Goal, Seed, StepGoal, UpdateGoal};
use kiln::plan::Plan;
use kiln::{Device, LossScale, Mode, Net, Var};

use crate::common::reference::{compiled, facts, one_lane, record, Parameters};
use crate::common::zoo::{Residual, Twice, SEED};

/// A network whose branches are independent, so that lanes have something to share out.
struct Branches {
    left: Linear,
    right: Linear,
    drop: Twice,
    gain: Param,
    head: Linear,
}

impl Branches {
    fn new(p: &Scope) -> Self {
        Branches {
            left: Linear::new(&p.at("left"), 20, 33),
            right: Linear::new(&p.at("right"), 20, 33),
            drop: Twice(Dropout::new(&p.at("drop"), 0.5)),
            gain: p.parameter("gain", [33], Init::Constant(1.0)),
            head: Linear::new(&p.at("head"), 33, 10),
        }
    }
}

impl Module for Branches {
    fn forward(&self, x: &Var) -> Var {
        let left = self.left.forward(x).gelu();
        let right = self.drop.forward(&self.right.forward(x).tanh());
        let gain = x.parameter(&self.gain);
        self.head.forward(&(&(&left * &right) + &(&left * &gain)))
    }
}

/// A network with an input's type.
pub(super) struct Case {
    pub(super) name: &'static str,
    net: Net<Box<dyn Module>>,
    parameters: Parameters,
    pub(super) input: TensorType,
}

/// Networks of several shapes.
pub(super) fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    let mut add = |name, input: &[usize], make: fn(&Scope) -> Box<dyn Module>| {
        let input = TensorType::f32(input.into());
        let mut net = Net::new(Device::cpu(), kiln::Seed(SEED), make).expect("a network");
        let parameters = Parameters::of(&mut net, &input);
        all.push(Case { name, net, parameters, input });
    };
    add("simple_net", &[256, 784], |p| Box::new(SimpleNet::new(p, 784, 64, 10, 0.5)));
    add("variable_dropout_net", &[8, 784], |p| Box::new(VariableDropoutNet::new(p)));
    add("linear", &[31, 20], |p| Box::new(Linear::new(&p.at("fc"), 20, 10)));
    add("branches", &[33, 20], |p| Box::new(Branches::new(p)));
    add("residuals", &[32, 20], |p| {
        let block = |p: &Scope| Residual(Linear::new(&p.at("fc"), 20, 20));
        let deep = Sequential::new(p).with(block).with(|_| Gelu::default()).with(block);
        Box::new(deep.with(block).with(|_| Softmax).with(|p| Linear::new(p, 20, 10)))
    });
    all
}

/// Backends of every kind that the passes tell apart.
pub(super) fn all_facts() -> Vec<Facts> {
    let mut all = vec![one_lane()];
    for lanes in [1, 2, 3, 8] {
        for host_memory in [HostMemory::Direct, HostMemory::Copied] {
            for place in [UpdatePlace::WeightGradient, UpdatePlace::Flat] {
                let within = facts(lanes, host_memory, place);
                all.push(Facts { fusion: Fusion::AcrossLayers, ..within.clone() });
                all.push(within);
            }
        }
    }
    all
}

/// Everything that a network is compiled for.
pub(super) fn goals() -> Vec<(&'static str, Goal)> {
    vec![
        ("forward", Goal::Forward),
        ("gradients", Goal::Gradients(Seed::One)),
        ("step", step(Store::Overwrite, Some(Adam::new(1e-3).into()), None)),
        ("clipped step", step(Store::Overwrite, Some(Adam::new(1e-3).into()), Some(1.0))),
        ("scaled step", scaled(None)),
        ("scaled and clipped step", scaled(Some(1.0))),
        ("first micro-batch", step(Store::Overwrite, None, None)),
        ("last micro-batch", step(Store::Accumulate, Some(Sgd::new(0.1).into()), Some(1.0))),
    ]
}

/// A step whose loss is scaled.
fn scaled(max_norm: Option<f64>) -> Goal {
    match step(Store::Overwrite, Some(Adam::new(1e-3).into()), max_norm) {
        Goal::Step(step) => Goal::Step(StepGoal { scale: LossScale::dynamic(), ..step }),
        goal => goal,
    }
}

pub(super) fn step(store: Store, optimizer: Option<Optimizer>, max_norm: Option<f64>) -> Goal {
    let averages = Averages::None;
    let update = optimizer.map(|optimizer| UpdateGoal { rule: optimizer.rule, max_norm, averages });
    Goal::Step(StepGoal { store, update, groups: Groups::default(), scale: LossScale::Off })
}

impl Case {
    /// The network with cross-entropy, compiled.
    pub(super) fn plan(&self, mode: Mode, goal: Goal, facts: &Facts) -> Plan {
        let labels = TensorType::i32([self.input.shape.samples()].into());
        self.plan_with(&CrossEntropy::default(), labels, mode, goal, facts)
    }

    /// The same with the mean squared error.
    pub(super) fn regression_plan(&self, goal: Goal, facts: &Facts) -> Plan {
        let target = TensorType::f32([self.input.shape.samples(), 10].into());
        self.plan_with(&Mse::default(), target, Mode::Train, goal, facts)
    }

    /// The network alone, as its views run it.
    pub(super) fn forward_plan(&self, mode: Mode, facts: &Facts) -> Plan {
        let types = [self.input.clone()];
        let traced = record(self.net.module(), None, &self.parameters.specs, &types);
        compiled(traced, mode, Goal::Forward, facts)
    }

    fn plan_with(
        &self,
        loss: &dyn Loss,
        target: TensorType,
        mode: Mode,
        goal: Goal,
        facts: &Facts,
    ) -> Plan {
        let types = [self.input.clone(), target];
        let traced = record(self.net.module(), Some(loss), &self.parameters.specs, &types);
        compiled(traced, mode, goal, facts)
    }
}

/// The article's network at the batch size that the documentation speaks of.
pub(super) fn simple_net() -> Case {
    cases().swap_remove(0)
}
