// SPDX-License-Identifier: MIT OR Apache-2.0
//! Laws of losses.

use kiln::loss::Loss;
use kiln::nn::Module;
use kiln::op::{Array, TensorType};
use kiln::passes::{Goal, Seed};
use kiln::plan::Plan;
use kiln::{DType, Device, Mode, Net, Scalars, Tensor, Var};

use super::laws::check_differences;
use super::Verdict;
use crate::common::bits;
use crate::common::close::{compare, doubles, Tolerance};
use crate::common::reference::{array, compiled, record, run, Parameters};
use crate::common::stepper::Stepper;
use crate::common::targets::{targets, Target};
use crate::common::zoo::{LossCase, SEED};

type Law = fn(&LossCase, &Target) -> Verdict;

pub(super) const LAWS: &[(&str, Law)] = &[
    ("loss gradient is central differences", gradient_is_central_differences),
    ("losses are their meaning", losses_are_their_meaning),
    ("loss kernels are their nodes", kernels_are_their_nodes),
    ("losses repeat bit for bit", losses_repeat),
];

/// The scores themselves.
struct Identity;

impl Module for Identity {
    fn forward(&self, x: &Var) -> Var {
        x.clone()
    }
}

fn net(device: Device) -> Net<Identity> {
    Net::new(device, kiln::Seed(SEED), |_| Identity).expect("a network")
}

fn inputs(case: &LossCase) -> Vec<Tensor> {
    let mut inputs = vec![case.x(), case.target()];
    inputs.extend(case.loss.inputs());
    inputs
}

fn plan(case: &LossCase, target: &Target, parameters: &Parameters, goal: Goal) -> Plan {
    let types: Vec<TensorType> = inputs(case).iter().map(Tensor::ty).collect();
    let traced = record(&Identity, Some(&case.loss), &parameters.specs, &types);
    compiled(traced, Mode::Train, goal, target.backend().facts())
}

fn gradient_is_central_differences(case: &LossCase, target: &Target) -> Verdict {
    if target.name != targets()[0].name {
        return Ok(None); // needs no backend
    }
    let parameters = Parameters::of(&mut net(target.device()), &case.x().ty());
    let forward = plan(case, target, &parameters, Goal::Forward).graph;
    let gradients = plan(case, target, &parameters, Goal::Gradients(Seed::One)).graph;
    let arrays: Vec<Array> = inputs(case).iter().map(array).collect();
    let outputs = run(&gradients, &arrays, &mut parameters.clone());
    let worst = check_differences("scores", &outputs[2], |index, h| {
        let mut arrays = arrays.clone();
        arrays[0].data[index] += h;
        run(&forward, &arrays, &mut parameters.clone())[0].data[0]
    })?;
    Ok(Some(worst))
}

fn losses_are_their_meaning(case: &LossCase, target: &Target) -> Verdict {
    let mut net = net(target.device());
    let parameters = Parameters::of(&mut net, &case.x().ty());
    let graph = plan(case, target, &parameters, Goal::Gradients(Seed::One)).graph;
    let arrays: Vec<Array> = inputs(case).iter().map(array).collect();
    let meant = run(&graph, &arrays, &mut parameters.clone());
    let (x, labels) = (case.x(), case.target());
    let found = net.train().loss_gradients(&case.loss, &x, &labels).map_err(|e| e.to_string())?;
    let alone = net.eval().loss(&case.loss, &x, &labels).map_err(|e| e.to_string())?;
    let t = Tolerance::strict(DType::F32);
    let gradient = found.input.ok_or("no gradient of the scores")?;
    let mut worst = 0.0f64;
    for (what, got, meant) in [
        ("loss", &found.output, &meant[0]),
        ("loss alone", &alone, &meant[0]),
        ("gradient", &gradient, &meant[2]),
    ] {
        worst = worst.max(compare(what, meant.shape.dims(), &doubles(got), &meant.data, t)?);
    }
    Ok(Some(worst))
}

fn kernels_are_their_nodes(case: &LossCase, target: &Target) -> Verdict {
    let parameters = Parameters::of(&mut net(target.device()), &case.x().ty());
    let mut scalars = Scalars::new(SEED);
    // The gradient of a micro-batch is scaled by its share.
    scalars.share = 0.375;
    let mut worst = 0.0f64;
    for goal in [Goal::Forward, Goal::Gradients(Seed::One)] {
        let plan = plan(case, target, &parameters, goal);
        let mut backend = target.backend();
        let mut stepper = Stepper::new(&mut *backend, &plan, &parameters);
        let t = Tolerance::strict(DType::F32);
        worst = worst.max(stepper.judge(&inputs(case), &scalars, t)?.worst);
    }
    Ok(Some(worst))
}

fn losses_repeat(case: &LossCase, target: &Target) -> Verdict {
    let once = |device: Device| {
        let found = net(device).train().loss_gradients(&case.loss, &case.x(), &case.target());
        let found = found.expect("a pass");
        (bits(&found.output), found.input.as_ref().map(bits))
    };
    let first = &targets()[0];
    let here = once(target.device());
    if here != once(target.device()) {
        return Err("two runs of the same program differ".into());
    }
    if target.family == first.family && here != once(first.device()) {
        return Err(format!("bits differ from those on {}", first.name));
    }
    Ok(Some(0.0))
}
