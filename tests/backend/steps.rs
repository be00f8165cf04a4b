// SPDX-License-Identifier: MIT OR Apache-2.0
//! Laws of training steps: of each layer behind a linear one.

use kiln::loss::{Loss, Mse};
use kiln::nn::Module;
use kiln::op::{Array, GroupOptions, Groups, Store, TensorType, Training};
use kiln::optim::{Adam, AdamW, Nesterov, Optimizer, Sgd};
use kiln::passes::{Averages, Goal, StepGoal, UpdateGoal};
use kiln::{DType, LossScale, Mode, Net, Scalars, Tensor, Trainer};

use super::Verdict;
use crate::common::close::{compare, doubles, Tolerance};
use crate::common::reference::{compiled, record, Parameters};
use crate::common::stepper::Stepper;
use crate::common::targets::{targets, Target};
use crate::common::zoo::{Behind, Layer, SEED};
use crate::common::{bits, Numbers};

type Law = fn(&Layer, &Target) -> Verdict;

const RATE: f32 = 0.5;

pub(super) const LAWS: &[(&str, Law)] = &[
    ("step kernels are their nodes", kernels_are_their_nodes),
    ("a batch is its halves", a_batch_is_its_halves),
    ("training repeats bit for bit", training_repeats),
];

fn optimizers() -> [Optimizer; 4] {
    let nesterov =
        Sgd { nesterov: Nesterov::On, weight_decay: 0.01, ..Sgd::new(0.1).momentum(0.9) };
    [Sgd::new(0.1).into(), nesterov.into(), Adam::new(0.01).into(), AdamW::new(0.01).into()]
}

fn batch(net: &mut Net<Behind>, layer: &Layer) -> [Tensor; 2] {
    let x = layer.entry();
    let plan = net.plan(Mode::Eval, &[x.ty()]).expect("a plan");
    let shape = plan.graph.node(plan.outputs[0].0).ty.shape.dims().to_vec();
    [x, Numbers::new(6).tensor(&shape)]
}

/// Every optimiser, with and without clipping, at the first micro-batch and at a later one.
fn kernels_are_their_nodes(layer: &Layer, target: &Target) -> Verdict {
    let mut net = layer.trainable(target.device(), RATE);
    let inputs = batch(&mut net, layer);
    let mut parameters = Parameters::of(&mut net, &inputs[0].ty());
    for (gradient, moments) in parameters.gradients.iter_mut().zip(&mut parameters.moments) {
        *gradient = Array::new(gradient.shape.clone(), vec![0.25; gradient.data.len()]);
        // Adam divides by the second moment's root: from nothing, the update of a gradient that
        // cancels to rounding errors would be all rounding error. Fixtures begin from nothing.
        *moments = vec![gradient.clone(), gradient.clone()];
    }
    parameters.averages = parameters.gradients.clone();
    let mut scalars = Scalars::new(SEED);
    (scalars.pass, scalars.learning_rate) = (2, 0.05);
    scalars.average = 0.125;
    parameters.update = 3;
    let loss: &dyn Loss = &Mse::default();
    let types: Vec<TensorType> = inputs.iter().map(Tensor::ty).collect();
    let mut worst = 0.0f64;
    for (index, optimizer) in optimizers().into_iter().enumerate() {
        // Each optimiser meets one of the four kinds of step, and each kind two optimisers over
        // two layers.
        let kind = (index + layer.input.len()) % 4;
        let store = if kind.is_multiple_of(2) { Store::Overwrite } else { Store::Accumulate };
        let max_norm = (kind / 2 == 1).then_some(0.5);
        // Parameters of two groups, and one that is frozen where the optimiser averages.
        let averages = if index % 2 == 1 { Averages::ParametersAndState } else { Averages::None };
        let own = |place: usize| match (index, place) {
            (0, _) => Training::Trained(GroupOptions::default()),
            (1 | 3, 1) => Training::Frozen,
            _ => Training::Trained(GroupOptions {
                rate_factor: if place.is_multiple_of(2) { 0.5 } else { 2.0 },
                weight_decay: (place == 0).then_some(0.25),
                skipped: 1 + place as u32 % 2,
            }),
        };
        let groups = Groups::new((0..parameters.specs.len()).map(own).collect());
        let update = Some(UpdateGoal { rule: optimizer.rule, max_norm, averages });
        let scale = match (index + layer.input.len() / 4) % 3 {
            0 => LossScale::dynamic(),
            _ => LossScale::Off,
        };
        let goal = Goal::Step(StepGoal { store, update, groups, scale });
        let mut backend = target.backend();
        let traced = record(net.module(), Some(loss), &parameters.specs, &types);
        let plan = compiled(traced, Mode::Train, goal, backend.facts());
        let mut stepper = Stepper::new(&mut *backend, &plan, &parameters);
        let t = Tolerance::balanced(DType::F32);
        for _ in 0..2 {
            worst = worst.max(stepper.judge(&inputs, &scalars, t)?.worst);
        }
    }
    Ok(Some(worst))
}

/// A trainer's parameters after some steps, and its losses.
fn train(
    layer: &Layer,
    target: &Target,
    optimizer: Optimizer,
    micro_batches: usize,
) -> Vec<Tensor> {
    let mut net = layer.trainable(target.device(), RATE);
    let [x, y] = batch(&mut net, layer);
    let fit = Trainer::new(net, Mse::default(), optimizer).expect("options in range");
    let mut fit = fit.with_micro_batches(micro_batches).expect("1 or more");
    let mut results = Vec::new();
    for _ in 0..3 {
        let loss = fit.step(&x, &y).expect("a step").value().expect("a loss");
        results.push(Tensor::new([1], vec![loss]).expect("one number"));
    }
    let mut net = fit.into_net();
    let names: Vec<String> = net.parameter_names().into_iter().map(String::from).collect();
    results.extend(names.iter().map(|name| net.parameter(name).expect("its own name")));
    results
}

/// Up to rounding: masks are those of the undivided batch, gradients add up.
fn a_batch_is_its_halves(layer: &Layer, target: &Target) -> Verdict {
    if layer.input[0] < 2 || ["arithmetic", "products"].contains(&layer.name) {
        return Ok(None); // nothing to divide, or a mean over the batch
    }
    // Steps that overshoot would blow rounding errors up; curvature grows with the width.
    let width = *layer.input.last().expect("inputs have extents");
    let sgd = || Optimizer::from(Sgd::new(3.0 / width.max(30) as f64));
    let whole = train(layer, target, sgd(), 1);
    let mut worst = 0.0f64;
    for parts in [2, 3] {
        let divided = train(layer, target, sgd(), parts);
        for (index, (divided, whole)) in divided.iter().zip(&whole).enumerate() {
            let what = format!("{parts} parts, result {index}");
            let (t, shape) = (Tolerance::balanced(DType::F32), whole.shape().dims());
            worst = worst.max(compare(&what, shape, &doubles(divided), &doubles(whole), t)?);
        }
    }
    Ok(Some(worst))
}

/// Run after run, and on backends of one family, whatever the number of threads.
fn training_repeats(layer: &Layer, target: &Target) -> Verdict {
    let first = &targets()[0];
    let once = |target: &Target| {
        let results = train(layer, target, Adam::new(0.01).into(), 1);
        results.iter().map(bits).collect::<Vec<_>>()
    };
    let here = once(target);
    if here != once(target) {
        return Err("two runs of the same program differ".into());
    }
    if target.family == first.family && here != once(first) {
        return Err(format!("bits differ from those on {}", first.name));
    }
    Ok(Some(0.0))
}

/// The laws compare plans of whole networks; this says that they are plans of a module's own.
#[test]
fn a_network_behind_a_linear_layer_has_its_parameters() {
    let layers = crate::common::zoo::layers();
    let layer = layers.iter().find(|layer| layer.name == "linear").expect("in the zoo");
    let net = layer.trainable(targets()[0].device(), RATE);
    assert_eq!(net.parameter_names(), ["first.weight", "first.bias", "layer.weight", "layer.bias"]);
    let _: &dyn Module = net.module();
}
