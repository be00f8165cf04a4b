// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which weight gradients share a launch, on a backend whose fast kernels take multiples of 8 from 64 on, and which
//! [`FILLS`] outputs keep busy.

use kiln::backend::{Facts, Fusion, Grouping, HostMemory, UpdatePlace};
use kiln::graph::NodeId;
use kiln::kernel::Kernel;
use kiln::loss::Mse;
use kiln::nn::{Linear, Lstm, Module, Scope};
use kiln::op::{Op, Store, TensorType};
use kiln::optim::Adam;
use kiln::plan::{Plan, Step};
use kiln::{Device, Mode, Net, Var};

use super::networks::step;
use crate::common::reference::{compiled, facts, record, Parameters};
use crate::common::zoo::SEED;

const FILLS: usize = 20_000;

/// A training step, where so many products may share a launch.
fn plan(input: &[usize], target: &[usize], most: usize, module: impl Fn(&Scope) -> Chain) -> Plan {
    let grouping = Grouping { fills: FILLS, most, whole: Some([64, 8]) };
    let facts = Facts {
        fusion: Fusion::AcrossLayers,
        grouping,
        ..facts(3, HostMemory::Copied, UpdatePlace::Flat)
    };
    let [input, target] = [input, target].map(|dims| TensorType::f32(dims.into()));
    let mut net = Net::new(Device::cpu(), kiln::Seed(SEED), module).expect("a network");
    let parameters = Parameters::of(&mut net, &input);
    let traced = record(net.module(), Some(&Mse::default()), &parameters.specs, &[input, target]);
    let goal = step(Store::Overwrite, Some(Adam::new(1e-3).into()), None);
    compiled(traced, Mode::Train, goal, &facts)
}

/// A recurrent layer, perhaps, and linear ones.
struct Chain {
    lstm: Option<Lstm>,
    linear: Vec<Linear>,
}

impl Module for Chain {
    fn forward(&self, x: &Var) -> Var {
        let first = match &self.lstm {
            Some(lstm) => lstm.forward(x),
            None => x.clone(),
        };
        self.linear.iter().fold(first, |x, layer| layer.forward(&x).tanh())
    }
}

/// Linear layers of these widths.
fn linear(p: &Scope, widths: &[usize]) -> Chain {
    let layer =
        |(n, pair): (usize, &[usize])| Linear::new(&p.at(&format!("fc{n}")), pair[0], pair[1]);
    Chain { lstm: None, linear: widths.windows(2).enumerate().map(layer).collect() }
}

/// The parameters whose gradients each launch of products stores, by name.
fn launches(plan: &Plan) -> Vec<Vec<String>> {
    let of_products = plan.steps.iter().filter(|s| matches!(s.kernel, Kernel::WeightGradients(_)));
    of_products.map(|step| stored(plan, step)).collect()
}

fn stored(plan: &Plan, step: &Step) -> Vec<String> {
    let name = |node| match plan.graph.node(node).op {
        Op::Gradient(id, _) => Some(plan.graph.parameters()[id.index()].name.clone()),
        _ => None,
    };
    step.outputs.iter().filter_map(|&node| name(node)).collect()
}

/// A step of a chain of linear layers on 32 samples.
fn of_layers(widths: &'static [usize], most: usize) -> Vec<Vec<String>> {
    let target = [32, widths[widths.len() - 1]];
    launches(&plan(&[32, widths[0]], &target, most, |p| linear(p, widths)))
}

/// Weight and bias of layers.
fn gradients(layers: &[usize]) -> Vec<String> {
    layers.iter().flat_map(|n| [format!("fc{n}.weight"), format!("fc{n}.bias")]).collect()
}

/// Layers of few outputs wait for one another, and for a large one, whose factors are there last.
#[test]
fn a_launch_takes_a_large_product_along() {
    assert_eq!(of_layers(&[104, 256, 64, 64], 8), [gradients(&[2, 1, 0])]);
}

#[test]
fn a_full_launch_takes_nothing_along() {
    let found = of_layers(&[104, 256, 64, 64], 2);
    assert_eq!(found, [gradients(&[2, 1]), gradients(&[0])]);
}

/// 100 columns are no multiple of 8: the others would be left to the kernel that guards elements.
#[test]
fn a_large_product_that_is_to_be_guarded_stays_alone() {
    let found = of_layers(&[100, 256, 64, 64], 8);
    assert_eq!(found, [gradients(&[2, 1]), gradients(&[0])]);
}

/// Behind two that are to be guarded is one that is not.
#[test]
fn the_first_large_product_without_guards_is_taken_along() {
    let found = of_layers(&[256, 256, 100, 256, 64, 64], 8);
    assert_eq!(found, [gradients(&[2]), gradients(&[1]), gradients(&[4, 3, 0])]);
}

/// Both biases of an LSTM have the same gradient. One launch takes the sum of columns along and stores it twice.
#[test]
fn a_sum_that_two_biases_share_is_taken_along() {
    let found = of_lstm(64);
    let launch = ["lstm.weight_hh_l0", "lstm.bias_ih_l0", "lstm.weight_ih_l0", "lstm.bias_hh_l0"];
    assert_eq!(launches(&found), [launch]);
    assert_eq!(sums(&found), 0);
}

/// Where the two products are in two launches, neither has the sum: it is made once, by a step of its own.
#[test]
fn a_sum_that_two_launches_share_is_a_step_of_its_own() {
    let found = of_lstm(63);
    assert_eq!(launches(&found), [["lstm.weight_hh_l0"], ["lstm.weight_ih_l0"]]);
    assert_eq!(sums(&found), 1);
    let elsewhere = found.steps.iter().filter(|s| !matches!(s.kernel, Kernel::WeightGradients(_)));
    let mut biases: Vec<String> = elsewhere.flat_map(|step| stored(&found, step)).collect();
    biases.sort_unstable();
    assert_eq!(biases, ["lstm.bias_hh_l0", "lstm.bias_ih_l0"]);
}

/// A step of an LSTM of 64 units.
fn of_lstm(features: usize) -> Plan {
    plan(&[4, 5, features], &[4, 5, 64], 8, |p| Chain {
        lstm: Some(Lstm::new(&p.at("lstm"), features, 64)),
        linear: Vec::new(),
    })
}

/// Steps that sum columns and are no products.
fn sums(plan: &Plan) -> usize {
    let sums = |step: &&Step| {
        let is_sum = |&node: &NodeId| match &plan.graph.node(node).op {
            Op::SumTo(shape) => shape.dims() == [256],
            _ => false,
        };
        !matches!(step.kernel, Kernel::WeightGradients(_)) && step.nodes.iter().any(is_sum)
    };
    plan.steps.iter().filter(sums).count()
}
