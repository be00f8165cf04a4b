// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whole epochs, measuring, and rates that are set or given by functions.

use std::ops::ControlFlow;
use std::sync::Arc;

use kiln::data::{
    Array, Arrays, Batch, Loader, LoaderConfig, Pass, Position, SampleShape, Shuffle,
};
use kiln::loss::{self, CrossEntropy, Mse, Reduction};
use kiln::metrics::Confusion;
use kiln::nn::{Dropout, Embedding, Linear, Module, Scope};
use kiln::optim::{Adam, Schedule, Sgd};
use kiln::{Device, Error, Event, Net, Result, Seed, Trainer, Var};

use crate::common::{bits, Numbers};

const SAMPLES: usize = 23;
const CLASSES: usize = 4;

/// Two inputs, one of them of integers.
struct Mixed {
    towns: Embedding,
    dropout: Dropout,
    head: Linear,
}

impl Module<(Var, Var)> for Mixed {
    fn forward(&self, (x, towns): &(Var, Var)) -> Var {
        self.head.forward(&self.dropout.forward(&(x + self.towns.forward(towns))))
    }
}

fn mixed(p: &Scope) -> Mixed {
    Mixed {
        towns: Embedding::new(&p.at("towns"), 5, 6),
        dropout: Dropout::new(&p.at("dropout"), 0.5),
        head: Linear::new(&p.at("head"), 6, CLASSES),
    }
}

type Classifier = Trainer<Mixed, (Var, Var)>;

fn classifier(loss: CrossEntropy) -> Classifier {
    let net = Net::new(Device::cpu(), Seed(3), mixed).expect("a network");
    Trainer::new(net, loss, Adam::new(1e-2)).expect("a trainer")
}

fn samples() -> Arc<Arrays> {
    let mut numbers = Numbers::new(1);
    let x = numbers.tensor(&[SAMPLES, 2, 3]).values().expect("f32").to_vec();
    let towns: Vec<i32> = (0..SAMPLES as i32).map(|sample| sample % 5).collect();
    let labels: Vec<i32> = (0..SAMPLES as i32).map(|sample| sample * 7 % 4).collect();
    let inputs = [Array::f32(x, &[2, 3]), Array::i32(towns, &[])];
    Arc::new(Arrays::new(inputs, [Array::labels(labels, CLASSES)]).expect("samples"))
}

fn loader(batch_size: usize) -> Loader {
    let config = LoaderConfig {
        batch_size,
        shuffle: Shuffle::Seeded(5),
        sample_shape: SampleShape::Row,
        ..LoaderConfig::default()
    };
    Loader::new(samples(), config).expect("a loader")
}

fn parameters(fit: &mut Classifier) -> Vec<Vec<u32>> {
    let names: Vec<String> = fit.net().parameter_names().into_iter().map(Into::into).collect();
    names.iter().map(|name| bits(&fit.net().parameter(name).expect("its own name"))).collect()
}

fn go_on() -> Result<ControlFlow<()>> {
    Ok(ControlFlow::Continue(()))
}

#[test]
fn epochs_are_the_loop_that_they_stand_for() {
    let (mut whole, mut by_hand) =
        (classifier(CrossEntropy::default()), classifier(CrossEntropy::default()));
    let (mut events, mut means) = (Vec::new(), Vec::new());
    let ended = whole.fit(&mut loader(10), 2, |fit, event| {
        match event {
            Event::Step { update, position, .. } => {
                assert_eq!(update, fit.updates());
                events.push(format!("{update} at {}.{}", position.epoch, position.batch));
            }
            Event::Epoch { epoch, loss } => {
                means.push(loss);
                events.push(format!("epoch {epoch}"));
            }
            _ => {}
        }
        go_on()
    });
    assert!(ended.expect("two epochs").is_continue());
    let expected = [
        "1 at 0.0", "2 at 0.1", "3 at 0.2", "epoch 1", "4 at 1.0", "5 at 1.1", "6 at 1.2",
        "epoch 2",
    ];
    assert_eq!(events, expected);

    let mut batches = loader(10);
    for mean in means {
        let mut sum = 0.0;
        for batch in batches.epoch() {
            let batch = batch.expect("a batch");
            let ((x, towns), labels) = batch.clone().into_typed::<(Var, Var), Var>().expect("two");
            assert_eq!(x.shape().dims()[1..], [6], "rows");
            let loss =
                by_hand.step((&x, &towns), &labels).expect("a step").value().expect("a loss");
            sum += f64::from(loss) * batch.samples() as f64;
        }
        assert_eq!(mean, sum / SAMPLES as f64);
    }
    assert_eq!(parameters(&mut whole), parameters(&mut by_hand));
}

#[test]
fn a_call_may_end_it_anywhere_and_it_goes_on_there() {
    let mut whole = classifier(CrossEntropy::default());
    assert!(whole.fit(&mut loader(10), 3, |_, _| go_on()).expect("three epochs").is_continue());
    for cut in [1, 3, 4, 9] {
        let (mut fit, mut batches) = (classifier(CrossEntropy::default()), loader(10));
        let ended = fit.fit(&mut batches, 3, |fit, event| match event {
            Event::Step { update, .. } if update == cut => Ok(ControlFlow::Break(fit.rate())),
            _ => Ok(ControlFlow::Continue(())),
        });
        assert_eq!(ended.expect("some steps"), ControlFlow::Break(1e-2));
        assert_eq!(fit.updates(), cut);
        assert_eq!(batches.position(), Position { epoch: cut / 3, batch: cut % 3 });
        assert!(fit.fit(&mut batches, 3, |_, _| go_on()).expect("the rest").is_continue());
        assert_eq!(parameters(&mut fit), parameters(&mut whole), "cut off after {cut}");
        // Nothing is left.
        assert!(fit
            .fit(&mut batches, 3, |_, _| panic!("a step"))
            .is_ok_and(|e: ControlFlow<()>| e.is_continue()));
    }
    let mut fit = classifier(CrossEntropy::default());
    let refused = |_: &mut Classifier, _: Event<'_>| -> Result<ControlFlow<()>> {
        Err(Error::argument("call", "no error", "one"))
    };
    assert_eq!(
        fit.fit(&mut loader(10), 3, refused).expect_err("an error").to_string(),
        "call: expected no error, got one"
    );
    assert_eq!(fit.updates(), 1);
}

/// Labels that are ignored and weights of classes count as in one large batch.
#[test]
fn a_measurement_is_the_same_however_samples_are_divided() {
    let weights = Some(vec![1.0, 2.0, 0.5, 3.0]);
    let losses = [
        CrossEntropy::default(),
        CrossEntropy { weights: weights.clone(), ignore_index: 2, ..CrossEntropy::default() },
        CrossEntropy { weights, reduction: Reduction::Sum, ..CrossEntropy::default() },
    ];
    for criterion in losses {
        let mut fit = classifier(criterion.clone());
        let all: Vec<usize> = (0..SAMPLES).collect();
        let whole = Batch::read(&*samples(), &all, Pass::default()).expect("a batch");
        let ((x, towns), labels) = whole.into_typed::<(Var, Var), Var>().expect("two inputs");
        let x = x.reshaped([SAMPLES, 6]).expect("rows");
        let expected = fit.net().eval().loss(&criterion, (&x, &towns), &labels).expect("a loss");
        let expected = f64::from(expected.item().expect("one"));
        for size in [1, 4, 10, SAMPLES] {
            let (mut counts, mut seen) = (Confusion::new(CLASSES).expect("classes"), vec![]);
            let measured = fit.evaluate_with(&mut loader(size), |batch, scores| {
                seen.extend(batch.indices.iter().copied());
                counts.add_scores(&scores, &batch.targets[0])
            });
            let measured = measured.expect("a measurement");
            let close = (measured.loss - expected).abs() <= 1e-5 * expected.abs();
            assert!(close, "batches of {size}: expected {expected}, got {}", measured.loss);
            assert_eq!(measured.samples, SAMPLES);
            seen.sort_unstable();
            assert_eq!(seen, all);
            assert_eq!(counts.samples(), SAMPLES as u64);
            assert_eq!(fit.evaluate(&mut loader(size)).expect("again"), measured, "in eval mode");
        }
    }
}

#[test]
fn what_cannot_be_measured_is_an_error() {
    let mut fit = classifier(CrossEntropy::default());
    let error = fit.evaluate([]).expect_err("an error").to_string();
    assert_eq!(error, "batches: expected one sample or more, got none");
    let mut each =
        classifier(CrossEntropy { reduction: Reduction::None, ..CrossEntropy::default() });
    let error = each.evaluate(&mut loader(10)).expect_err("an error").to_string();
    assert_eq!(error, "loss: expected one value for a batch, got [10]");
    let lone = Arrays::new([Array::f32(vec![0.0; 6], &[6])], []).expect("samples");
    let error = fit.evaluate([Batch::read(&lone, &[0], Pass::default())]).expect_err("an error");
    assert!(error.to_string().starts_with("targets: expected 1 tensor, got 0"), "{error}");
}

/// A network that is to give its input back needs no targets.
#[test]
fn samples_without_targets_train() {
    struct Identity(Linear);
    impl Module<Var, (Var, Var)> for Identity {
        fn forward(&self, x: &Var) -> (Var, Var) {
            (x.clone(), self.0.forward(x))
        }
    }
    let net = Net::new(Device::cpu(), Seed(3), |p| Identity(Linear::new(&p.at("fc"), 3, 3)));
    let loss = loss::from_fn(|(x, y): &(Var, Var), (): &()| (y - x).square().mean());
    let mut fit: Trainer<Identity, Var, (Var, Var), ()> =
        Trainer::new(net.expect("a network"), loss, Adam::new(0.05)).expect("a trainer");
    let numbers = Numbers::new(2).tensor(&[20, 3]).values().expect("f32").to_vec();
    let set = Arrays::new([Array::f32(numbers, &[3])], []).expect("samples");
    let config = LoaderConfig { batch_size: 5, ..LoaderConfig::default() };
    let mut batches = Loader::new(Arc::new(set), config).expect("a loader");
    let before = fit.evaluate(&mut batches).expect("a measurement").loss;
    assert!(fit.fit(&mut batches, 60, |_, _| go_on()).expect("epochs").is_continue());
    let after = fit.evaluate(&mut batches).expect("a measurement").loss;
    assert!(after < before / 20.0, "{before} to {after}");
}

fn line(rate: f64) -> Trainer<Linear> {
    let net = Net::new(Device::cpu(), Seed(3), |p| Linear::new(&p.at("fc"), 3, 1));
    Trainer::new(net.expect("a network"), Mse::default(), Sgd::new(rate)).expect("a trainer")
}

fn weights(fit: &mut Trainer<Linear>) -> Vec<u32> {
    bits(&fit.net().parameter("fc.weight").expect("a weight"))
}

#[test]
fn a_rate_that_is_set_is_that_of_the_next_update() {
    let mut numbers = Numbers::new(4);
    let (x, y) = (numbers.tensor(&[8, 3]), numbers.tensor(&[8, 1]));
    let half = || Schedule::Step { size: 2, gamma: 0.5 };
    let (mut set, mut other) = (line(0.1).with_schedule(half()), line(0.02).with_schedule(half()));
    let (set, other) = (set.as_mut().expect("ok"), other.as_mut().expect("ok"));
    set.set_rate(0.02).expect("a rate");
    for _ in 0..5 {
        assert_eq!(set.rate(), other.rate());
        set.step(&x, &y).expect("a step");
        other.step(&x, &y).expect("a step");
    }
    assert_eq!(weights(set), weights(other));
    set.set_rate(0.4).expect("a rate");
    assert_eq!((set.rate(), set.rate_of("fc.bias").expect("one")), (0.1, 0.1), "of update 5");
    for wrong in [-1.0, f64::NAN, f64::INFINITY] {
        let error = set.set_rate(wrong).expect_err("an error").to_string();
        assert_eq!(error, format!("learning rate: expected 0 or more, got {wrong}"));
    }
    assert_eq!(set.rate(), 0.1);
}

#[test]
fn a_function_is_a_schedule() {
    let mut numbers = Numbers::new(5);
    let (x, y) = (numbers.tensor(&[8, 3]), numbers.tensor(&[8, 1]));
    let step = Schedule::Step { size: 2, gamma: 0.5 };
    let same = Schedule::from_fn("halves", |base, update| base * 0.5_f64.powf((update / 2) as f64));
    assert_eq!(
        (0..9).map(|n| step.rate(0.3, n)).collect::<Vec<_>>(),
        (0..9).map(|n| same.rate(0.3, n)).collect::<Vec<_>>()
    );
    let mut first = line(0.3).with_schedule(Schedule::Chain(vec![(0, step)])).expect("a schedule");
    let mut second = line(0.3).with_schedule(Schedule::Chain(vec![(0, same)])).expect("a schedule");
    for _ in 0..5 {
        first.step(&x, &y).expect("a step");
        second.step(&x, &y).expect("a step");
    }
    assert_eq!(weights(&mut first), weights(&mut second));

    // Seen beforehand where it is looked at, else when it comes to it.
    let error =
        line(0.3).with_schedule(Schedule::from_fn("falls", |base, update| base - update as f64));
    assert!(error
        .expect_err("an error")
        .to_string()
        .starts_with("rate 2 of the schedule: expected 0 or more"));
    let late = |base: f64, update| if update == 3 { f64::NAN } else { base };
    let mut fit = line(0.3).with_schedule(Schedule::from_fn("breaks", late)).expect("a schedule");
    for _ in 0..3 {
        fit.step(&x, &y).expect("a step");
    }
    let before = weights(&mut fit);
    let error = fit.step(&x, &y).expect_err("an error").to_string();
    assert_eq!(error, "learning rate of update 4: expected 0 or more, got NaN");
    assert_eq!((fit.updates(), weights(&mut fit)), (3, before));
}
