// SPDX-License-Identifier: MIT OR Apache-2.0
//! What masks do to values, and what they do not depend on.

use std::num::NonZeroUsize;

use kiln::loss::{Loss, Mse, Reduction};
use kiln::mask::{site_of, Mask};
use kiln::nn::{Dropout, Dropout2d, Init, Linear, Module, Param, Relu, Scope, Sequential};
use kiln::optim::Sgd;
use kiln::{Device, Error, Net, Result, Seed, Tensor, Trainer, Var};

use crate::common::zoo::Twice;
use crate::common::{bits, philox, Numbers};

const SEED: u64 = 0xdead_beef_0bad_cafe;

fn dropout(p: f32) -> Net<Dropout> {
    let make = |s: &Scope| Dropout::new(&s.at("dropout"), p);
    Net::new(Device::cpu(), Seed(SEED), make).expect("a network")
}

fn ones(shape: &[usize]) -> Tensor {
    Tensor::new(shape, vec![1.0; shape.iter().product()]).expect("ones")
}

/// The scheme written twice gives the same bits, for counters from everywhere.
#[test]
fn masks_are_the_scheme() {
    let mut numbers = Numbers::new(11);
    for index in 0..20_000 {
        let seed = numbers.bits();
        let p = [0.0, 0.1, 0.2, 0.25, 0.5, 0.75, 0.9, 0.999, 1.0][index % 9];
        let site = format!("layer{}.dropout#{}", numbers.below(1000), numbers.below(3));
        let at = [numbers.bits() as u32, numbers.bits() as u32, numbers.bits() as u32];
        let expected = philox::keeps(seed, site_of(&site), f64::from(p), at);
        let found = Mask::new(seed, &site, p).keeps(at[0], at[1], at[2]);
        assert_eq!(found, expected, "seed {seed} site {site} p {p} at {at:?}");
    }
}

#[test]
fn no_dropout_is_the_identity_and_all_dropout_zero() {
    let x = Numbers::new(12).tensor(&[5, 33]);
    assert_eq!(bits(&dropout(0.0).train().forward(&x).expect("a pass")), bits(&x));
    let y = dropout(1.0).train().forward(&x).expect("a pass");
    assert!(y.values().expect("f32").iter().all(|&y| y == 0.0));
    let gradient = dropout(1.0).train().gradients(&x, &x).expect("a pass").input;
    assert!(gradient.expect("a gradient").values().expect("f32").iter().all(|&dx| dx == 0.0));
}

/// A layer with p = 1 behind a linear layer and ReLU, where the kernels are fused.
#[test]
fn all_dropout_in_a_fused_kernel_gives_zero_and_stops_the_gradient() {
    let make = |s: &Scope| {
        let block = Sequential::new(s).with(|p| Linear::new(p, 7, 33)).with(|_| Relu);
        block.with(|p| Dropout::new(p, 1.0))
    };
    let mut net = Net::new(Device::cpu(), Seed(SEED), make).expect("a network");
    let (x, dy) = (Numbers::new(1).tensor(&[5, 7]), Numbers::new(2).tensor(&[5, 33]));
    let found = net.train().gradients(&x, &dy).expect("a pass");
    let all = found.parameters.iter().map(|(_, g)| g).chain(&found.input).chain([&found.output]);
    for tensor in all {
        assert!(tensor.values().expect("f32").iter().all(|&value| value == 0.0));
    }
}

/// Dropped elements are selected to 0, not multiplied by 0.
#[test]
fn dropped_infinities_and_nans_are_zero() {
    let width = 64;
    let mask = Mask::new(SEED, "dropout#0", 0.5);
    for special in [f32::INFINITY, f32::NEG_INFINITY, f32::NAN] {
        let x = Tensor::new([2, width], vec![special; 2 * width]).expect("specials");
        let mut net = dropout(0.5);
        let found = net.train().gradients(&x, &x).expect("a pass");
        for y in [&found.output, found.input.as_ref().expect("a gradient")] {
            for (index, y) in y.values().expect("f32").iter().enumerate() {
                let kept = mask.keeps(0, (index / width) as u32, (index % width) as u32);
                let expected = if kept { special } else { 0.0 };
                assert!(*y == expected || (y.is_nan() && expected.is_nan()), "{y} at {index}");
            }
        }
    }
}

/// Each call of a layer is a site of its own.
#[test]
fn a_layer_called_twice_draws_two_masks() {
    let make = |s: &Scope| Twice(Dropout::new(&s.at("dropout"), 0.5));
    let mut net = Net::new(Device::cpu(), Seed(SEED), make).expect("a network");
    let width = 257;
    let y = net.train().forward(&ones(&[3, width])).expect("a pass");
    let sites = ["dropout#0", "dropout#1"].map(|site| Mask::new(SEED, site, 0.5));
    let mut both = 0;
    for (index, &y) in y.values().expect("f32").iter().enumerate() {
        let at = ((index / width) as u32, (index % width) as u32);
        let kept = sites.iter().all(|mask| mask.keeps(0, at.0, at.1));
        assert_eq!(y, if kept { 4.0 } else { 0.0 }, "{at:?}");
        both += usize::from(kept);
    }
    assert!(both < y.shape().elements() / 2, "one mask twice would keep half");
}

/// Two layers of one path and call would share their masks; the hash is what tells them apart.
#[test]
fn sites_that_collide_are_reported() {
    // Two names of equal FNV-1a hash, found by search.
    let names = colliding_names();
    let make = |s: &Scope| {
        let block = Sequential::new(&s.at("x")).with(|_| Relu);
        let [a, b] = names.each_ref().map(|name| Dropout::new(&s.at(name), 0.5));
        block.with(|_| a).with(|_| b)
    };
    let mut net = Net::new(Device::cpu(), Seed(SEED), make).expect("paths of their own");
    let error = net.train().forward(&ones(&[1, 4])).unwrap_err();
    assert!(matches!(error, Error::Shape { .. }), "{error:?}");
    let message = error.to_string();
    assert!(names.iter().all(|name| message.contains(name)), "{message}");
}

/// Names of two layers whose first calls have one hash: a birthday among some hundred thousand.
fn colliding_names() -> [String; 2] {
    let mut known = std::collections::BTreeMap::new();
    for number in 0..1_000_000u32 {
        let name = format!("d{}", number.wrapping_mul(2_654_435_761));
        if let Some(other) = known.insert(site_of(&format!("{name}#0")), name.clone()) {
            return [other, name];
        }
    }
    panic!("a million names without a collision of 32 bits");
}

/// Parameters that see a mask each: the gradient of element `j` is the sum of `2^b` over the
/// samples `b` that keep it, so that the update spells the mask out in binary.
struct Revealing {
    gain: Param,
    dropout: Dropout,
}

impl Module for Revealing {
    fn forward(&self, x: &Var) -> Var {
        self.dropout.forward(&(x * &x.parameter(&self.gain)))
    }
}

/// The sum of `output * target`.
#[derive(Debug)]
struct Weighted;

impl Loss for Weighted {
    fn forward(&self, output: &Var, target: &Var, _own: &[Var]) -> Var {
        (output * target).sum()
    }

    fn check(&self, _target: &Tensor) -> Result<()> {
        Ok(())
    }

    fn weight(&self, _samples: usize, _target: &Tensor) -> Option<f64> {
        None
    }

    fn key(&self) -> String {
        format!("Weighted {:?}", Reduction::Sum)
    }
}

/// Masks of two training steps, as they reach the parameters.
fn revealed(threads: usize, parts: usize, samples: usize, width: usize) -> Vec<Vec<u32>> {
    let device = Device::cpu_with_threads(NonZeroUsize::new(threads).expect("some"));
    let make = |s: &Scope| Revealing {
        gain: s.parameter("gain", [width], Init::Constant(0.0)),
        dropout: Dropout::new(&s.at("dropout"), 0.5),
    };
    let net = Net::new(device, Seed(SEED), make).expect("a network");
    let fit = Trainer::new(net, Weighted, Sgd::new(1.0)).expect("a trainer");
    let mut fit = fit.with_micro_batches(parts).expect("1 or more");
    let powers: Vec<f32> = (0..samples).flat_map(|b| vec![(1u32 << b) as f32; width]).collect();
    let target = Tensor::new([samples, width], powers).expect("a power of 2 per sample");
    let mut steps = Vec::new();
    for _ in 0..2 {
        fit.net().set_parameter("gain", &Tensor::zeros([width])).expect("its name");
        fit.step(&ones(&[samples, width]), &target).expect("a step");
        let gain = fit.net().parameter("gain").expect("its name");
        // Kept elements count twice: the scale of p = 0.5.
        steps.push(gain.values().expect("f32").iter().map(|&g| (-g / 2.0) as u32).collect());
    }
    steps
}

#[test]
fn masks_of_a_step_depend_on_neither_threads_nor_micro_batches() {
    let (samples, width) = (20, 37);
    let mask = Mask::new(SEED, "dropout#0", 0.5);
    let sum = |step: u32, element: usize| -> u32 {
        let keeps = |b: &usize| mask.keeps(step, *b as u32, element as u32);
        (0..samples).filter(keeps).map(|b| 1 << b).sum()
    };
    let expected: Vec<Vec<u32>> =
        (0..2).map(|step| (0..width).map(|element| sum(step, element)).collect()).collect();
    for threads in [1, 2, 3] {
        for parts in [1, 2, 3, 7, 20, 50] {
            let found = revealed(threads, parts, samples, width);
            assert_eq!(found, expected, "{threads} threads, {parts} micro-batches");
        }
    }
}

/// Where a reshape or a transpose makes other samples, a part of a batch cannot know which samples
/// of the whole it has.
#[test]
fn micro_batches_are_refused_where_their_masks_would_be_others() {
    struct Shaped(Dropout, fn(&Var, &Dropout) -> Var);
    impl Module for Shaped {
        fn forward(&self, x: &Var) -> Var {
            (self.1)(x, &self.0)
        }
    }
    type Case = (fn(&Var, &Dropout) -> Var, &'static str);
    let cases: [Case; 3] = [
        (|x, drop| drop.forward(&x.reshape([2 * samples(x), 4])).reshape([samples(x), 8]), "6"),
        (|x, drop| drop.forward(&x.t()).t(), "8"),
        (|x, drop| drop.forward(&x.reshape([samples(x), 2, 4])).reshape([samples(x), 8]), ""),
    ];
    let (x, y) = (Numbers::new(1).tensor(&[6, 8]), Numbers::new(2).tensor(&[6, 8]));
    for (forward, counted) in cases {
        let trainer = |parts| {
            let make = |p: &Scope| Shaped(Dropout::new(&p.at("drop"), 0.5), forward);
            let net = Net::new(Device::cpu(), Seed(SEED), make).expect("a network");
            let fit = Trainer::new(net, Mse::default(), Sgd::new(0.1)).expect("a trainer");
            fit.with_micro_batches(parts).expect("1 or more")
        };
        let whole = trainer(1).step(&x, &y).expect("a step").value().expect("a loss");
        let mut divided = trainer(2);
        match counted {
            "" => {
                let loss = divided.step(&x, &y).expect("a step").value().expect("a loss");
                assert!((loss - whole).abs() < 1e-5, "{loss}, undivided {whole}");
            }
            counted => {
                let error = divided.step(&x, &y).unwrap_err().to_string();
                let expected = "drop: dropout: expected the samples of the batch, since \
                                micro-batches must draw the masks of the whole (3 in a part), got ";
                assert_eq!(error, format!("{expected}{counted}"));
                assert_eq!((divided.updates(), divided.net().pass()), (0, 0));
            }
        }
    }
}

fn samples(x: &Var) -> usize {
    x.shape().expect("a value").samples()
}

#[test]
fn rates_outside_of_probabilities_are_rejected() {
    for p in [-0.1, 1.1, f32::NAN, f32::INFINITY] {
        let make = |s: &Scope| Dropout::new(&s.at("drop"), p);
        let error = Net::new(Device::cpu(), Seed(1), make).unwrap_err().to_string();
        assert_eq!(error, format!("drop: p: expected a probability in [0, 1], got {p}"));
    }
}

/// Keep decisions of the channels of many samples: one row per channel.
fn channels(p: f32, samples: usize, count: usize) -> Vec<Vec<bool>> {
    let make = |s: &Scope| Dropout2d::new(&s.at("dropout"), p);
    let mut net = Net::new(Device::cpu(), Seed(SEED), make).expect("a network");
    let y = net.train().forward(&ones(&[samples, count, 1, 2])).expect("a pass");
    let kept: Vec<bool> = y.values().expect("f32").chunks(2).map(|map| map[0] != 0.0).collect();
    (0..count).map(|channel| kept.iter().skip(channel).step_by(count).copied().collect()).collect()
}

#[test]
fn each_channel_is_kept_as_often_as_asked_for() {
    const SAMPLES: usize = 4000;
    for p in [0.1_f32, 0.25, 0.5, 0.9] {
        let keep = f64::from(1.0 - p);
        let sigma = (SAMPLES as f64 * keep * (1.0 - keep)).sqrt();
        for (channel, kept) in channels(p, SAMPLES, 67).iter().enumerate() {
            let count = kept.iter().filter(|kept| **kept).count() as f64;
            let off = (count - keep * SAMPLES as f64).abs();
            assert!(off <= 5.0 * sigma, "channel {channel} is kept {count} times at p = {p}");
        }
    }
}

#[test]
fn no_two_channels_share_a_mask() {
    const SAMPLES: usize = 400;
    let masks = channels(0.5, SAMPLES, 130);
    for (index, one) in masks.iter().enumerate() {
        for (other, two) in masks.iter().enumerate().skip(index + 1) {
            // Within 6 sigma of half: of 8385 pairs, the most unlikely one is near 4.
            let equal = one.iter().zip(two).filter(|(a, b)| a == b).count();
            assert!(equal.abs_diff(SAMPLES / 2) <= 60, "channels {index}, {other}: {equal}");
        }
    }
}

/// Micro-batches draw the channels of the whole batch.
#[test]
fn channels_do_not_depend_on_how_a_batch_is_divided() {
    struct Scaled(Param, Dropout2d);
    impl Module for Scaled {
        fn forward(&self, x: &Var) -> Var {
            self.1.forward(&(x * &x.parameter(&self.0)))
        }
    }
    let x = Numbers::new(5).tensor(&[12, 10, 3, 2]);
    let target = Numbers::new(6).tensor(&[12, 10, 3, 2]);
    let trained = |parts| {
        let make = |s: &Scope| {
            let gain = s.parameter("gain", [10, 1, 1], Init::Ones);
            Scaled(gain, Dropout2d::new(&s.at("dropout"), 0.5))
        };
        let net = Net::new(Device::cpu(), Seed(SEED), make).expect("a network");
        let fit = Trainer::new(net, Mse::default(), Sgd::new(0.1)).expect("a trainer");
        let mut fit = fit.with_micro_batches(parts).expect("parts");
        fit.step(&x, &target).expect("a step");
        fit.net().parameter("gain").expect("its name").values().expect("f32").to_vec()
    };
    let whole = trained(1);
    for parts in [2, 3, 5, 12] {
        for (a, b) in trained(parts).iter().zip(&whole) {
            assert!((a - b).abs() <= 1e-6 * b.abs(), "{parts} parts: {a}, {b}");
        }
    }
}
