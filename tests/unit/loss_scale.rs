// SPDX-License-Identifier: MIT OR Apache-2.0
//! Loss scales on the CPU: gradients that would vanish, and updates that are skipped.

use kiln::data::Digits;
use kiln::loss::{self, CrossEntropy, Loss, Mse};
use kiln::nn::{Linear, Module, Scope};
use kiln::optim::{Adam, Average, Schedule, Sgd};
use kiln::{Device, Error, LossScale, Net, NonFinite, Precision, Seed, Tensor, Trainer, Var};

use crate::common::{bits, Numbers};

struct TwoLayers(Linear, Linear);

impl Module for TwoLayers {
    fn forward(&self, x: &Var) -> Var {
        self.1.forward(&self.0.forward(x).relu())
    }
}

fn two_layers(precision: Precision, [inputs, hidden, outputs]: [usize; 3]) -> Net<TwoLayers> {
    let make = |p: &Scope| {
        TwoLayers(
            Linear::new(&p.at("fc1"), inputs, hidden),
            Linear::new(&p.at("fc2"), hidden, outputs),
        )
    };
    Net::new(Device::cpu().with_precision(precision), Seed(5), make).expect("a network")
}

/// Digits from one on, again and again.
fn digits(first: usize, count: usize, of: usize) -> (Tensor, Tensor) {
    let all = Digits::load();
    let places = || (0..count).map(|index| first + index % of);
    let pixels = places().flat_map(|place| &all.pixels()[64 * place..][..64]);
    let x = pixels.map(|&pixel| f32::from(pixel) / 16.0).collect();
    let labels = places().map(|place| i32::from(all.labels()[place])).collect();
    let x = Tensor::new([count, 64], x).expect("as many");
    (x, Tensor::labels([count], labels).expect("as many"))
}

/// Accuracy on digits that were not trained on.
fn accuracy(precision: Precision, scale: LossScale, batch: usize) -> f64 {
    // So small that no gradient of a score is a number of f16: with a learning rate as much larger, a
    // training in f32 is what it is without the factor.
    const FACTOR: f32 = 1.0 / (1 << 18) as f32;
    let small = loss::from_fn(|scores: &Var, labels: &Var| {
        CrossEntropy::default().forward(scores, labels, &[]).scale(FACTOR)
    });
    let net = two_layers(precision, [64, 32, 10]);
    let fit = Trainer::new(net, small, Sgd::new(0.2 / f64::from(FACTOR)).momentum(0.9))
        .expect("a trainer");
    let mut fit = fit.with_loss_scale(scale).expect("a scale");
    let (x, labels) = digits(0, batch, 1400);
    for _ in 0..40 {
        fit.step(&x, &labels).expect("a step");
    }
    let (x, labels) = digits(1400, 397, 397);
    let guesses = fit.net().eval().forward(&x).expect("a pass").argmax().expect("classes");
    let right = guesses.iter().zip(labels.integers().expect("labels"));
    right.filter(|(guess, label)| **guess == **label as usize).count() as f64 / 397.0
}

#[test]
fn gradients_that_vanish_in_16_bits_train_with_a_scale_as_in_32() {
    for batch in [1024, 4096] {
        let whole = accuracy(Precision::F32, LossScale::Off, batch);
        let scaled = accuracy(Precision::F16, LossScale::dynamic(), batch);
        let vanished = accuracy(Precision::F16, LossScale::Off, batch);
        assert!(whole > 0.85, "{batch}: {whole}");
        assert!((scaled - whole).abs() <= 0.01, "{batch}: {scaled}, in f32 {whole}");
        assert!(vanished < 0.3, "{batch}: {vanished} without a scale");
    }
}

fn growing(init_scale: f32, growth_interval: u32) -> LossScale {
    let (growth_factor, backoff_factor) = (2.0, 0.5);
    LossScale::Dynamic { init_scale, growth_factor, backoff_factor, growth_interval }
}

/// A training whose third update overflows: at 2^21 the gradient of a score is too large for f16.
fn overflowing(parts: usize) -> Trainer<TwoLayers> {
    let net = two_layers(Precision::F16, [12, 9, 5]);
    let fit = Trainer::new(net, CrossEntropy::default(), Adam::new(1e-3)).expect("a trainer");
    let fit = fit.with_schedule(Schedule::one_cycle(0.01, 50)).expect("a schedule");
    let fit = fit.with_average(Average::new(0.9)).expect("an average");
    let fit = fit.with_micro_batches(parts).expect("1 or more");
    fit.with_loss_scale(growing(2f32.powi(19), 1)).expect("a scale")
}

fn batch(step: u64) -> (Tensor, Tensor) {
    let mut numbers = Numbers::new(step);
    (numbers.tensor(&[18, 12]), numbers.labels(18, 5))
}

fn parameters(fit: &mut Trainer<TwoLayers>) -> Vec<Vec<u32>> {
    let names: Vec<String> = fit.net().parameter_names().into_iter().map(Into::into).collect();
    names.iter().map(|name| bits(&fit.net().parameter(name).expect("its name"))).collect()
}

/// What its averages answer.
fn averaged(fit: &mut Trainer<TwoLayers>) -> Vec<u32> {
    let (x, _) = batch(99);
    bits(&fit.averaged().expect("kept").forward(&x).expect("a pass"))
}

#[test]
fn an_overflow_leaves_everything_as_it_is_and_halves_the_scale() {
    for parts in [1, 3] {
        let mut fit = overflowing(parts);
        let mut scales = Vec::new();
        for step in 0..6 {
            let (x, labels) = batch(step);
            let before = (parameters(&mut fit), averaged(&mut fit), fit.rate(), fit.momentum());
            let loss = fit.step(&x, &labels).expect("a step");
            let after = (parameters(&mut fit), averaged(&mut fit), fit.rate(), fit.momentum());
            let is_skipped = loss.overflow().expect("a number").is_some();
            assert_eq!(before == after, is_skipped, "step {step} in {parts} parts");
            assert_eq!((before.2, before.3) == (after.2, after.3), is_skipped);
            let state = fit.training_state().expect("the CPU");
            scales.push((state.loss_scale.log2(), state.updates, state.skipped));
        }
        let expected =
            [(20.0, 1, 0), (21.0, 2, 0), (20.0, 2, 1), (21.0, 3, 1), (20.0, 3, 2), (21.0, 4, 2)];
        assert_eq!(scales, expected, "{parts} parts");
        assert_eq!(fit.updates(), 6);
    }
}

/// Of a training that skips an update, those behind it are what they are without it.
#[test]
fn a_skipped_update_is_as_if_it_had_not_been() {
    let train = |steps: &[u64]| {
        let mut fit = overflowing(1);
        for &step in steps {
            let (x, labels) = batch(step);
            fit.step(&x, &labels).expect("a step");
        }
        (parameters(&mut fit), averaged(&mut fit), fit.rate())
    };
    // The third and the fifth of these are skipped, whatever they hold.
    assert_eq!(train(&[0, 1, 2, 3, 4, 5]), train(&[0, 1, 7, 3, 8, 5]));
    assert_ne!(train(&[0, 1, 2, 3, 4, 5]).0, train(&[0, 1, 2, 6, 4, 5]).0);
}

/// Input that overflows on its way forward: the loss is not finite, so a training stops that is not told
/// to go on; the update is skipped either way.
#[test]
fn input_that_is_too_large_is_skipped() {
    for policy in [NonFinite::Stop, NonFinite::Continue] {
        let net = two_layers(Precision::F16, [12, 9, 5]);
        let fit = Trainer::new(net, CrossEntropy::default(), Adam::new(1e-3)).expect("a trainer");
        let mut fit = fit.with_non_finite(policy);
        for step in 0..5 {
            let (x, labels) = batch(step);
            let values = x.values().expect("f32").iter();
            let factor = if step == 2 { 1e6 } else { 1.0 };
            let x = Tensor::new([18, 12], values.map(|x| factor * x).collect()).expect("as many");
            let before = parameters(&mut fit);
            let stepped = fit.step(&x, &labels);
            let stops = step == 2 && policy == NonFinite::Stop;
            assert_eq!(matches!(stepped, Err(Error::NonFinite { update: 3, .. })), stops);
            assert_eq!(parameters(&mut fit) == before, step == 2);
        }
        let state = fit.training_state().expect("the CPU");
        assert_eq!((state.loss_scale, state.updates, state.skipped), (32768.0, 4, 1));
        assert_eq!((state.growth, fit.updates()), (2, 5));
    }
}

/// The norm is that of the loss's own gradients, and clipping compares with it.
#[test]
fn norms_and_clipping_are_of_unscaled_gradients() {
    let norms = |scale: LossScale, max_norm: f64| {
        let net = two_layers(Precision::F32, [12, 9, 5]);
        let fit = Trainer::new(net, CrossEntropy::default(), Sgd::new(0.1)).expect("a trainer");
        let fit = fit.with_clipping(max_norm).expect("a norm");
        let mut fit = fit.with_loss_scale(scale).expect("a scale");
        let (x, labels) = batch(0);
        let gradients = fit.gradients(&x, &labels).expect("a pass");
        let loss = fit.step(&x, &labels).expect("a step");
        let gradients: Vec<_> = gradients.iter().map(|(_, gradient)| bits(gradient)).collect();
        let norm = loss.gradient_norm().expect("a number").expect("computed");
        (norm, gradients, parameters(&mut fit))
    };
    // Powers of two round nothing in f32.
    for max_norm in [1e-2, 1e3] {
        let plain = norms(LossScale::Off, max_norm);
        assert!(plain.0 > 1e-2 && plain.0 < 1e3);
        for scale in [LossScale::Static(1024.0), LossScale::Static(0.125), growing(65536.0, 1)] {
            assert_eq!(norms(scale, max_norm), plain, "{scale:?}, {max_norm}");
        }
    }
}

/// In other precisions than f16 nothing is scaled unless it is asked for.
#[test]
fn only_f16_has_a_scale_by_default() {
    for precision in [Precision::F32, Precision::Tf32, Precision::Bf16, Precision::F16] {
        let net = two_layers(precision, [12, 9, 5]);
        let mut fit = Trainer::new(net, CrossEntropy::default(), Sgd::new(0.1)).expect("a trainer");
        let (x, labels) = batch(0);
        let loss = fit.step(&x, &labels).expect("a step");
        let plan = fit.plan(&x.ty(), &labels.ty()).expect("a plan");
        let is_scaled = plan.steps.iter().any(|step| step.kernel.name() == "unscale");
        assert_eq!(is_scaled, precision == Precision::F16, "{precision}");
        let scale = if is_scaled { LossScale::dynamic() } else { LossScale::Off };
        assert_eq!(fit.loss_scale(), scale);
        assert_eq!(loss.overflow().expect("a number"), None);
        let kept = fit.training_state().expect("the CPU").loss_scale;
        assert_eq!(kept, if is_scaled { 65536.0 } else { 0.0 });
    }
}

/// When the scale can fall no further to any use, the training stops as without one.
#[test]
fn gradients_that_overflow_at_any_scale_stop_the_training() {
    let fit = |scale: LossScale| {
        let net = two_layers(Precision::F32, [1, 1, 1]);
        let fit = Trainer::new(net, Mse::default(), Sgd::new(0.1)).expect("a trainer");
        let mut fit = fit.with_loss_scale(scale).expect("a scale");
        for name in ["fc1.weight", "fc2.weight"] {
            let small = Tensor::new([1, 1], vec![1e-10]).expect("one");
            fit.net().set_parameter(name, &small).expect("its shape");
        }
        fit
    };
    // Forward yields little, but the first layer's gradient is 1e30 times 1e19.
    let x = Tensor::new([1, 1], vec![1e30]).expect("one");
    let target = Tensor::new([1, 1], vec![1e19]).expect("one");
    for (scale, steps) in [(growing(8.0, 2000), 4), (LossScale::Static(8.0), 1)] {
        let mut fit = fit(scale);
        let failed = (1..).find_map(|step| Some((step, fit.step(&x, &target).err()?)));
        let (step, error) = failed.expect("an end");
        let Error::NonFinite { update, what, .. } = &error else { panic!("{error}") };
        assert_eq!((step, *update), (steps, steps), "{error}");
        assert!(what.contains("loss scale"), "{error}");
        assert_eq!(fit.training_state().expect("the CPU").updates, 0);
    }
}
