// SPDX-License-Identifier: MIT OR Apache-2.0
//! Options of recurrent layers: which masks they draw, what they do with them, and that neither padding nor
//! divided batches show.

use kiln::loss::Mse;
use kiln::mask::Mask;
use kiln::nn::{
    Between, Bias, Directions, GateNorm, GivenMasks, Gru, Linear, Lstm, Module, RecurrentOptions,
    Rnn, Scope, SequenceOrder, Sequences,
};
use kiln::op::TensorType;
use kiln::optim::Sgd;
use kiln::{DType, Device, Mode, Net, Seed, Tensor, Trainer, Var, MONTE_CARLO_PASS};

use crate::common::close::{compare, doubles, Tolerance};
use crate::common::parts::Course;
use crate::common::targets::targets;
use crate::common::zoo::SEED;
use crate::common::{bits, Numbers};

const SAMPLES: usize = 3;
const STEPS: usize = 5;
const FEATURES: usize = 7;
const UNITS: usize = 9;

const PLAIN: fn() -> RecurrentOptions = RecurrentOptions::default;

fn net<M>(device: Device, make: impl FnOnce(&Scope) -> M) -> Net<M> {
    Net::new(device, Seed(SEED), make).expect("a network")
}

fn x(steps: usize) -> Tensor {
    let whole = Numbers::new(1).tensor(&[SAMPLES, 8, FEATURES]);
    let whole = whole.values().expect("f32");
    let of_sample = |sample: &[f32]| sample[..steps * FEATURES].to_vec();
    let values = whole.chunks(8 * FEATURES).flat_map(of_sample).collect();
    Tensor::new([SAMPLES, steps, FEATURES], values).expect("sequences")
}

fn lengths() -> Tensor {
    Tensor::labels([SAMPLES], vec![5, 2, 4]).expect("a length for each")
}

/// Everything at once, but for weights, in two layers and both directions.
fn all() -> RecurrentOptions {
    RecurrentOptions {
        layers: 2,
        directions: Directions::Both,
        dropout: 0.3,
        between: Between::Locked,
        input_dropout: 0.2,
        output_dropout: 0.25,
        recurrent_dropout: 0.3,
        zoneout: 0.4,
        cell_zoneout: 0.2,
        norm: GateNorm::Layer,
        ..PLAIN()
    }
}

/// A layer told lengths: its outputs and its last states.
struct Told<L> {
    layer: L,
    run: fn(&L, Sequences<'_>) -> (Var, Vec<Var>),
}

impl<L: Send + Sync> Module<(Var, Var), (Var, Vec<Var>)> for Told<L> {
    fn forward(&self, (x, lengths): &(Var, Var)) -> (Var, Vec<Var>) {
        (self.run)(&self.layer, Sequences::new(x).with_lengths(lengths))
    }
}

fn told_lstm(p: &Scope, options: RecurrentOptions) -> Told<Lstm> {
    let layer = Lstm::projected(&p.at("lstm"), FEATURES, UNITS, 4, options);
    Told {
        layer,
        run: |lstm, sequences| {
            let ran = lstm.run(sequences);
            (ran.output.clone(), [ran.hidden, ran.cell].concat())
        },
    }
}

fn told_gru(p: &Scope, options: RecurrentOptions) -> Told<Gru> {
    let layer = Gru::with_options(&p.at("gru"), FEATURES, UNITS, options);
    Told {
        layer,
        run: |gru, sequences| {
            let ran = gru.run(sequences);
            (ran.output.clone(), ran.hidden)
        },
    }
}

/// Zoneout keeps exactly what its mask drops, in the order of time whichever way a layer goes.
#[test]
fn states_stay_where_the_mask_says() {
    for target in targets() {
        for (directions, lstm) in [(Directions::Forward, true), (Directions::Both, false)] {
            let options = RecurrentOptions { directions, zoneout: 0.5, ..PLAIN() };
            let y = match lstm {
                true => {
                    let make =
                        |p: &Scope| Lstm::with_options(&p.at("rnn"), FEATURES, UNITS, options);
                    net(target.device(), make).train().forward(&x(STEPS)).expect("a pass")
                }
                false => {
                    let make =
                        |p: &Scope| Gru::with_options(&p.at("rnn"), FEATURES, UNITS, options);
                    net(target.device(), make).train().forward(&x(STEPS)).expect("a pass")
                }
            };
            let width = y.shape().last();
            let y = y.values().expect("f32");
            for (index, &state) in y.iter().enumerate() {
                let (row, unit) = (index / width, index % width);
                let (sample, step) = (row / STEPS, row % STEPS);
                let (is_reverse, unit_of) = (unit >= UNITS, unit % UNITS);
                let before = match is_reverse {
                    false => step.checked_sub(1),
                    true => Some(step + 1).filter(|&step| step < STEPS),
                };
                let before = before.map_or(0.0, |step| y[(sample * STEPS + step) * width + unit]);
                let call = if is_reverse { 2 } else { 0 };
                let mask = Mask::new(SEED, &format!("rnn.zoneout#{call}"), 0.5);
                let moves = mask.at_step(step as u32).keeps(0, sample as u32, unit_of as u32);
                let what = format!("{}: [{sample}, {step}, {unit}]", target.name);
                assert_eq!(state != before, moves, "{what}: {before}, {state}");
            }
        }
    }
}

/// A feature is dropped at all steps or at none.
#[test]
fn locked_masks_count_features_alone() {
    for target in targets() {
        let options = RecurrentOptions { output_dropout: 0.5, ..PLAIN() };
        let make =
            |p: &Scope| Rnn::with_options(&p.at("rnn"), FEATURES, UNITS, <_>::default(), options);
        let mut rnn = net(target.device(), make);
        let mask = Mask::new(SEED, "rnn.output_dropout#0", 0.5);
        for pass in 0..2 {
            let y = rnn.train().forward(&x(STEPS)).expect("a pass");
            for (index, &y) in y.values().expect("f32").iter().enumerate() {
                let (sample, unit) = (index / (STEPS * UNITS), index % UNITS);
                let kept = mask.keeps(pass, sample as u32, unit as u32);
                assert_eq!(y != 0.0, kept, "{}: {index}", target.name);
            }
        }
    }
}

/// The gradient of a recurrent weight is 0 where it is dropped, in the order of its elements, whatever sample
/// the pass begins with.
#[test]
fn weights_are_dropped_once_for_all_samples() {
    for target in targets() {
        let options = RecurrentOptions { weight_dropout: 0.5, ..PLAIN() };
        let make = |p: &Scope| Lstm::with_options(&p.at("lstm"), FEATURES, UNITS, options);
        let mut lstm = net(target.device(), make);
        let dy = Numbers::new(2).tensor(&[SAMPLES, STEPS, UNITS]);
        let gradients = lstm.train().gradients(&x(STEPS), &dy).expect("a pass").parameters;
        let (_, of_weight) =
            gradients.iter().find(|(name, _)| name == "lstm.weight_hh_l0").expect("its name");
        let mask = Mask::new(SEED, "lstm.weight_dropout#0", 0.5);
        for (element, &slope) in of_weight.values().expect("f32").iter().enumerate() {
            let kept = mask.keeps(0, 0, element as u32);
            assert_eq!(slope != 0.0, kept, "{}: {element}", target.name);
        }
    }
}

/// Parts of a batch make the step of the whole, masks of weights included.
#[test]
fn micro_batches_make_the_step_of_the_batch_with_options() {
    struct Last(Lstm, Linear);
    impl Module for Last {
        fn forward(&self, x: &Var) -> Var {
            self.1.forward(self.0.run(x).last_hidden())
        }
    }
    let course = Course { rate: 0.1, steps: 2, features: FEATURES };
    for target in targets() {
        let make = || {
            net(target.device(), |p| {
                let options = RecurrentOptions { weight_dropout: 0.5, ..all() };
                let lstm = Lstm::with_options(&p.at("lstm"), FEATURES, UNITS, options);
                Last(lstm, Linear::new(&p.at("fc"), UNITS, 2))
            })
        };
        for parts in [2, 3] {
            let largest = course.difference(make, parts);
            assert!(largest < 2e-5, "{}: {parts} parts: {largest}", target.name);
        }
    }
}

/// What follows the ends of sequences, and how much of it, changes no bit before them and no state.
#[test]
fn padding_does_not_show() {
    fn check<L: Send + Sync>(
        make: fn(&Scope, RecurrentOptions) -> Told<L>,
        options: RecurrentOptions,
    ) {
        for target in targets() {
            for mode in [Mode::Train, Mode::Eval] {
                let outputs = |steps: usize| {
                    let mut net = net(target.device(), |p| make(p, options));
                    let mut view = if mode == Mode::Train { net.train() } else { net.eval() };
                    let (y, states) = view.forward((&x(steps), &lengths())).expect("a pass");
                    let width = y.shape().last();
                    let samples = y.values().expect("f32").chunks(steps * width);
                    let mut all = Vec::new();
                    for (sample, length) in samples.zip([5, 2, 4]) {
                        all.extend(sample[..length * width].iter().map(|y| y.to_bits()));
                        assert!(
                            sample[length * width..].iter().all(|&y| y == 0.0),
                            "behind an end"
                        );
                    }
                    all.extend(states.iter().flat_map(bits));
                    all
                };
                assert_eq!(outputs(5), outputs(8), "{}: {mode:?}: {options:?}", target.name);
            }
        }
    }
    check(told_lstm, RecurrentOptions { weight_dropout: 0.5, ..all() });
    let plain = RecurrentOptions { norm: GateNorm::Absent, cell_zoneout: 0.0, ..all() };
    check(told_gru, plain);
    check(told_gru, RecurrentOptions { recurrent_dropout: 0.0, ..plain });
}

/// Steps that are spelled out are those of the operation where nothing is dropped: of both cells, with lengths,
/// projections, several layers and both directions.
#[test]
fn steps_one_by_one_are_those_of_the_operation() {
    fn check<L: Send + Sync>(make: fn(&Scope, RecurrentOptions) -> Told<L>) {
        let both = RecurrentOptions { layers: 2, directions: Directions::Both, ..PLAIN() };
        for target in targets() {
            for bias in [Bias::Added, Bias::Absent] {
                let outputs = |options: RecurrentOptions| {
                    let mut net = net(target.device(), |p| make(p, options));
                    net.eval().forward((&x(STEPS), &lengths())).expect("a pass")
                };
                let (expected, states) = outputs(RecurrentOptions { bias, ..both });
                let of_one = RecurrentOptions { bias, recurrent_dropout: 0.5, ..both };
                let (found, found_states) = outputs(of_one);
                let t = Tolerance::strict(DType::F32);
                for (expected, found) in
                    [expected].iter().chain(&states).zip([found].iter().chain(&found_states))
                {
                    let shape = expected.shape().dims().to_vec();
                    compare(&target.name, &shape, &doubles(found), &doubles(expected), t)
                        .expect("the same states");
                }
            }
        }
    }
    check(told_lstm);
    check(told_gru);
}

/// In eval mode states move by the share of units that move in train mode.
#[test]
fn zoneout_in_eval_mode_is_the_expectation() {
    for target in targets() {
        let options = RecurrentOptions { zoneout: 0.25, ..PLAIN() };
        let make = |p: &Scope| Rnn::with_options(p, FEATURES, UNITS, <_>::default(), options);
        let mut rnn = net(target.device(), make);
        let first = rnn.eval().forward(&x(1)).expect("a pass");
        let plain = |p: &Scope| Rnn::new(p, FEATURES, UNITS);
        let expected = net(target.device(), plain).eval().forward(&x(1)).expect("a pass");
        let expected: Vec<f64> = doubles(&expected).iter().map(|h| 0.75 * h).collect();
        let (t, shape) = (Tolerance::strict(DType::F32), [SAMPLES, 1, UNITS]);
        compare(&target.name, &shape, &doubles(&first), &expected, t).expect("three quarters");
    }
}

/// At a rate of 0 the layer is the plain one, bit for bit; at 1 each option has a meaning.
#[test]
fn rates_of_0_and_1_are_defined() {
    for target in targets() {
        let output = |options: RecurrentOptions| {
            let make = |p: &Scope| Lstm::with_options(&p.at("lstm"), FEATURES, UNITS, options);
            net(target.device(), make).train().forward(&x(STEPS)).expect("a pass")
        };
        let plain = output(PLAIN());
        let none = RecurrentOptions { between: Between::Locked, ..PLAIN() };
        assert_eq!(bits(&output(none)), bits(&plain), "{}", target.name);
        for everything in [
            RecurrentOptions { zoneout: 1.0, ..PLAIN() },
            RecurrentOptions { output_dropout: 1.0, ..PLAIN() },
            RecurrentOptions { recurrent_dropout: 1.0, ..PLAIN() },
        ] {
            let y = output(everything);
            let is_zero = y.values().expect("f32").iter().all(|&h| h == 0.0);
            assert!(is_zero, "{}: {everything:?}", target.name);
        }
        let make = |p: &Scope| Lstm::new(&p.at("lstm"), FEATURES, UNITS);
        let mut without = net(target.device(), make);
        let zeros = Tensor::zeros([4 * UNITS, UNITS]);
        without.set_parameter("lstm.weight_hh_l0", &zeros).expect("its shape");
        let without = without.train().forward(&x(STEPS)).expect("a pass");
        let all = RecurrentOptions { weight_dropout: 1.0, ..PLAIN() };
        assert_eq!(bits(&output(all)), bits(&without), "{}", target.name);
    }
}

/// The equations of a normalised LSTM, written out for one sample.
#[test]
fn gates_are_normalised_as_written() {
    fn norm(x: &[f64]) -> Vec<f64> {
        let mean = x.iter().sum::<f64>() / x.len() as f64;
        let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / x.len() as f64;
        x.iter().map(|x| (x - mean) / (variance + 1e-5).sqrt()).collect()
    }
    let times = |weight: &Tensor, x: &[f64]| -> Vec<f64> {
        let weight = doubles(weight);
        weight.chunks(x.len()).map(|row| row.iter().zip(x).map(|(w, x)| w * x).sum()).collect()
    };
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    for target in targets() {
        let options = RecurrentOptions { norm: GateNorm::Layer, ..PLAIN() };
        let make = |p: &Scope| Lstm::with_options(p, FEATURES, UNITS, options);
        let mut lstm = net(target.device(), make);
        let names: Vec<String> = lstm.parameter_names().into_iter().map(String::from).collect();
        let expected = [
            "weight_ih_l0",
            "weight_hh_l0",
            "norm_ih_weight_l0",
            "norm_ih_bias_l0",
            "norm_hh_weight_l0",
            "norm_hh_bias_l0",
            "norm_cell_weight_l0",
            "norm_cell_bias_l0",
        ];
        assert_eq!(names.iter().collect::<std::collections::BTreeSet<_>>().len(), expected.len());
        let mut value = |name: &str| {
            if name.starts_with("norm") {
                let shape = lstm.parameter(name).expect("its name").shape().clone();
                let other = Numbers::new(name.len() as u64).tensor(shape.dims());
                lstm.set_parameter(name, &other).expect("its shape");
            }
            lstm.parameter(name).expect("its name")
        };
        let [w_ih, w_hh, ih, ih_bias, hh, hh_bias, cell, cell_bias] = expected.map(&mut value);
        let affine = |x: &[f64], gain: &Tensor, bias: &Tensor| -> Vec<f64> {
            let (gain, bias) = (doubles(gain), doubles(bias));
            norm(x).iter().zip(gain).zip(bias).map(|((x, gain), bias)| x * gain + bias).collect()
        };
        let (mut h, mut c) = (vec![0.0; UNITS], vec![0.0; UNITS]);
        let inputs = doubles(&x(STEPS));
        let mut outputs = Vec::new();
        for x in inputs[..STEPS * FEATURES].chunks(FEATURES) {
            let of_x = affine(&times(&w_ih, x), &ih, &ih_bias);
            let of_h = affine(&times(&w_hh, &h), &hh, &hh_bias);
            let sums: Vec<f64> = of_x.iter().zip(&of_h).map(|(a, b)| a + b).collect();
            for unit in 0..UNITS {
                let at = |block: usize| sums[block * UNITS + unit];
                c[unit] = sigmoid(at(1)) * c[unit] + sigmoid(at(0)) * at(2).tanh();
            }
            let shown = affine(&c, &cell, &cell_bias);
            for unit in 0..UNITS {
                h[unit] = sigmoid(sums[3 * UNITS + unit]) * shown[unit].tanh();
            }
            outputs.extend(h.clone());
        }
        let y = lstm.eval().forward(&x(STEPS)).expect("a pass");
        let first = &doubles(&y)[..STEPS * UNITS];
        let t = Tolerance::balanced(DType::F32);
        compare(&target.name, &[STEPS, UNITS], first, &outputs, t).expect("the equations");
    }
}

/// Each draw has weights of its own, the same in all batches, and all else as without.
#[test]
fn draws_have_recurrent_weights_of_their_own() {
    const DRAWS: usize = 3;
    for target in targets() {
        for norm in [GateNorm::Absent, GateNorm::Layer] {
            let options = RecurrentOptions { norm, ..PLAIN() };
            let make = |weight_dropout: f32| {
                let options = RecurrentOptions { weight_dropout, ..options };
                net(target.device(), |p| {
                    Lstm::with_options(&p.at("lstm"), FEATURES, UNITS, options)
                })
            };
            let mut dropped = make(0.5);
            let mut view = dropped.monte_carlo(DRAWS);
            let draws = [(0, 1), (1, SAMPLES)].map(|(start, end)| {
                view.forward(&x(STEPS).samples(start, end).expect("some")).expect("draws")
            });
            let mask = Mask::new(SEED, "lstm.weight_dropout#0", 0.5);
            for draw in 0..DRAWS {
                let mut plain = make(0.0);
                let weight = plain.parameter("lstm.weight_hh_l0").expect("its name");
                let kept = |(element, weight): (usize, &f32)| {
                    let kept = mask.keeps(MONTE_CARLO_PASS, draw as u32, element as u32);
                    if kept {
                        weight * mask.scale()
                    } else {
                        0.0
                    }
                };
                let values = weight.values().expect("f32").iter().enumerate().map(kept).collect();
                let weight = Tensor::new([4 * UNITS, UNITS], values).expect("its shape");
                plain.set_parameter("lstm.weight_hh_l0", &weight).expect("its shape");
                let expected = doubles(&plain.eval().forward(&x(STEPS)).expect("a pass"));
                let each = STEPS * UNITS;
                let mut found = doubles(&draws[0])[draw * each..][..each].to_vec();
                let rest = (SAMPLES - 1) * each;
                found.extend(&doubles(&draws[1])[draw * rest..][..rest]);
                let (t, shape) = (Tolerance::strict(DType::F32), [SAMPLES, STEPS, UNITS]);
                let what = format!("{}: draw {draw}", target.name);
                compare(&what, &shape, &found, &expected, t).expect("the draw");
            }
        }
    }
}

/// Masks that are told beforehand are those that are drawn, and the order of extents is the user's.
#[test]
fn given_masks_and_steps_first_make_the_same_pass() {
    struct Turned(Lstm);
    impl Module for Turned {
        fn forward(&self, x: &Var) -> Var {
            self.0.forward(&x.transpose(0, 1)).transpose(0, 1)
        }
    }
    // Masks of weights have no samples, which inputs of a network have.
    let options = all();
    let lstm = |p: &Scope| Lstm::with_options(&p.at("lstm"), FEATURES, UNITS, options);
    for target in targets() {
        let mut drawn = net(target.device(), lstm);
        let masks = drawn.masks(0, &[x(STEPS).ty()]).expect("masks");
        let masks: Vec<Tensor> = masks.into_iter().map(|mask| mask.factors).collect();
        let expected = drawn.train().forward(&x(STEPS)).expect("a pass");
        let mut given = net(target.device(), |p| GivenMasks(lstm(p)));
        let found = given.train().forward((&x(STEPS), masks)).expect("a pass");
        let t = Tolerance::strict(DType::F32);
        let shape = expected.shape().dims().to_vec();
        compare(&target.name, &shape, &doubles(&found), &doubles(&expected), t).expect("the pass");
        let mut turned = net(target.device(), |p| {
            let options = RecurrentOptions { order: SequenceOrder::StepsFirst, ..options };
            Turned(Lstm::with_options(&p.at("lstm"), FEATURES, UNITS, options))
        });
        let found = turned.train().forward(&x(STEPS)).expect("a pass");
        assert_eq!(bits(&found), bits(&expected), "{}", target.name);
    }
}

#[test]
fn masks_of_options_cost_no_memory() {
    let options = RecurrentOptions { weight_dropout: 0.5, ..all() };
    let lstm = |p: &Scope| Lstm::with_options(&p.at("lstm"), FEATURES, UNITS, options);
    let last = net(Device::cpu(), lstm);
    let mut fit = Trainer::new(last, Mse::default(), Sgd::new(0.1)).expect("options");
    let types = [FEATURES, 2 * UNITS].map(|width| TensorType::f32([SAMPLES, STEPS, width].into()));
    let totals = fit.plan(&types[0], &types[1]).expect("a plan").totals();
    assert_eq!(totals.mask_bytes, 0);
    assert!(totals.random_steps > 0);
}
