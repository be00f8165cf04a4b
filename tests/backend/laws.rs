// SPDX-License-Identifier: MIT OR Apache-2.0
//! Laws of layers.

use kiln::backend::Backend;
use kiln::mask::Mask;
use kiln::nn::Module;
use kiln::op::{Array, Op, TensorType};
use kiln::passes::{Goal, Seed};
use kiln::plan::Plan;
use kiln::{DType, Mode, Net, Scalars, Tensor};

use super::Verdict;
use crate::common::close::{compare, doubles, Tolerance};
use crate::common::recurrent_zoo::{AMPLIFIED, OF_WEIGHTS, STEPPED, ZONED};
use crate::common::reference::{array, compiled, record, run, Parameters};
use crate::common::stepper::Stepper;
use crate::common::targets::{targets, Target};
use crate::common::zoo::{Layer, SEED};
use crate::common::{bits, Numbers};

type Law = fn(&Layer, &Target) -> Verdict;

const RATE: f32 = 0.5;

pub(super) const LAWS: &[(&str, Law)] = &[
    ("gradient is central differences", gradient_is_central_differences),
    ("results are the meaning", results_are_the_meaning),
    ("kernels are their nodes", kernels_are_their_nodes),
    ("eval is train without dropout", eval_is_train_without_dropout),
    ("runs repeat bit for bit", runs_repeat),
    ("backends draw the same masks", backends_agree),
    ("a rate that changes drops as a constant does", changing_rates_are_constants),
    ("a part of a batch is the part of the result", parts_of_batches),
];

/// A layer recorded, with the gradient of its result as the last input.
struct Recorded {
    net: Net<Box<dyn Module>>,
    parameters: Parameters,
    inputs: [Tensor; 2],
}

impl Recorded {
    fn new(layer: &Layer, target: &Target) -> Self {
        let mut net = layer.net(target.device(), RATE);
        let x = layer.x();
        let parameters = Parameters::of(&mut net, &x.ty());
        let shape = result_shape(&mut net, &x);
        Recorded { net, parameters, inputs: [x, Numbers::new(4).tensor(&shape)] }
    }

    fn plan(&self, mode: Mode, goal: Goal, backend: &dyn Backend) -> Plan {
        let count = if goal == Goal::Forward { 1 } else { 2 };
        let types: Vec<TensorType> = self.inputs[..count].iter().map(Tensor::ty).collect();
        let traced = record(self.net.module(), None, &self.parameters.specs, &types);
        compiled(traced, mode, goal, backend.facts())
    }
}

fn result_shape(net: &mut Net<Box<dyn Module>>, x: &Tensor) -> Vec<usize> {
    let plan = net.plan(Mode::Eval, &[x.ty()]).expect("a plan");
    plan.graph.node(plan.outputs[0].0).ty.shape.dims().to_vec()
}

/// The gradient graph's plain meaning against differences of the forward graph's, all in `f64`.
/// It needs no backend, so the first one stands for all.
fn gradient_is_central_differences(layer: &Layer, target: &Target) -> Verdict {
    if target.name != targets()[0].name {
        return Ok(None);
    }
    let recorded = Recorded::new(layer, target);
    let backend = target.backend();
    let types = [recorded.inputs[0].ty()];
    let forward = record(recorded.net.module(), None, &recorded.parameters.specs, &types).graph;
    let gradients = recorded.plan(Mode::Train, Goal::Gradients(Seed::Input), &*backend).graph;
    let [x, dy] = recorded.inputs.each_ref().map(array);
    let mut state = recorded.parameters.clone();
    let outputs = run(&gradients, &[x.clone(), dy.clone()], &mut state);

    let objective = |x: &Array, parameters: &Parameters| -> f64 {
        let y = run(&forward, std::slice::from_ref(x), &mut parameters.clone());
        y[0].data.iter().zip(&dy.data).map(|(y, dy)| y * dy).sum()
    };
    let mut worst = check_differences("input", &outputs[1], |index, h| {
        let mut x = x.clone();
        x.data[index] += h;
        objective(&x, &recorded.parameters)
    })?;
    for (index, spec) in recorded.parameters.specs.iter().enumerate() {
        let share = check_differences(&spec.name, &state.gradients[index], |element, h| {
            let mut parameters = recorded.parameters.clone();
            parameters.values[index].data[element] += h;
            objective(&x, &parameters)
        })?;
        worst = worst.max(share);
    }
    Ok(Some(worst))
}

/// A layer's own, where rounding is amplified: the worst seen uses 1.35 of the usual.
fn tolerance(layer: &Layer, mut usual: Tolerance) -> Tolerance {
    if AMPLIFIED.contains(&layer.name) {
        (usual.absolute, usual.relative) = (2.0 * usual.absolute, 2.0 * usual.relative);
    }
    usual
}

/// Some elements of a gradient against `(f(h) - f(-h)) / 2h`.
pub(super) fn check_differences(
    name: &str,
    gradient: &Array,
    objective: impl Fn(usize, f64) -> f64,
) -> Result<f64, String> {
    const SAMPLES: usize = 12;
    const STEP: f64 = 1e-5;
    let mut numbers = Numbers::new(5);
    let count = gradient.data.len();
    let mut worst = 0.0f64;
    for sample in 0..SAMPLES.min(count) {
        let index = if count <= SAMPLES { sample } else { numbers.below(count) };
        let slope = (objective(index, STEP) - objective(index, -STEP)) / (2.0 * STEP);
        let what = format!("gradient of {name}, element {index}");
        let (found, slope) = ([gradient.data[index]], [slope]);
        worst = worst.max(compare(&what, &[1], &found, &slope, Tolerance::DIFFERENCES)?);
    }
    Ok(worst)
}

/// Output and all gradients, through the public views, against the `f64` meaning of the graph as
/// it was recorded, before any pass but the gradient's.
fn results_are_the_meaning(layer: &Layer, target: &Target) -> Verdict {
    let mut recorded = Recorded::new(layer, target);
    let [x, dy] = recorded.inputs.clone();
    let backend = target.backend();
    let mut worst = 0.0f64;
    for mode in [Mode::Train, Mode::Eval] {
        let graph = recorded.plan(mode, Goal::Gradients(Seed::Input), &*backend).graph;
        let mut state = recorded.parameters.clone();
        let meant = run(&graph, &[array(&x), array(&dy)], &mut state);
        let mut view = match mode {
            Mode::Train => recorded.net.train(),
            _ => recorded.net.eval(),
        };
        let found = view.gradients(&x, &dy).map_err(|error| error.to_string())?;
        let input = found.input.ok_or("no gradient of the input")?;
        let mut note = |what: &str, got: &Tensor, meant: &Array| -> Result<(), String> {
            let what = format!("{mode:?}: {what}");
            let largest = meant.data.iter().fold(1.0, |m: f64, x| m.max(x.abs()));
            let mut t = tolerance(layer, Tolerance::balanced(DType::F32));
            t.absolute *= largest;
            let got = doubles(got);
            worst = worst.max(compare(&what, meant.shape.dims(), &got, &meant.data, t)?);
            Ok(())
        };
        note("output", &found.output, &meant[0])?;
        note("gradient of the input", &input, &meant[1])?;
        if found.parameters.len() != recorded.parameters.specs.len() {
            return Err(format!("{} gradients", found.parameters.len()));
        }
        for ((name, gradient), meant) in found.parameters.iter().zip(&state.gradients) {
            note(name, gradient, meant)?;
        }
    }
    Ok(Some(worst))
}

/// Each step of each plan against the subgraph that it replaces.
fn kernels_are_their_nodes(layer: &Layer, target: &Target) -> Verdict {
    let recorded = Recorded::new(layer, target);
    let mut backend = target.backend();
    let mut scalars = Scalars::new(SEED);
    // Sample and pass counters take part in the masks.
    (scalars.pass, scalars.sample_offset) = (3, 1000);
    let mut worst = 0.0f64;
    for mode in [Mode::Train, Mode::Eval] {
        for goal in [Goal::Forward, Goal::Gradients(Seed::Input)] {
            let plan = recorded.plan(mode, goal, &*backend);
            let mut stepper = Stepper::new(&mut *backend, &plan, &recorded.parameters);
            let t = Tolerance::balanced(DType::F32);
            worst = worst.max(stepper.judge(&recorded.inputs, &scalars, t)?.worst);
        }
    }
    Ok(Some(worst))
}

/// A network in eval mode gives the bits of one in train mode that never had dropout; nearly so where that one
/// makes all steps in one operation.
fn eval_is_train_without_dropout(layer: &Layer, target: &Target) -> Verdict {
    if ZONED.contains(&layer.name) {
        return Ok(None); // it is the expectation
    }
    let [x, dy] = Recorded::new(layer, target).inputs;
    let mut eval = layer.net(target.device(), RATE);
    let mut train = layer.net(target.device(), 0.0);
    let outputs =
        [eval.eval().forward(&x).expect("eval"), train.train().forward(&x).expect("train")];
    let (a, b) = (eval.eval().gradients(&x, &dy), train.train().gradients(&x, &dy));
    let pairs = [(outputs[0].clone(), outputs[1].clone())].into_iter().chain(
        gradient_tensors(a.expect("eval")).into_iter().zip(gradient_tensors(b.expect("train"))),
    );
    let mut worst = 0.0f64;
    for (a, b) in pairs {
        if STEPPED.contains(&layer.name) {
            // The same sums in another order: the worst seen uses 21 % of this.
            let (found, expected, shape) = (doubles(&a), doubles(&b), b.shape().dims());
            let t = Tolerance::strict(DType::F32);
            worst = worst.max(compare("eval mode", shape, &found, &expected, t)?);
        } else if bits(&a) != bits(&b) {
            return Err("eval mode and train mode without dropout differ".into());
        }
    }
    Ok(Some(worst))
}

fn gradient_tensors(gradients: kiln::Gradients) -> Vec<Tensor> {
    let parameters = gradients.parameters.into_iter().map(|(_, tensor)| tensor);
    parameters.chain(gradients.input).chain([gradients.output]).collect()
}

fn gradient_bits(gradients: &kiln::Gradients) -> Vec<Vec<u32>> {
    let parameters = gradients.parameters.iter().map(|(_, tensor)| tensor);
    parameters.chain(&gradients.input).chain([&gradients.output]).map(bits).collect()
}

/// The same program gives the same bits, pass after pass and network after network.
fn runs_repeat(layer: &Layer, target: &Target) -> Verdict {
    let [x, dy] = Recorded::new(layer, target).inputs;
    let once = || {
        let mut net = layer.net(target.device(), RATE);
        let mut all = Vec::new();
        for _ in 0..2 {
            all.push(bits(&net.train().forward(&x).expect("a pass")));
            all.extend(gradient_bits(&net.train().gradients(&x, &dy).expect("a pass")));
            all.push(bits(&net.eval().forward(&x).expect("a pass")));
        }
        all
    };
    match once() == once() {
        true => Ok(Some(0.0)),
        false => Err("two runs of the same program differ".into()),
    }
}

/// Masks are the same on every backend; on backends of one arithmetic, so is every bit.
fn backends_agree(layer: &Layer, target: &Target) -> Verdict {
    let first = &targets()[0];
    let [x, dy] = Recorded::new(layer, target).inputs;
    let on = |target: &Target| {
        let mut net = layer.net(target.device(), RATE);
        net.train().gradients(&x, &dy).expect("a pass")
    };
    let (here, there) = (on(target), on(first));
    if target.family == first.family && gradient_bits(&here) != gradient_bits(&there) {
        return Err(format!("bits differ from those on {}", first.name));
    }
    let zeros = |tensor: &Tensor| doubles(tensor).iter().map(|&y| y == 0.0).collect::<Vec<_>>();
    match zeros(&here.output) == zeros(&there.output) {
        true => Ok(Some(0.0)),
        false => Err(format!("masks differ from those on {}", first.name)),
    }
}

/// A rate that is read in each run does what a constant of its value does, bit for bit, and at 0 what a
/// network does that drops nothing. The plans are the same for all rates.
fn changing_rates_are_constants(layer: &Layer, target: &Target) -> Verdict {
    let [x, dy] = Recorded::new(layer, target).inputs;
    let mut changing = layer.net_at_changing_rates(target.device(), RATE);
    // Those that drop nothing do not take part.
    let layers =
        changing.dropout_rates(0).expect("rates").into_iter().filter(|(_, rate)| *rate > 0.0);
    let layers: Vec<String> = layers.map(|(layer, _)| layer.to_owned()).collect();
    if layers.is_empty() {
        return Ok(None);
    }
    let mut plans = None;
    for (pass, rate) in [RATE, 0.0, 0.3, RATE].into_iter().enumerate() {
        for layer in &layers {
            changing.set_dropout_rate(layer, rate).expect("a rate");
        }
        let mut constant = layer.net(target.device(), rate);
        for _ in 0..pass {
            constant.train().gradients(&x, &dy).expect("a pass");
        }
        let expected = gradient_tensors(constant.train().gradients(&x, &dy).expect("a pass"));
        let found = gradient_tensors(changing.train().gradients(&x, &dy).expect("a pass"));
        for (number, (found, expected)) in found.iter().zip(&expected).enumerate() {
            // Where no weight is dropped, a gradient may be stored by another kernel; on the CPU no bit differs.
            if rate == 0.0 && target.family != "cpu" && OF_WEIGHTS.contains(&layer.name) {
                let (t, shape) = (Tolerance::strict(DType::F32), expected.shape().dims());
                compare("rate 0", shape, &doubles(found), &doubles(expected), t)?;
            } else if bits(found) != bits(expected) {
                let pairs = doubles(found).into_iter().zip(doubles(expected));
                let most = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
                return Err(format!("tensor {number} differs by {most:e} at rate {rate}"));
            }
        }
        if plans.is_some_and(|plans| plans != changing.plans()) {
            return Err(format!("another plan for rate {rate}"));
        }
        plans = Some(changing.plans());
    }
    Ok(Some(0.0))
}

/// Rows of a batch do not see one another, so half a batch in eval mode gives half the result.
fn parts_of_batches(layer: &Layer, target: &Target) -> Verdict {
    let x = layer.x();
    let samples = x.shape().samples();
    if samples < 2 || ["arithmetic", "products"].contains(&layer.name) {
        return Ok(None); // nothing to divide, or a mean over the batch
    }
    let mut net = layer.net(target.device(), RATE);
    let whole = net.eval().forward(&x).expect("a pass");
    let mut worst = 0.0f64;
    for (start, end) in [(0, samples / 2), (samples / 2, samples)] {
        let part = net.eval().forward(&x.samples(start, end).expect("a range")).expect("a pass");
        let expected = whole.samples(start, end).expect("a range");
        let t = Tolerance::strict(DType::F32);
        let what = format!("samples {start}..{end}");
        let (part, shape) = (doubles(&part), expected.shape().dims());
        worst = worst.max(compare(&what, shape, &part, &doubles(&expected), t)?);
    }
    Ok(Some(worst))
}

/// Dropout alone shows its mask: the outputs are the scale or 0.
#[test]
fn masks_are_seen_through_a_forward_pass() {
    for target in targets() {
        for shape in [vec![1, 1], vec![5, 31], vec![3, 7, 33], vec![2, 1000], vec![2, 3, 5, 7]] {
            for p in [0.1, 0.5, 0.9] {
                let make = |s: &kiln::nn::Scope| kiln::nn::Dropout::new(&s.at("dropout1"), p);
                let mut net = Net::new(target.device(), kiln::Seed(SEED), make).expect("a network");
                let mask = Mask::new(SEED, "dropout1#0", p);
                let elements: usize = shape[1..].iter().product();
                let ones = Tensor::new(&shape[..], vec![1.0; shape[0] * elements]).expect("ones");
                for pass in 0..2 {
                    let y = net.train().forward(&ones).expect("a pass");
                    for (index, &y) in y.values().expect("f32").iter().enumerate() {
                        let (sample, element) = (index / elements, index % elements);
                        let number = channels_last(&shape, element);
                        let kept = mask.keeps(pass, sample as u32, number as u32);
                        let expected = if kept { mask.scale() } else { 0.0 };
                        assert_eq!(
                            y, expected,
                            "{shape:?} p={p} pass {pass} [{sample}, {element}]"
                        );
                    }
                }
            }
        }
    }
}

/// Images count their elements with the channels last.
pub(super) fn channels_last(shape: &[usize], element: usize) -> usize {
    match *shape {
        [_, channels, height, width] => {
            let (channel, pixel) = (element / (height * width), element % (height * width));
            assert!(channel < channels);
            pixel * channels + channel
        }
        _ => element,
    }
}

/// The zoo has what the laws are about: random layers, parameters, fused kernels.
#[test]
fn the_zoo_is_not_empty_handed() {
    let target = &targets()[0];
    let (mut random, mut fused, mut trained) = (0, 0, 0);
    for layer in crate::common::zoo::layers() {
        let recorded = Recorded::new(&layer, target);
        let backend = target.backend();
        let plan = recorded.plan(Mode::Train, Goal::Gradients(Seed::Input), &*backend);
        random +=
            usize::from(plan.graph.nodes().any(|(_, node)| matches!(node.op, Op::Dropout(_))));
        fused += usize::from(plan.steps.iter().any(|step| step.nodes.len() > 1));
        trained += usize::from(!recorded.parameters.specs.is_empty());
    }
    assert!(random >= 20 && fused >= 20 && trained >= 20, "{random} {fused} {trained}");
}
