// SPDX-License-Identifier: MIT OR Apache-2.0
//! How much memory saving and loading take beside what a trainer holds. A program of its own, since
//! it counts every allocation.

use kiln::checkpoint::{self, Progress};
use kiln::loss::Mse;
use kiln::nn::Linear;
use kiln::optim::Adam;
use kiln::{Device, Net, Seed, Tensor, Trainer};
use peak_alloc::PeakAlloc;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// The most that was held during a call beyond what was held before it.
fn peak(call: impl FnOnce()) -> usize {
    let before = MEMORY.current_usage();
    MEMORY.reset_peak_usage();
    call();
    MEMORY.peak_usage() - before
}

/// A square matrix, and two of which one panel of the CPU's layout is all.
#[test]
fn saving_and_loading_take_no_more_than_the_largest_tensor() {
    for (inputs, outputs) in [(1024, 1024), (60_000, 16), (80_000, 12)] {
        let trainer = |seed| {
            let make = |p: &kiln::nn::Scope| Linear::new(&p.at("fc"), inputs, outputs);
            let net = Net::new(Device::cpu(), Seed(seed), make).unwrap();
            Trainer::new(net, Mse::default(), Adam::new(0.01)).unwrap()
        };
        let dir = tempfile::TempDir::new().unwrap();
        let (mut from, mut to) = (trainer(1), trainer(2));
        let (x, y) = (Tensor::zeros([2, inputs]), Tensor::zeros([2, outputs]));
        for trainer in [&mut from, &mut to] {
            trainer.step(&x, &y).unwrap();
        }
        let largest = inputs * outputs * size_of::<f32>();
        let weights = dir.path().join("w.safetensors");
        let mut measured = Vec::new();
        for _ in 0..2 {
            let progress = Progress::default();
            measured.push(peak(|| checkpoint::save(&mut from, &progress, dir.path()).unwrap()));
            measured.push(peak(|| drop(checkpoint::load(&mut to, dir.path()).unwrap())));
            measured.push(peak(|| checkpoint::save_weights(from.net(), &weights).unwrap()));
            measured.push(peak(|| checkpoint::load_weights(to.net(), &weights).unwrap()));
        }
        let most = measured.iter().copied().max().unwrap();
        let bar = largest + largest / 5;
        assert!(most <= bar, "{measured:?} of {bar} bytes for {inputs} -> {outputs}");
        let read = |trainer: &mut Trainer<Linear>| trainer.net().parameter("fc.weight").unwrap();
        assert_eq!(read(&mut from), read(&mut to));
    }
}
