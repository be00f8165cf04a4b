// SPDX-License-Identifier: MIT OR Apache-2.0
//! How many samples a second each network trains on and classifies.
//!
//! `train`: a whole training step: forward in train mode, cross-entropy, backward, update; the loss
//! is not read. `eval`: a forward pass in eval mode. Both with one thread and with all, on the same
//! batch again and again, so that no data loading is timed. Groups are named network/batch/threads.

mod common;

use std::num::NonZeroUsize;

use common::{Network, Peaks, Rates, Unit};
use criterion::{BenchmarkGroup, Throughput};
use kiln::models::{Cnn, ResnetSmall, RnnClassifier, VariableDropoutNet};
use kiln::nn::{Module, Scope};
use kiln::optim::{Adam, Optimizer, Sgd};
use kiln::Tensor;

const SAMPLES: Unit = Unit { name: "samples/s", per_nanosecond: 1e9 };
const CLASSES: usize = 10;
/// Words that there are, and those of a text.
const WORDS: usize = 10_000;
const LENGTH: usize = 64;
/// The networks and batch sizes that the comparison with other engines uses.
const SUBJECTS: [(&str, Network, Batches, usize); 6] = [
    ("simple", common::simple, common::random_batch, 64),
    ("simple", common::simple, common::random_batch, 256),
    ("variable_dropout", variable_dropout, common::random_batch, 128),
    ("cnn", cnn, random_images, 64),
    ("rnn", rnn, random_texts, 32),
    ("resnet_small", resnet_small, random_images, 64),
];

/// Makes a batch of so many samples, with their labels.
type Batches = fn(usize) -> kiln::Result<(Tensor, Tensor)>;

/// 784-1024-512-10, dropped little early and much late.
fn variable_dropout(p: &Scope) -> Box<dyn Module> {
    Box::new(VariableDropoutNet::new(p))
}

/// Two convolutions of colour images of 32x32 pixels, each with ReLU and pooling, then 8192-512-10.
fn cnn(p: &Scope) -> Box<dyn Module> {
    Box::new(Cnn::new(p, CLASSES))
}

/// Embedding of 128, two layers of LSTM with 256 units.
fn rnn(p: &Scope) -> Box<dyn Module> {
    Box::new(RnnClassifier::new(p, WORDS, 128, 256, CLASSES, 0.5))
}

/// ResNet-20 on colour images of 32x32 pixels.
fn resnet_small(p: &Scope) -> Box<dyn Module> {
    Box::new(ResnetSmall::new(p, CLASSES, ResnetSmall::RATE))
}

fn random_images(batch: usize) -> kiln::Result<(Tensor, Tensor)> {
    let (_, labels) = common::random_batch(batch)?;
    let shape = [batch, 3, 32, 32];
    Ok((Tensor::new(shape, common::random_values(shape.iter().product()))?, labels))
}

/// Words in an order without a pattern that matters.
fn random_texts(batch: usize) -> kiln::Result<(Tensor, Tensor)> {
    let (_, labels) = common::random_batch(batch)?;
    let words = (0..batch * LENGTH).map(|word| (word * 7919 % WORDS) as i32);
    Ok((Tensor::labels([batch, LENGTH], words.collect())?, labels))
}

fn main() -> kiln::Result<()> {
    let mut criterion = common::criterion(SAMPLES, Peaks::default());
    for (name, network, batches, batch) in SUBJECTS {
        for threads in common::thread_counts() {
            let mut group = criterion.benchmark_group(format!("{name}/{batch}/{threads}"));
            group.throughput(Throughput::Elements(batch as u64));
            let subject = Subject { network, batch: batches(batch)?, threads };
            subject.train(&mut group)?;
            subject.eval(&mut group)?;
            group.finish();
        }
    }
    criterion.final_summary();
    Ok(())
}

/// A network with everything that is held while it is measured.
struct Subject {
    network: Network,
    batch: (Tensor, Tensor),
    threads: NonZeroUsize,
}

type Group<'a> = BenchmarkGroup<'a, Rates>;

impl Subject {
    fn train(&self, group: &mut Group<'_>) -> kiln::Result<()> {
        let optimizers: [(&str, Optimizer); 2] =
            [("sgd", Sgd::new(0.01).momentum(0.9).into()), ("adam", Adam::new(1e-3).into())];
        let (x, labels) = &self.batch;
        for (rule, optimizer) in optimizers {
            let mut trainer = common::trainer(self.network, optimizer, self.threads)?;
            trainer.step(x, labels)?; // compiles the plan
            group.bench_function(format!("train {rule}"), |bencher| {
                bencher.iter(|| trainer.step(x, labels).expect("the first step succeeded"));
            });
        }
        Ok(())
    }

    fn eval(&self, group: &mut Group<'_>) -> kiln::Result<()> {
        let (x, _) = &self.batch;
        let mut net = common::net(self.network, self.threads)?;
        net.eval().forward(x)?; // compiles the plan
        group.bench_function("eval", |bencher| {
            bencher.iter(|| net.eval().forward(x).expect("the first pass succeeded"));
        });
        Ok(())
    }
}
