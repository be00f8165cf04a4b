// SPDX-License-Identifier: MIT OR Apache-2.0
//! Batches of samples that lie on the device, and in memory from which it copies by itself: a training sees the
//! bits that it sees of batches from the host.

use std::ops::ControlFlow;
use std::sync::Arc;

use kiln::data::{
    Array, Arrays, Augmentation, Augmented, Dataset, Digits, Loader, LoaderConfig, Normalisation,
    Normalised, OnDevice, Residence, SampleShape, Shuffle,
};
use kiln::loss::{CrossEntropy, Mse};
use kiln::models::SimpleNet;
use kiln::nn::Linear;
use kiln::optim::{Adam, Sgd};
use kiln::{Device, Error, Event, Net, Precision, Seed, Trainer};

use crate::common::*;

/// Pictures of bytes, normalised.
fn digits() -> Arc<dyn Dataset> {
    let few = Digits::load().to_28x28().take(70).expect("there are 1797");
    let normalisation = Normalisation::measure(&few).expect("pictures");
    Arc::new(Normalised::new(Arc::new(few), normalisation).expect("one channel"))
}

/// Rows of so many numbers, none like another, with targets of so many.
fn measured(inputs: usize, targets: usize) -> Arc<dyn Dataset> {
    let values = |seed, each| numbers(seed, [50, each]).values().expect("f32").to_vec();
    let x = Array::f32(values(1, inputs), &[inputs]);
    let y = Array::f32(values(2, targets), &[targets]);
    Arc::new(Arrays::new([x], [y]).expect("50 of each"))
}

fn config(on_device: OnDevice) -> LoaderConfig {
    LoaderConfig {
        batch_size: 16,
        shuffle: Shuffle::Seeded(3),
        sample_shape: SampleShape::Row,
        on_device,
        ..LoaderConfig::default()
    }
}

fn loader(set: &Arc<dyn Dataset>, on_device: OnDevice) -> Loader {
    Loader::new(set.clone(), config(on_device)).expect("a loader")
}

/// Bits of losses and of a parameter after some epochs.
type Trained = (Vec<u32>, Vec<u32>);

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

fn train<M: kiln::nn::Module>(mut fit: Trainer<M>, loader: &mut Loader, name: &str) -> Trained {
    let mut losses = Vec::new();
    let ended = fit.fit(loader, 3, |_, event| {
        if let Event::Step { loss, .. } = event {
            losses.push(loss.clone());
        }
        Ok(ControlFlow::<()>::Continue(()))
    });
    assert!(ended.expect("a training").is_continue());
    let losses: Vec<f32> = losses.iter().map(|loss| loss.value().expect("a loss")).collect();
    let weight = fit.net().parameter(name).expect("known by name");
    (bits(&losses), bits(weight.values().expect("f32")))
}

fn classifier(device: Device, micro_batches: usize) -> Trainer<SimpleNet> {
    let net = Net::new(device, Seed(7), |p| SimpleNet::new(p, 784, 32, 10, 0.5));
    Trainer::new(net.expect("a network"), CrossEntropy::default(), Adam::new(1e-3))
        .and_then(|fit| fit.with_micro_batches(micro_batches))
        .expect("a trainer")
}

fn regression(device: Device, inputs: usize, targets: usize) -> Trainer<Linear> {
    let net = Net::new(device, Seed(7), |p| Linear::new(&p.at("fc"), inputs, targets));
    Trainer::new(net.expect("a network"), Mse::default(), Sgd::new(0.1)).expect("a trainer")
}

/// Steps taken by hand, whose batches the host makes in memory of its own.
fn by_hand(mut fit: Trainer<SimpleNet>, set: &Arc<dyn Dataset>) -> Trained {
    let mut losses = Vec::new();
    let mut loader = loader(set, OnDevice::Never);
    while loader.position().epoch < 3 {
        let batch = loader.next_batch().expect("a batch");
        losses.push(fit.step(&batch.inputs, &batch.targets).expect("a step"));
    }
    let losses: Vec<f32> = losses.iter().map(|loss| loss.value().expect("a loss")).collect();
    let weight = fit.net().parameter("fc1.weight").expect("known by name");
    (bits(&losses), bits(weight.values().expect("f32")))
}

#[test]
fn a_training_is_the_same_wherever_its_samples_lie() {
    let driver = driver();
    let set = digits();
    for (device, micro_batches) in
        [(gpu(), 1), (gpu(), 3), (eager_gpu(), 1), (gpu().with_precision(Precision::Bf16), 1)]
    {
        let fit = || classifier(device.clone(), micro_batches);
        let expected = by_hand(fit(), &set);
        for on_device in [OnDevice::Always, OnDevice::Auto, OnDevice::Never] {
            let mut loader = loader(&set, on_device);
            let residence = loader.serve(&device).expect("a device").clone();
            match (on_device, residence) {
                // A byte for each pixel, and a palette.
                (OnDevice::Always | OnDevice::Auto, Residence::Device { bytes }) => {
                    assert_eq!(bytes, 70 * 784 + 256 * 4);
                }
                (OnDevice::Never, Residence::Host { why }) => {
                    assert!(why.contains("told"), "{why}")
                }
                (_, residence) => panic!("{on_device:?}: {residence}"),
            }
            assert_eq!(train(fit(), &mut loader, "fc1.weight"), expected, "{on_device:?}");
        }
    }
    driver.assert_clean();
}

/// Numbers that no byte tells, of samples that are whole fours and others; targets that are worth a table too.
#[test]
fn samples_of_any_numbers_lie_on_the_device_as_they_are() {
    let driver = driver();
    for (inputs, targets) in [(20, 2), (31, 17), (4, 32)] {
        let set = measured(inputs, targets);
        let trained = |on_device| {
            let mut loader = loader(&set, on_device);
            let residence = loader.serve(&gpu()).expect("a device").clone();
            let tables = [inputs, targets].into_iter().filter(|&each| each >= 16);
            let bytes = 50 * 4 * tables.sum::<usize>();
            assert_eq!(residence == Residence::Device { bytes }, on_device == OnDevice::Always);
            train(regression(gpu(), inputs, targets), &mut loader, "fc.weight")
        };
        assert_eq!(trained(OnDevice::Always), trained(OnDevice::Never));
    }
    driver.assert_clean();
}

/// Numbers of samples, labels and what the host gives: two copies and a launch more than none, however large
/// samples are; and none waits for the device.
#[test]
fn a_step_sends_up_the_numbers_of_samples_alone() {
    let Some(simulator) = simulator() else { return };
    let set = digits();
    let mut fit = classifier(gpu(), 1);
    let mut loader = loader(&set, OnDevice::Auto);
    loader.serve(&gpu()).expect("a device");
    let mut step = || {
        let batch = loader.next_batch().expect("a batch");
        fit.step(&batch.inputs, &batch.targets).expect("a step")
    };
    (0..8).for_each(|_| assert!(step().value().expect("a loss") > 0.0));
    simulator.clear_counters();
    let loss = step();
    assert_eq!(simulator.counters().launches, 0, "the step waited for the device");
    loss.value().expect("a loss");
    let counters = simulator.counters();
    assert_eq!((counters.launches, counters.copies, counters.allocations), (7 + 1, 3, 0));
    assert_eq!(simulator.take_reports(), Vec::<String>::new());
}

/// However streams are ordered, and whoever reads first.
#[test]
fn rows_are_taken_before_they_are_read() {
    let Some(simulator) = simulator() else { return };
    simulator.set_mode(Mode::Checked);
    for on_device in [OnDevice::Always, OnDevice::Never] {
        let set = digits();
        let expected = by_hand(classifier(gpu(), 1), &set);
        for seed in 0..2 {
            simulator.set_stream_order(StreamOrder::Random);
            simulator.set_seed(seed);
            let found = train(classifier(gpu(), 1), &mut loader(&set, on_device), "fc1.weight");
            assert_eq!(found, expected, "{on_device:?} {seed}");
        }
    }
    assert_eq!(simulator.take_reports(), Vec::<String>::new());
}

/// Batches are those of any other loader, on any device: the host reads samples where it is asked for them.
#[test]
fn batches_for_a_device_are_batches() {
    let _driver = driver();
    let set = digits();
    for on_device in [OnDevice::Always, OnDevice::Never] {
        let (mut plain, mut served) = (loader(&set, on_device), loader(&set, on_device));
        served.serve(&gpu()).expect("a device");
        for _ in 0..6 {
            let (expected, batch) =
                (plain.next_batch().expect("a batch"), served.next_batch().expect("a batch"));
            assert_eq!(batch, expected);
            let part = |batch: &kiln::data::Batch| batch.inputs[0].samples(1, 3).expect("a part");
            assert_eq!(part(&batch), part(&expected));
        }
        let mut loader = loader(&set, on_device);
        loader.serve(&gpu()).expect("a device");
        let batch = loader.next_batch().expect("a batch");
        let loss = |batch: &kiln::data::Batch| {
            let loss = classifier(cpu(), 1).step(&batch.inputs, &batch.targets).expect("a step");
            loss.value().expect("a loss").to_bits()
        };
        let mut plain = self::loader(&set, OnDevice::Never);
        assert_eq!(loss(&batch), loss(&plain.next_batch().expect("a batch")));
        // They outlive the loader.
        drop((loader, plain));
        let loss = classifier(gpu(), 1).step(&batch.inputs, &batch.targets).expect("a step");
        assert!(loss.value().expect("a loss") > 0.0);
    }
}

/// Where samples cannot or should not lie on the device, the host keeps them and says why.
#[test]
fn samples_stay_on_the_host_for_a_reason() {
    let Some(simulator) = simulator() else { return };
    let why = |set: &Arc<dyn Dataset>| match loader(set, OnDevice::Auto).serve(&gpu()) {
        Ok(Residence::Host { why }) => why.clone(),
        other => panic!("{other:?}"),
    };
    let flips = [Augmentation::Flip { probability: 0.5 }];
    let augmented: Arc<dyn Dataset> = Arc::new(Augmented::new(digits(), flips).expect("pictures"));
    assert!(why(&augmented).contains("augmented"));
    let refused = match loader(&augmented, OnDevice::Always).serve(&gpu()) {
        Err(Error::Argument { what, got, .. }) => (what, got),
        other => panic!("{other:?}"),
    };
    assert!(refused.0 == "on_device" && refused.1.contains("augmented"), "{refused:?}");
    assert!(why(&measured(4, 1)).contains("so small"));

    let bytes: u64 = 70 * 784 + 256 * 4;
    let held = gpu();
    let _net = classifier(held.clone(), 1);
    let used = simulator.counters().live_bytes;
    simulator.set_memory(used + 4 * bytes - 4096);
    assert!(why(&digits()).contains("a quarter of what is free"));
    simulator.set_memory(used + 4 * bytes + 4096);
    let mut fits = loader(&digits(), OnDevice::Auto);
    assert!(matches!(fits.serve(&held), Ok(Residence::Device { .. })));
}
