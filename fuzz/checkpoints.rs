// SPDX-License-Identifier: MIT OR Apache-2.0
//! Weights and training files.

use std::fs;

use kiln::checkpoint::{self, Progress, Strictness, WeightsOptions, TRAINING_FILE};
use kiln::loss::CrossEntropy;
use kiln::models::SimpleNet;
use kiln::optim::Adam;
use kiln::{Device, Net, Seed, Tensor, Trainer};

use super::harness::{judge, run, Numbers};
use super::mutate::{mutated, mutated_text, Damage};

/// Some of it is the header's, whose texts and numbers become values of their own.
fn limit(bytes: &[u8]) -> usize {
    64 * bytes.len() + (4 << 20)
}

fn net(seed: u64) -> Net<SimpleNet> {
    Net::new(Device::cpu(), Seed(seed), |p| SimpleNet::new(p, 3, 4, 2, 0.5)).expect("a network")
}

fn trainer() -> Trainer<SimpleNet> {
    Trainer::new(net(1), CrossEntropy::default(), Adam::new(0.1)).expect("a trainer")
}

fn step(trainer: &mut Trainer<SimpleNet>) {
    let x = Tensor::new([2, 3], vec![0.5, -1.0, 2.0, 1.5, 0.0, -0.5]).expect("a tensor");
    trainer.step(&x, &Tensor::labels([2], vec![0, 1]).expect("labels")).expect("a step");
}

fn bits(net: &mut Net<SimpleNet>) -> Vec<u32> {
    let names: Vec<String> = net.parameter_names().into_iter().map(String::from).collect();
    let values = names.iter().map(|name| net.parameter(name).expect("one of its own"));
    values.flat_map(|tensor| tensor.values().expect("numbers").to_vec()).map(f32::to_bits).collect()
}

/// Another header in front of the same tensors, with its length put right.
fn other_header(numbers: &mut Numbers, file: &[u8]) -> Vec<u8> {
    let (length, rest) = file.split_first_chunk().expect("eight bytes");
    let (header, tensors) = rest.split_at(u64::from_le_bytes(*length) as usize);
    let header = mutated_text(numbers, &String::from_utf8_lossy(header));
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), tensors].concat()
}

#[test]
fn checkpoints_of_weights() {
    let mut net = net(1);
    let before = bits(&mut net);
    let mut seeds = Vec::new();
    let folder = tempfile::TempDir::new().expect("a folder");
    let path = folder.path().join("weights");
    checkpoint::save_weights(&mut net, &path).expect("saved");
    seeds.push(fs::read(&path).expect("saved"));
    let fixture =
        concat!(env!("CARGO_MANIFEST_DIR"), "/tests/checkpoint/torch_simple_net.safetensors");
    seeds.push(fs::read(fixture).expect("a fixture"));
    run("checkpoints_of_weights", 20, |case| {
        let bytes = match case.numbers.below(2) {
            0 => mutated(&mut case.numbers, &seeds).0,
            _ => other_header(&mut case.numbers, &seeds[0]),
        };
        let path = case.write("weights.safetensors", &bytes);
        let strictness = *case.numbers.pick(&[Strictness::Strict, Strictness::Lenient]);
        let prefix = *case.numbers.pick(&["", "fc", "fc1."]);
        let options =
            WeightsOptions { strip_prefix: prefix.into(), strictness, ..Default::default() };
        let loaded =
            case.within(limit(&bytes), || checkpoint::load_weights_with(&mut net, &path, &options));
        match loaded {
            Ok(_) => net = self::net(1),
            Err(error) => {
                judge(&error, &path);
                assert_eq!(bits(&mut net), before, "a refused file has changed the network");
            }
        }
        if let Err(error) = case.within(limit(&bytes), || checkpoint::position(&path)) {
            judge(&error, &path);
        }
    });
}

#[test]
fn checkpoints_of_training() {
    let folder = tempfile::TempDir::new().expect("a folder");
    let mut first = trainer();
    step(&mut first);
    let notes = serde_json::json!({ "settings": { "lr": 0.1 }, "history": [1, "two", null] });
    let progress = Progress { notes, ..Progress::default() };
    checkpoint::save(&mut first, &progress, folder.path()).expect("saved");
    let seeds = vec![fs::read(folder.path().join(TRAINING_FILE)).expect("saved")];
    let mut fresh = trainer();
    let before = (bits(fresh.net()), fresh.updates());
    run("checkpoints_of_training", 20, |case| {
        let (bytes, damage) = match case.numbers.below(2) {
            0 => mutated(&mut case.numbers, &seeds),
            _ => (other_header(&mut case.numbers, &seeds[0]), Damage::Any),
        };
        let path = case.write(TRAINING_FILE, &bytes);
        let loaded = case.within(limit(&bytes), || checkpoint::load(&mut fresh, &case.folder));
        match loaded {
            Ok(_) => {
                assert_eq!(damage, Damage::Any, "damage that the check sum must show");
                step(&mut fresh);
                fresh = trainer();
            }
            Err(error) => {
                judge(&error, &path);
                let after = (bits(fresh.net()), fresh.updates());
                assert_eq!(after, before, "a refused file has changed the training");
            }
        }
        if let Err(error) = case.within(limit(&bytes), || checkpoint::progress(&case.folder)) {
            judge(&error, &path);
        }
    });
}
