// SPDX-License-Identifier: MIT OR Apache-2.0
//! Draws of Monte Carlo dropout: each is a single pass under its own masks, and what comes before them is
//! computed once.

use kiln::graph::reference::evaluate;
use kiln::mask::Mask;
use kiln::nn::{
    AlphaDropout, BatchNorm, Dropout, DropoutSchedule, Linear, Lstm, Module, RecurrentOptions,
    Relu, Scope, Sequential,
};
use kiln::op::{Op, TensorType};
use kiln::{
    DType, Draws, Dropouts, Masks, Mode, Net, Scalars, Seed, Tensor, Var, MONTE_CARLO_PASS,
};

use crate::common::close::{compare, doubles, Tolerance};
use crate::common::recurrent_zoo::OF_WEIGHTS;
use crate::common::reference::{array, Parameters};
use crate::common::targets::{targets, Target};
use crate::common::zoo::{layers, Layer, SEED};
use crate::common::{bits, Numbers};

const RATE: f32 = 0.5;
const DRAWS: usize = 3;

/// Samples that are drawn at most, in two batches.
const SAMPLES: usize = 3;

/// Layers that look at other samples, of whose draws nothing can be said.
const MIXING: [&str; 2] = ["arithmetic", "products"];

#[test]
fn draws_are_single_passes_under_the_same_masks() {
    let mut failures = Vec::new();
    for target in targets() {
        // A draw of weights is no sample's; a test of its own looks at those.
        for layer in layers().into_iter().filter(|layer| !OF_WEIGHTS.contains(&layer.name)) {
            for masks in [Masks::PerSample, Masks::Consistent] {
                let what = format!("{} on {}, {masks:?}", layer.label(), target.name);
                if let Err(failure) = single_passes(&layer, &target, masks) {
                    failures.push(format!("{what}: {failure}"));
                }
            }
        }
    }
    assert!(failures.is_empty(), "{} failed:\n{}", failures.len(), failures.join("\n"));
}

/// Any layer behind a dropout, in two batches, against each draw of each sample by its plain meaning.
fn single_passes(layer: &Layer, target: &Target, masks: Masks) -> Result<(), String> {
    let mut net = layer.behind_dropout(target.device(), RATE);
    let x = layer.x();
    let count = x.shape().samples().min(SAMPLES);
    let one = x.samples(0, 1).expect("a sample").ty();
    let mut parameters = Parameters::of(&mut net, &one);
    let plan = net.plan(Mode::MonteCarlo(Draws::ONE), &[one]).expect("a plan");
    let graph = plan.graph.clone();
    let mut view = net.monte_carlo(DRAWS).with_masks(masks);
    let batches = match count {
        1 => vec![(0, 1)],
        _ => vec![(0, 1), (1, count)],
    };
    for (start, end) in batches {
        let y = match view.forward(&x.samples(start, end).expect("a range")) {
            Ok(y) => y,
            Err(error) if MIXING.contains(&layer.name) => {
                let error = error.to_string();
                return match error.contains("each sample by itself") {
                    true => Ok(()),
                    false => Err(error),
                };
            }
            Err(error) => return Err(error.to_string()),
        };
        let mut expected = Vec::new();
        for draw in 0..DRAWS {
            for sample in start..end {
                let mut scalars = Scalars::new(SEED);
                scalars.pass = MONTE_CARLO_PASS;
                scalars.sample_offset = match masks {
                    Masks::PerSample => sample * DRAWS + draw,
                    Masks::Consistent => draw,
                } as u32;
                let x = array(&x.samples(sample, sample + 1).expect("a sample"));
                expected.extend(evaluate(&graph, &[x], &scalars, &mut parameters).remove(0).data);
            }
        }
        let (got, t) = (doubles(&y), Tolerance::balanced(DType::F32));
        compare(&format!("samples {start}..{end}"), y.shape().dims(), &got, &expected, t)?;
    }
    match MIXING.contains(&layer.name) {
        true => Err("draws of samples that see one another".into()),
        false => Ok(()),
    }
}

/// Two layers with batch norm, two dropouts and a last layer.
fn normalised(p: &Scope) -> Sequential {
    let rest = Sequential::new(p).with(|p| Linear::new(p, 20, 33)).with(|p| BatchNorm::new(p, 33));
    let rest = rest.with(|_| Relu).with(|p| Dropout::new(p, RATE));
    let rest = rest.with(|p| Linear::new(p, 33, 17)).with(|p| BatchNorm::new(p, 17));
    rest.with(|p| Dropout::new(p, RATE)).with(|p| Linear::new(p, 17, 10))
}

fn net(target: &Target) -> Net<Sequential> {
    Net::new(target.device(), Seed(SEED), normalised).expect("a network")
}

#[test]
fn draws_depend_on_no_batch() {
    for target in targets() {
        for masks in [Masks::PerSample, Masks::Consistent] {
            let x = Numbers::new(1).tensor(&[11, 20]);
            let whole = net(&target).monte_carlo(4).with_masks(masks).forward(&x).expect("draws");
            let other = whole.values().expect("f32").chunks(110).collect::<Vec<_>>();
            for ends in [vec![11], vec![5, 11], vec![1, 2, 9, 11]] {
                let mut divided = net(&target);
                let mut view = divided.monte_carlo(4).with_masks(masks);
                let mut start = 0;
                for end in ends {
                    let part = view.forward(&x.samples(start, end).expect("some")).expect("draws");
                    let of_draws = part.values().expect("f32").chunks(10 * (end - start));
                    for (draw, part) in of_draws.enumerate() {
                        let what = format!("{}, {masks:?}, {start}..{end}", target.name);
                        let expected: Vec<f64> = other[draw][10 * start..10 * end]
                            .iter()
                            .map(|&y| f64::from(y))
                            .collect();
                        let part: Vec<f64> = part.iter().map(|&y| f64::from(y)).collect();
                        let (t, shape) = (Tolerance::strict(DType::F32), [end - start, 10]);
                        compare(&what, &shape, &part, &expected, t).expect("the same draws");
                    }
                    start = end;
                }
            }
        }
    }
}

/// The same sample in other places, beside others and in another batch.
#[test]
fn consistent_masks_are_those_of_the_whole_data_set() {
    for target in targets() {
        let mut net = net(&target);
        let mut view = net.monte_carlo(5).with_masks(Masks::Consistent);
        let x = Numbers::new(1).tensor(&[4, 20]);
        let again: Vec<f32> = [3, 1, 1].iter().flat_map(|&row| row_of(&x, row)).collect();
        let again = Tensor::new([3, 20], again).expect("three rows");
        let draws = [&x, &again].map(|x| view.forward(x).expect("draws"));
        for (place, row) in [3, 1, 1].into_iter().enumerate() {
            for draw in 0..5 {
                let [first, second] = &draws;
                let first = row_of(first, draw * 4 + row);
                let second = row_of(second, draw * 3 + place);
                let difference = first.iter().zip(&second).map(|(a, b)| (a - b).abs());
                assert!(difference.fold(0.0, f32::max) < 1e-5, "{}: draw {draw}", target.name);
            }
        }
        assert_ne!(row_of(&draws[0], 0), row_of(&draws[0], 4), "draws differ");
        assert_eq!(view.pass(), Some(MONTE_CARLO_PASS));
        // The next view has other masks.
        let mut view = net.monte_carlo(5).with_masks(Masks::Consistent);
        assert_ne!(bits(&view.forward(&x).expect("draws")), bits(&draws[0]));
        assert_eq!(view.pass(), Some(MONTE_CARLO_PASS | 1));
    }
}

/// The masks that all samples share follow a rate that changes: a view draws at the rate of its time in all of its
/// batches, and no rate makes another plan.
#[test]
fn consistent_masks_are_drawn_at_the_rate_of_their_time() {
    const WIDTH: usize = 64;
    let ones = |samples: usize| {
        Tensor::new([samples, WIDTH], vec![1.0; samples * WIDTH]).expect("a matrix")
    };
    for target in targets() {
        let rising = DropoutSchedule::Linear { start: 0.2, end: 0.8, passes: 3 };
        let make = |p: &Scope| Dropout::scheduled(&p.at("drop"), rising);
        let mut net = Net::new(target.device(), Seed(SEED), make).expect("a network");
        for (time, rate) in [0.2, 0.4, 0.6, 0.8, 0.8, 0.1].into_iter().enumerate() {
            if time == 5 {
                net.set_dropout_rate("drop", rate).expect("a rate");
            }
            let mask = Mask::new(SEED, "drop#0", rate);
            let pass = MONTE_CARLO_PASS | time as u32;
            let mut view = net.monte_carlo(DRAWS).with_masks(Masks::Consistent);
            for samples in [2, 5] {
                let y = view.forward(&ones(samples)).expect("draws");
                for (row, y) in y.values().expect("f32").chunks(WIDTH).enumerate() {
                    let value = |element| match mask.keeps(pass, (row / samples) as u32, element) {
                        true => mask.scale(),
                        false => 0.0,
                    };
                    let expected = (0..WIDTH as u32).map(value);
                    let what = format!("{}, time {time}, row {row} of {samples}", target.name);
                    assert!(y.iter().copied().eq(expected), "{what}: {y:?}");
                }
            }
            assert_eq!(view.pass(), Some(pass));
            net.train().forward(&ones(3)).expect("a pass");
        }
        assert_eq!(
            net.plans(),
            3,
            "{}: those of two batches of draws and of training",
            target.name
        );
    }
}

fn row_of(tensor: &Tensor, row: usize) -> Vec<f32> {
    let width = tensor.shape().last();
    tensor.values().expect("f32")[row * width..][..width].to_vec()
}

#[test]
fn statistics_that_run_are_left_alone() {
    for target in targets() {
        let mut net = net(&target);
        let x = Numbers::new(1).tensor(&[6, 20]);
        net.train().forward(&x).expect("a pass");
        let names: Vec<String> = net.parameter_names().into_iter().map(String::from).collect();
        let mut all = || -> Vec<Tensor> {
            names.iter().map(|name| net.parameter(name).expect("its name")).collect()
        };
        let before = all();
        for dropouts in [Dropouts::All, Dropouts::Last] {
            net.monte_carlo(3).with_dropouts(dropouts).forward(&x).expect("draws");
        }
        let mut all = || -> Vec<Tensor> {
            names.iter().map(|name| net.parameter(name).expect("its name")).collect()
        };
        assert_eq!(all(), before, "{}", target.name);
        assert_eq!(net.pass(), 1);
    }
}

/// Only the products behind the first dropout are made once per draw, and only kernels behind it are
/// launched for more than the batch.
#[test]
fn what_no_dropout_comes_before_is_computed_once() {
    const BATCH: usize = 16;
    let wide = |p: &Scope| {
        let rest = Sequential::new(p).with(|p| Linear::new(p, 84, 128)).with(|_| Relu);
        let rest = rest.with(|p| Linear::new(p, 128, 128)).with(|_| Relu);
        rest.with(|p| Dropout::new(p, RATE)).with(|p| Linear::new(p, 128, 10))
    };
    for target in targets() {
        let mut net = Net::new(target.device(), Seed(SEED), wide).expect("a network");
        let x = [TensorType::f32([BATCH, 84].into())];
        let once = net.plan(Mode::Eval, &x).expect("a plan").totals();
        for masks in [Masks::PerSample, Masks::Consistent] {
            for count in [2, 32] {
                let draws = Draws { masks, ..Draws::new(count) };
                let plan = net.plan(Mode::MonteCarlo(draws), &x).expect("a plan");
                let flops = 2 * BATCH * (84 * 128 + 128 * 128 + count * 128 * 10);
                assert_eq!(plan.totals().flops, flops, "{}, {draws:?}", target.name);
                let more = plan.totals().steps - once.steps;
                assert!(more <= 6, "{}: {more} steps more\n{:?}", target.name, plan.steps);
                assert_eq!(plan.totals().random_steps, 1);
            }
        }
    }
}

#[test]
fn the_layers_of_an_lstm_before_its_dropout_are_computed_once() {
    let make = |p: &Scope| {
        let options = RecurrentOptions { layers: 3, dropout: RATE, ..RecurrentOptions::default() };
        Lstm::with_options(&p.at("lstm"), 5, 7, options)
    };
    for target in targets() {
        let mut net = Net::new(target.device(), Seed(SEED), make).expect("a network");
        let x = [TensorType::f32([2, 6, 5].into())];
        let samples = |net: &mut Net<Lstm>, dropouts| -> Vec<usize> {
            let draws = Draws { dropouts, ..Draws::new(4) };
            let graph = &net.plan(Mode::MonteCarlo(draws), &x).expect("a plan").graph;
            let layers = graph.nodes().filter(|(_, node)| matches!(node.op, Op::Recurrent(_)));
            layers.map(|(_, node)| node.ty.shape.samples()).collect()
        };
        assert_eq!(samples(&mut net, Dropouts::All), [2, 8, 8], "{}", target.name);
        assert_eq!(samples(&mut net, Dropouts::Last), [2, 2, 8], "{}", target.name);
    }
}

/// Only the last dropout drops, as in a network whose other dropouts drop nothing.
#[test]
fn the_last_dropout_may_drop_alone() {
    fn of_rates(p: &Scope, rates: [f32; 3]) -> Sequential {
        let rest = Sequential::new(p).with(|p| Linear::new(p, 8, 16));
        let rest = rest.with(|p| AlphaDropout::new(p, rates[0])).with(|p| Linear::new(p, 16, 16));
        let rest = rest.with(|p| Dropout::new(p, rates[1])).with(|p| Linear::new(p, 16, 16));
        let rest = rest.with(|p| AlphaDropout::new(p, rates[2]));
        rest.with(|p| Linear::new(p, 16, 3)).with(|p| Dropout::new(p, 0.0))
    }
    for target in targets() {
        let make = |rates| move |p: &Scope| of_rates(p, rates);
        let x = Numbers::new(1).tensor(&[5, 8]);
        for (rates, last) in [([0.5, 0.5, 0.5], 2), ([0.5, 0.5, 0.0], 1), ([0.5, 0.0, 0.0], 0)] {
            let mut net = Net::new(target.device(), Seed(SEED), make(rates)).expect("a network");
            let found = net.monte_carlo(3).with_dropouts(Dropouts::Last).forward(&x);
            let mut alone = [0.0; 3];
            alone[last] = 0.5;
            let mut net = Net::new(target.device(), Seed(SEED), make(alone)).expect("a network");
            let expected = net.monte_carlo(3).forward(&x).expect("draws");
            assert_eq!(bits(&found.expect("draws")), bits(&expected), "{}", target.name);
        }
    }
}

/// What draws of one sample would have to know of others is refused, with the layer.
#[test]
fn what_does_not_keep_samples_apart_is_refused() {
    struct Mixing(Dropout, fn(&Var, &Dropout) -> Var);
    impl Module for Mixing {
        fn forward(&self, x: &Var) -> Var {
            (self.1)(x, &self.0)
        }
    }
    let refusal = |mixing: fn(&Var, &Dropout) -> Var| {
        let make = |p: &Scope| Mixing(Dropout::new(&p.at("dropout"), RATE), mixing);
        let mut net = Net::new(targets()[0].device(), Seed(SEED), make).expect("a network");
        let draws = net.monte_carlo(2).forward(&Numbers::new(1).tensor(&[4, 3, 6]));
        draws.expect_err("a mixture").to_string()
    };
    let apart =
        "each sample by itself, since its draws must not depend on others in Monte Carlo mode";
    let error = refusal(|x, dropout| dropout.forward(x).mean_over([0], kiln::nn::Keep::Extents));
    assert_eq!(error, format!("sum_to: expected {apart}, got one across [4, 3, 6]"));
    let first = "samples along the first extent, by which masks count them in Monte Carlo mode";
    let of_dropout = format!("dropout: dropout: expected {first}, got one across");
    let error = refusal(|x, dropout| dropout.forward(&x.transpose(0, 1)));
    assert_eq!(error, format!("{of_dropout} [3, 4, 6]"));
    let error = refusal(|x, dropout| dropout.forward(&x.reshape([12, 6])));
    assert_eq!(error, format!("{of_dropout} [12, 6]"));
    // A mixture that is not random is none of the draws' business, unless they meet it.
    let error = refusal(|x, dropout| dropout.forward(&(x - x.mean())));
    assert_eq!(error, format!("dropout: dropout: expected {apart}, got one across [4, 3, 6]"));
}

/// Samples may lie along other extents between dropouts.
#[test]
fn samples_are_followed_through_turns_and_shapes() {
    struct Turning(Dropout);
    impl Module for Turning {
        fn forward(&self, x: &Var) -> Var {
            let turned = self.0.forward(x).transpose(0, 2);
            let rows = (turned * x.transpose(0, 2)).reshape([6, 3 * 4]).tanh();
            let back = rows.reshape([6, 3, 4]).transpose(0, 2).reshape([4 * 3, 6]);
            let side = x.reshape([12, 6]).transpose(0, 1);
            self.0.forward(&(back.transpose(0, 1) + side).transpose(0, 1).reshape([4, 18]))
        }
    }
    for target in targets() {
        let make = |p: &Scope| Turning(Dropout::new(&p.at("dropout"), RATE));
        let mut net = Net::new(target.device(), Seed(SEED), make).expect("a network");
        let x = Numbers::new(1).tensor(&[4, 3, 6]);
        let y = net.monte_carlo(2).forward(&x).expect("draws");
        let first = kiln::mask::Mask::new(SEED, "dropout#0", RATE);
        let second = kiln::mask::Mask::new(SEED, "dropout#1", RATE);
        for (index, &y) in y.values().expect("f32").iter().enumerate() {
            let (draw, sample, element) = (index / 72, index / 18 % 4, index % 18);
            let number = (sample * 2 + draw) as u32;
            let x = x.values().expect("f32")[sample * 18 + element];
            let kept = |mask: &kiln::mask::Mask| {
                f32::from(u8::from(mask.keeps(MONTE_CARLO_PASS, number, element as u32)))
            };
            let expected = kept(&second) * 2.0 * ((kept(&first) * 2.0 * x * x).tanh() + x);
            assert!((y - expected).abs() < 1e-4, "{}: {index}: {y} {expected}", target.name);
        }
    }
}
