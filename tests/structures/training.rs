// SPDX-License-Identifier: MIT OR Apache-2.0
//! Training networks with several inputs, outputs and targets.

use kiln::checkpoint::{self, Progress, Resume};
use kiln::loss::{self, BceWithLogits, CrossEntropy, Loss, Mse, Reduction};
use kiln::nn::Module;
use kiln::optim::{Adam, Sgd};
use kiln::{Device, Error, Net, Seed, Tensor, Trainer, Values, Var};
use tempfile::TempDir;

use super::{
    labels, siamese, two_outputs, x, Embedding, IntegerInput, Siamese, Sums, TwoOutputs, FEATURES,
    SAMPLES,
};
use crate::common::bits;
use crate::common::targets::targets;
use crate::common::zoo::SEED;

/// Cross-entropy of the scores and a share of the mean squared error of the other output.
pub(crate) fn both(share: f32) -> impl Loss<(Var, Var), (Var, Var)> + 'static {
    loss::from_fn(move |(scores, again): &(Var, Var), (labels, x): &(Var, Var)| {
        let right = CrossEntropy::default().forward(scores, labels, &[]);
        &right + &Mse::default().forward(again, x, &[]).scale(share)
    })
}

type OfBoth = Trainer<TwoOutputs, Var, (Var, Var), (Var, Var)>;

fn of_both(device: Device) -> OfBoth {
    Trainer::new(two_outputs(device), both(0.5), Adam::new(0.02)).expect("a trainer")
}

fn of_pairs(device: Device, rate: f32) -> Trainer<Siamese, (Var, Var)> {
    let net = siamese(device, rate);
    Trainer::new(net, BceWithLogits::default(), Adam::new(0.02)).expect("a trainer")
}

fn same(number: u64) -> Tensor {
    let bit = |label: &i32| f32::from(*label > 1);
    let bits = labels(number).integers().expect("i32").iter().map(bit).collect();
    Tensor::new([SAMPLES, 1], bits).expect("as many")
}

fn parameters<M, I: Values, O: Values, T: Values>(fit: &mut Trainer<M, I, O, T>) -> Vec<Vec<u32>>
where
    M: Module<I, O>,
{
    let names: Vec<String> = fit.net().parameter_names().into_iter().map(str::to_owned).collect();
    let names = names.iter().filter(|name| !name.ends_with("num_batches_tracked"));
    names.map(|name| bits(&fit.net().parameter(name).expect("its name"))).collect()
}

/// Steps on one batch make the loss small.
#[test]
fn losses_fall() {
    for target in targets() {
        let (a, b, together) = (x(1), x(2), same(3));
        let mut fit = of_pairs(target.device(), 0.0);
        let mut pairs = || fit.step((&a, &b), &together).expect("a step").value().expect("a loss");
        let first = pairs();
        let last = (0..60).map(|_| pairs()).last().expect("60 steps");
        assert!(last < first / 4.0, "{}: {first} to {last}", target.name);

        let (x, labels) = (x(1), labels(2));
        let mut fit = of_both(target.device());
        let mut step = || fit.step(&x, (&labels, &x)).expect("a step").value().expect("a loss");
        let first = step();
        let last = (0..60).map(|_| step()).last().expect("60 steps");
        assert!(last < first / 3.0, "{}: {first} to {last}", target.name);
    }
}

/// A loss without targets, of a network that takes integers.
#[test]
fn nothing_is_a_target() {
    for target in targets() {
        let net = Net::new(target.device(), Seed(SEED), IntegerInput::new).expect("a network");
        let mean = loss::from_fn(|each: &Var, (): &()| each.square().mean());
        let mut fit = Trainer::new(net, mean, Sgd::new(0.1)).expect("a trainer");
        let (x, classes) = (x(1), labels(2));
        let mut step = || fit.step((&x, &classes), ()).expect("a step").value().expect("a loss");
        let first = step();
        assert!((0..20).map(|_| step()).last().expect("20 steps") < first, "{}", target.name);
    }
}

/// Parts of a batch hold their samples of every input and target, and draw the batch's masks.
#[test]
fn micro_batches_divide_inputs_and_targets() {
    for target in targets() {
        let run = |parts: usize| {
            let mut fit = of_pairs(target.device(), 0.5).with_micro_batches(parts).expect("some");
            let steps = (0..3).map(|n| {
                let loss = fit.step((&x(n), &x(n + 10)), &same(n)).expect("a step");
                loss.value().expect("a loss")
            });
            let losses: Vec<f32> = steps.collect();
            let mut of_both = of_both(target.device()).with_micro_batches(parts).expect("some");
            let losses = losses.into_iter().chain((0..3).map(|n| {
                let loss = of_both.step(&x(n), (&labels(n), &x(n))).expect("a step");
                loss.value().expect("a loss")
            }));
            losses.collect::<Vec<f32>>()
        };
        let whole = run(1);
        for parts in [2, 4, 6] {
            for (part, whole) in run(parts).iter().zip(&whole) {
                let apart = (part - whole).abs();
                assert!(apart < 2e-4, "{}: {parts} parts: {part} {whole}", target.name);
            }
        }
    }
}

/// How the losses of parts add up is the closure's to say.
#[test]
fn sums_of_parts_are_sums() {
    let run = |parts: usize, reduction: Reduction| {
        let distance = loss::from_fn(move |y: &Var, t: &Var| match reduction {
            Reduction::Sum => (y - t).square().sum(),
            _ => (y - t).square().mean(),
        });
        let net = siamese(Device::cpu(), 0.0);
        let distance = distance.with_reduction(reduction);
        let fit = Trainer::new(net, distance, Sgd::new(0.01)).expect("a trainer");
        let mut fit = fit.with_micro_batches(parts).expect("some");
        let loss = fit.step((&x(1), &x(2)), &same(3)).expect("a step").value().expect("a loss");
        (loss, fit.net().parameter("head.bias").expect("its name").item().expect("one"))
    };
    for reduction in [Reduction::Mean, Reduction::Sum] {
        let (whole, parts) = (run(1, reduction), run(4, reduction));
        assert!((whole.0 - parts.0).abs() < 1e-4 * whole.0, "{whole:?} {parts:?}");
        assert!((whole.1 - parts.1).abs() < 1e-5, "{whole:?} {parts:?}");
    }
}

/// The norm is told from the outputs, of which there may be several.
#[test]
fn the_norm_of_a_clipped_step_is_its_own() {
    let (x, labels) = (x(1), labels(2));
    let mut fit = of_both(Device::cpu()).with_clipping(0.1).expect("a norm");
    let gradients = fit.net().train().loss_gradients(&both(0.5), &x, (&labels, &x)).expect("ok");
    let squares =
        |(_, g): &(String, Tensor)| -> f32 { g.values().expect("f32").iter().map(|g| g * g).sum() };
    let norm = gradients.parameters.iter().map(squares).sum::<f32>().sqrt();
    let step = fit.step(&x, (&labels, &x)).expect("a step");
    let found = step.gradient_norm().expect("a norm").expect("clipped");
    assert!((norm - found).abs() < 1e-4 * norm, "{norm} {found}");
}

/// An integer that names no row stops a step before any part of it has run.
#[test]
fn a_bad_integer_in_the_last_part_changes_nothing() {
    for target in targets() {
        let net = Net::new(target.device(), Seed(SEED), Embedding::normalised).expect("a network");
        let of_scores = loss::from_fn(|(scores, _): &(Var, Var), labels: &Var| {
            CrossEntropy::default().forward(scores, labels, &[])
        });
        let fit = Trainer::new(net, of_scores, Sgd::new(0.1)).expect("a trainer");
        let mut fit = fit.with_micro_batches(3).expect("some");
        let tokens = |last: i32| {
            let tokens = [0, 1, 2, 3, 4, last].to_vec();
            Tensor::labels([SAMPLES], tokens).expect("as many")
        };
        let before = parameters(&mut fit);
        for bad in [9, -1, i32::MAX] {
            let error = fit.step((&tokens(bad), &x(1)), &labels(2)).unwrap_err().to_string();
            assert!(error.contains("take") && error.ends_with(&format!("got {bad}")), "{error}");
        }
        assert_eq!(before, parameters(&mut fit), "{}", target.name);
        assert_eq!((fit.updates(), fit.net().pass()), (0, 0));
        fit.step((&tokens(8), &x(1)), &labels(2)).expect("a step");
        assert_ne!(before, parameters(&mut fit), "{}", target.name);
    }
}

/// Closures that hold other numbers have plans of their own.
#[test]
fn closures_are_not_taken_for_one_another() {
    let mut net = two_outputs(Device::cpu());
    let (x, labels) = (x(1), labels(2));
    let of = |net: &mut Net<TwoOutputs>, loss: &dyn Loss<(Var, Var), (Var, Var)>| {
        net.eval().loss(loss, &x, (&labels, &x)).expect("a pass").item().expect("a number")
    };
    let losses = [both(0.0), both(1.0), both(2.0)];
    let [zero, one, two] = losses.each_ref().map(|loss| of(&mut net, loss));
    assert!((two - one - (one - zero)).abs() < 1e-5 && one > zero + 0.1, "{zero} {one} {two}");
    assert_eq!([zero, one, two], losses.each_ref().map(|loss| of(&mut net, loss)));
    assert_eq!(net.plans(), 3);
    let keys: std::collections::BTreeSet<String> = losses.iter().map(|loss| loss.key()).collect();
    assert_eq!(keys.len(), 3);
}

/// A training that is saved and resumed gives the bits of one that was not.
#[test]
fn resumed_bit_for_bit() {
    for target in targets() {
        let pairs = |fit: &mut Trainer<Siamese, (Var, Var)>, numbers: std::ops::Range<u64>| {
            for n in numbers {
                fit.step((&x(n), &x(n + 10)), &same(n)).expect("a step");
            }
        };
        let dir = TempDir::new().expect("a folder");
        let mut straight = of_pairs(target.device(), 0.5);
        pairs(&mut straight, 0..5);
        let mut first = of_pairs(target.device(), 0.5);
        pairs(&mut first, 0..2);
        checkpoint::save(&mut first, &Progress::default(), dir.path()).expect("saved");
        let mut second = of_pairs(target.device(), 0.5);
        checkpoint::load(&mut second, dir.path()).expect("resumed");
        pairs(&mut second, 2..5);
        assert_eq!(parameters(&mut straight), parameters(&mut second), "{}", target.name);

        let step = |fit: &mut OfBoth, n| {
            fit.step(&x(n), (&labels(n), &x(n))).expect("a step");
        };
        let dir = TempDir::new().expect("a folder");
        let mut straight = of_both(target.device());
        (0..4).for_each(|n| step(&mut straight, n));
        let mut first = of_both(target.device());
        (0..2).for_each(|n| step(&mut first, n));
        checkpoint::save(&mut first, &Progress::default(), dir.path()).expect("saved");
        let mut second = of_both(target.device());
        checkpoint::load(&mut second, dir.path()).expect("resumed");
        (2..4).for_each(|n| step(&mut second, n));
        assert_eq!(parameters(&mut straight), parameters(&mut second), "{}", target.name);
        // Saved again, it says the same of the network.
        checkpoint::save(&mut second, &Progress::default(), dir.path()).expect("saved");
        checkpoint::load(&mut straight, dir.path()).expect("resumed");
    }
}

/// Whoever resumes with another closure is told, whatever its key.
#[test]
fn a_resumed_closure_records_the_same() {
    let dir = TempDir::new().expect("a folder");
    let mut fit = of_both(Device::cpu());
    fit.step(&x(1), (&labels(1), &x(1))).expect("a step");
    checkpoint::save(&mut fit, &Progress::default(), dir.path()).expect("saved");
    let with = |share: f32| {
        Trainer::new(two_outputs(Device::cpu()), both(share), Adam::new(0.02)).expect("a trainer")
    };
    checkpoint::load(&mut with(0.5), dir.path()).expect("the same");
    let error = checkpoint::load(&mut with(0.25), dir.path()).unwrap_err();
    let Error::Checkpoint { mismatches, .. } = &error else { panic!("{error}") };
    assert_eq!(mismatches.len(), 1, "{error}");
    assert!(mismatches[0].starts_with("loss: expected Loss "), "{error}");
    assert!(mismatches[0].contains("0.25") && mismatches[0].contains("0.5"), "{error}");
    Resume::new(dir.path()).allow("loss").load(&mut with(0.25)).expect("allowed");
}

/// A batch of another structure is no batch of the network.
#[test]
fn a_checkpoint_of_another_structure_is_refused() {
    let dir = TempDir::new().expect("a folder");
    let net = || Net::new(Device::cpu(), Seed(SEED), Sums::new).expect("a network");
    let last = loss::from_fn(|sums: &Vec<Var>, (): &()| match sums.last() {
        Some(sum) => sum.square().mean(),
        None => unreachable!("networks have inputs"),
    });
    let mut fit = Trainer::new(net(), last.clone(), Sgd::new(0.1)).expect("a trainer");
    fit.step(&vec![x(1), x(2)], ()).expect("a step");
    checkpoint::save(&mut fit, &Progress::default(), dir.path()).expect("saved");
    let mut again = Trainer::new(net(), last, Sgd::new(0.1)).expect("a trainer");
    checkpoint::load(&mut again, dir.path()).expect("the same");

    /// The same parameters, for one input.
    struct One(Sums);
    impl Module for One {
        fn forward(&self, x: &Var) -> Var {
            self.0.fc.forward(x)
        }
    }
    let net = Net::new(Device::cpu(), Seed(SEED), |p| One(Sums::new(p))).expect("a network");
    let mut other = Trainer::new(net, Mse::default(), Sgd::new(0.1)).expect("a trainer");
    let error = checkpoint::load(&mut other, dir.path()).unwrap_err().to_string();
    let message = "inputs: expected 1 tensors and 0 lists, got 2 tensors, lists of [2] among them";
    assert!(error.contains(message), "{error}");
}

/// NaN is found in the input that has it.
#[test]
fn the_input_with_nan_is_named() {
    let mut fit = of_pairs(Device::cpu(), 0.0);
    let nan =
        Tensor::new([SAMPLES, FEATURES], vec![f32::NAN; SAMPLES * FEATURES]).expect("as many");
    let found = fit.first_non_finite((&x(1), &nan), &same(2)).expect("a pass").expect("NaN");
    assert_eq!(found.to_string(), "input 1 has NaN in it");
    let found = fit.net().eval().first_non_finite((&nan, &x(1))).expect("a pass").expect("NaN");
    assert_eq!(found.to_string(), "input 0 has NaN in it");
    assert_eq!(fit.first_non_finite((&x(1), &x(2)), &same(2)).expect("a pass"), None);
}
