// SPDX-License-Identifier: MIT OR Apache-2.0
//! How many samples a second each network trains on and classifies.
//!
//! `train`: a whole training step: forward in train mode, cross-entropy, backward, update; the loss
//! is not read. `eval`: a forward pass in eval mode. Both with one thread and with all, on the same
//! batch again and again, so that no data loading is timed.

mod common;

use std::num::NonZeroUsize;

use common::{Network, Peaks, Rates, Unit};
use criterion::{Criterion, Throughput};
use kiln::models::VariableDropoutNet;
use kiln::nn::{
    Conv2d, ConvOptions, Dropout, Flatten, Linear, MaxPool2d, Module, Padding, Relu, Scope,
    Sequential,
};
use kiln::optim::{Adam, Optimizer, Sgd};
use kiln::Tensor;

const SAMPLES: Unit = Unit { name: "samples/s", per_nanosecond: 1e9 };
/// The networks and batch sizes that the comparison with other engines uses.
const SUBJECTS: [(&str, Network, Batches, usize); 4] = [
    ("simple", common::simple, common::random_batch, 64),
    ("simple", common::simple, common::random_batch, 256),
    ("variable_dropout", variable_dropout, common::random_batch, 128),
    ("cnn", cnn, random_images, 64),
];

/// Makes a batch of so many samples, with their labels.
type Batches = fn(usize) -> kiln::Result<(Tensor, Tensor)>;

/// 784-1024-512-10, dropped little early and much late.
fn variable_dropout(p: &Scope) -> Box<dyn Module> {
    Box::new(VariableDropoutNet::new(p))
}

/// Two convolutions of colour images of 32x32 pixels, each with ReLU and pooling, then 8192-512-10.
fn cnn(p: &Scope) -> Box<dyn Module> {
    let same = ConvOptions { padding: Padding::Same, ..ConvOptions::default() };
    let convolutions = Sequential::new(p)
        .with(|p| Conv2d::with_options(p, 3, 64, [3, 3], same))
        .with(|_| Relu)
        .with(|_| MaxPool2d::new([2, 2]))
        .with(|p| Conv2d::with_options(p, 64, 128, [3, 3], same))
        .with(|_| Relu)
        .with(|_| MaxPool2d::new([2, 2]))
        .with(|p| Dropout::new(p, 0.25));
    let linear = convolutions
        .with(|_| Flatten::default())
        .with(|p| Linear::new(p, 128 * 8 * 8, 512))
        .with(|_| Relu)
        .with(|p| Dropout::new(p, 0.5));
    Box::new(linear.with(|p| Linear::new(p, 512, 10)))
}

fn random_images(batch: usize) -> kiln::Result<(Tensor, Tensor)> {
    let (_, labels) = common::random_batch(batch)?;
    let shape = [batch, 3, 32, 32];
    Ok((Tensor::new(shape, common::random_values(shape.iter().product()))?, labels))
}

fn main() -> kiln::Result<()> {
    let mut criterion = common::criterion(SAMPLES, Peaks::default());
    for (name, network, batches, batch) in SUBJECTS {
        for threads in common::thread_counts() {
            let subject = Subject {
                name: &format!("{name} batch {batch}"),
                network,
                batches,
                batch,
                threads,
            };
            subject.train(&mut criterion)?;
            subject.eval(&mut criterion)?;
        }
    }
    criterion.final_summary();
    Ok(())
}

/// A network with everything that is held while it is measured.
struct Subject<'a> {
    name: &'a str,
    network: Network,
    batches: Batches,
    batch: usize,
    threads: NonZeroUsize,
}

impl Subject<'_> {
    fn train(&self, criterion: &mut Criterion<Rates>) -> kiln::Result<()> {
        let optimizers: [(&str, Optimizer); 2] =
            [("sgd", Sgd::new(0.01).momentum(0.9).into()), ("adam", Adam::new(1e-3).into())];
        let Subject { name, network, batches, batch, threads } = *self;
        let (x, labels) = batches(batch)?;
        let mut group = criterion.benchmark_group("train");
        group.throughput(Throughput::Elements(batch as u64));
        for (rule, optimizer) in optimizers {
            let mut trainer = common::trainer(network, optimizer, threads)?;
            trainer.step(&x, &labels)?; // compiles the plan
            group.bench_function(format!("{name} {rule} threads {threads}"), |bencher| {
                bencher.iter(|| trainer.step(&x, &labels).expect("the first step succeeded"));
            });
        }
        group.finish();
        Ok(())
    }

    fn eval(&self, criterion: &mut Criterion<Rates>) -> kiln::Result<()> {
        let Subject { name, network, batches, batch, threads } = *self;
        let (x, _) = batches(batch)?;
        let mut net = common::net(network, threads)?;
        net.eval().forward(&x)?; // compiles the plan
        let mut group = criterion.benchmark_group("eval");
        group.throughput(Throughput::Elements(batch as u64));
        group.bench_function(format!("{name} threads {threads}"), |bencher| {
            bencher.iter(|| net.eval().forward(&x).expect("the first pass succeeded"));
        });
        group.finish();
        Ok(())
    }
}
