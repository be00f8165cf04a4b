// SPDX-License-Identifier: MIT OR Apache-2.0
//! Embeddings with dropout behind them, a launch forward and one back, and biases that have the same gradient: as
//! the CPU computes them.

use kiln::backend::cuda::{work, Architecture, CudaOptions, Walks, WorkItem};
use kiln::loss::CrossEntropy;
use kiln::models::{RnnCell, RnnClassifier};
use kiln::nn::{Dropout, Embedding, EmbeddingOptions, Module, RecurrentOptions, Scope};
use kiln::op::TensorType;
use kiln::optim::Sgd;
use kiln::{Device, Net, Precision, Seed, Tensor, Trainer, Var};

use crate::common::*;

const WORDS: usize = 11;
const PADDING: isize = 3;
const SAMPLES: usize = 6;
const STEPS: usize = 5;

struct Dropped {
    embedding: Embedding,
    dropout: Dropout,
}

impl Dropped {
    fn new(p: &Scope, width: usize) -> Self {
        let options = EmbeddingOptions { padding: Some(PADDING), ..EmbeddingOptions::default() };
        Dropped {
            embedding: Embedding::with_options(&p.at("embedding"), WORDS, width, options),
            dropout: Dropout::new(&p.at("dropout"), 0.4),
        }
    }
}

impl Module for Dropped {
    fn forward(&self, x: &Var) -> Var {
        self.dropout.forward(&self.embedding.forward(x))
    }
}

fn tokens(seed: usize, shape: &[usize]) -> Tensor {
    let count = shape.iter().product();
    let token = |place: usize| ((place * 7 + place / 3 + seed) % WORDS) as i32;
    Tensor::labels(shape, (0..count).map(token).collect()).expect("a token for each place")
}

/// Masks bit for bit, whether rows are whole vectors or not, for samples of one token and of several.
#[test]
fn dropped_embeddings_are_those_of_the_cpu() {
    let driver = driver();
    for (precision, tolerance) in [
        (Precision::F32, 0.0),
        (Precision::Tf32, 0.0),
        (Precision::Bf16, 8e-3),
        (Precision::F16, 1e-3),
    ] {
        for (shape, width) in
            [(&[SAMPLES, STEPS][..], 8), (&[SAMPLES, STEPS], 7), (&[SAMPLES], 24), (&[SAMPLES], 1)]
        {
            let all = [shape, &[width]].concat();
            let run = |device: Device| {
                let make = |p: &Scope| Dropped::new(p, width);
                let device = device.with_precision(precision);
                let mut net = Net::new(device, Seed(7), make).expect("a network");
                let dy = numbers(3, &all[..]);
                net.train().gradients(&tokens(1, shape), &dy).expect("gradients")
            };
            let (got, expected) = (run(gpu()), run(cpu()));
            let case = format!("{precision} {shape:?} {width}");
            let zeros = |tensor: &Tensor| -> Vec<bool> {
                tensor.values().expect("f32").iter().map(|&y| y == 0.0).collect()
            };
            assert_eq!(zeros(&got.output), zeros(&expected.output), "{case}: the mask");
            assert_close(&case, &got.output, &expected.output, tolerance);
            let [(_, got), (_, expected)] =
                [&got, &expected].map(|run| run.parameters.first().expect("the table").clone());
            assert_close(&format!("{case}: the gradient"), &got, &expected, tolerance.max(1e-6));
        }
    }
    driver.assert_clean();
}

type Fit = Trainer<RnnClassifier, (Var, Var)>;

fn classifier(device: Device, cell: RnnCell, micro_batches: usize) -> Fit {
    let options = RecurrentOptions { layers: 2, dropout: 0.3, ..RecurrentOptions::default() };
    let make = |p: &Scope| RnnClassifier::with_cell(p, cell, [WORDS, 12, 16, 4], options);
    let net = Net::new(device, Seed(7), make).expect("a network");
    let fit: kiln::Result<Fit> = Trainer::new(net, CrossEntropy::default(), Sgd::new(0.5));
    fit.expect("a trainer").with_micro_batches(micro_batches).expect("a number of them")
}

fn trained(device: Device, cell: RnnCell, micro_batches: usize) -> Vec<(String, Tensor)> {
    let mut fit = classifier(device, cell, micro_batches);
    let lengths = Tensor::labels([SAMPLES], vec![5, 1, 3, 4, 2, 5]).expect("a length for each");
    for step in 0..3 {
        let x = tokens(step, &[SAMPLES, STEPS]);
        fit.step((&x, &lengths), &labels(step as u64, SAMPLES, 4)).expect("a step");
    }
    let net = fit.net();
    let names: Vec<String> = net.parameter_names().into_iter().map(str::to_owned).collect();
    let read = |name: String| (name.clone(), net.parameter(&name).expect("known by name"));
    names.into_iter().map(read).collect()
}

/// Issued, captured and replayed; also where gradients are added to those of the micro-batch before.
#[test]
fn classifiers_of_texts_follow_the_cpu() {
    let driver = driver();
    for cell in [RnnCell::Lstm, RnnCell::Gru] {
        for micro_batches in [1, 2] {
            for walks in [Walks::Always, Walks::Never] {
                let options = CudaOptions { walks, ..CudaOptions::default() };
                let device = Device::cuda_with(0, options).expect("a device");
                let got = trained(device, cell, micro_batches);
                let expected = trained(cpu(), cell, micro_batches);
                for ((name, got), (_, expected)) in got.iter().zip(&expected) {
                    let case = format!("{cell:?}, {micro_batches} parts, {walks:?}: {name}");
                    assert_close(&case, got, expected, 1e-4);
                }
            }
        }
    }
    driver.assert_clean();
}

/// Dropout behind the embedding is no launch of its own, neither forward nor back, and all weight gradients are one
/// with all sums of biases.
#[test]
fn neither_dropout_of_embeddings_nor_biases_take_a_launch() {
    let device = Device::on_paper(Architecture::SM_90);
    for cell in [RnnCell::Lstm, RnnCell::Gru] {
        let mut fit = classifier(device.clone(), cell, 1);
        let of = |shape: &[usize]| TensorType::i32(shape.into());
        let x = (of(&[SAMPLES, STEPS]), of(&[SAMPLES]));
        let plan = fit.plan(&x, &of(&[SAMPLES])).expect("a plan");
        assert_eq!(plan.totals().mask_bytes, 0);
        let work = work(plan, Architecture::SM_90, Precision::F32).expect("the plan's work");
        let count = |family: &str| {
            let is = |item: &&WorkItem| matches!(item, WorkItem::Launch(launch) if launch.kernel.starts_with(family));
            work.items().filter(is).count()
        };
        assert_eq!(count("take_dropout"), 1, "{cell:?}");
        assert_eq!(count("take_gradient"), 1, "{cell:?}");
        assert_eq!(count("dropout"), 0, "{cell:?}");
        assert_eq!(count("gemm_tn"), 1, "{cell:?}");
        assert_eq!(count("sum"), 0, "{cell:?}");
    }
}
