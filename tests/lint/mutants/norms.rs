// SPDX-License-Identifier: MIT OR Apache-2.0
//! Mutants of D3.

use kiln::lint::{Batches, Case, Code, LastBatch, Report, Severity};
use kiln::models::ResidualBlock;
use kiln::nn::{BatchNorm, Bias, Conv1d, Linear, Module};
use kiln::Var;

use super::{mutant, Mutant};
use crate::blocks::{bare, conv, dropout, linear, means, norm};
use crate::{batch, classifier, found, found_in};

pub(super) fn mutants() -> Vec<Mutant> {
    use Code::{BatchOfOne, BiasBeforeBatchNorm, DropoutWithBatchNorm};
    use Severity::{Deny, Note, Warn};
    vec![
        mutant(DropoutWithBatchNorm, Warn, "right before", || dense(0.5, Order::DropoutNorm)),
        mutant(DropoutWithBatchNorm, Note, "behind", || dense(0.5, Order::NormDropout)),
        mutant(DropoutWithBatchNorm, Note, "maps, a layer before", || images(0.3)),
        mutant(DropoutWithBatchNorm, Warn, "most maps, a layer before", || images(0.6)),
        mutant(DropoutWithBatchNorm, Warn, "before batch norm and ReLU", || {
            classifier(batch(&[3, 16, 16]), |p| {
                let (a, drop) = (bare(p, "a", 3, 32, 3), dropout(p, "drop", 0.2));
                let (bn, fc) = (norm(p, "bn", 32), linear(p, "fc", 32, 10));
                move |x: &Var| fc.forward(&means(&bn.forward(&drop.forward(&a.forward(x))).relu()))
            })
        }),
        mutant(BiasBeforeBatchNorm, Note, "of a linear layer", || dense(0.5, Order::NormDropout)),
        mutant(BiasBeforeBatchNorm, Note, "of convolutions", || {
            found(batch(&[32, 8, 8]), |p| {
                let block = ResidualBlock::new(p, 32, 0.1);
                move |x: &Var| block.forward(x)
            })
        }),
        mutant(BiasBeforeBatchNorm, Note, "on a line", || {
            found(batch(&[8, 100]), |p| {
                let (a, bn) = (Conv1d::new(&p.at("a"), 8, 32, [5]), norm(p, "bn", 32));
                let b = Conv1d::new(&p.at("b"), 32, 4, [5]);
                move |x: &Var| b.forward(&bn.forward(&a.forward(x)).relu())
            })
        }),
        mutant(BatchOfOne, Deny, "one sample is left", || one_is_left(65, 64)),
        mutant(BatchOfOne, Deny, "batches of one", || one_is_left(100, 1)),
        mutant(BatchOfOne, Warn, "one image is left", || {
            found_in(&case(129, 32), batch(&[3, 16, 16]), |p| {
                let (a, bn) = (bare(p, "a", 3, 32, 3), norm(p, "bn", 32));
                let fc = linear(p, "fc", 32, 10);
                move |x: &Var| fc.forward(&means(&bn.forward(&a.forward(x)).relu()))
            })
        }),
    ]
}

/// In which order two layers stand behind an activation function.
#[derive(Clone, Copy)]
enum Order {
    DropoutNorm,
    NormDropout,
}

fn dense(rate: f32, order: Order) -> Report {
    classifier(batch(&[784]), |p| {
        let (a, bn) = (linear(p, "a", 784, 128), norm(p, "bn", 128));
        let (drop, b) = (dropout(p, "drop", rate), linear(p, "b", 128, 10));
        move |x: &Var| {
            let x = a.forward(x);
            b.forward(&match order {
                Order::DropoutNorm => bn.forward(&drop.forward(&x.relu())),
                Order::NormDropout => drop.forward(&bn.forward(&x).relu()),
            })
        }
    })
}

fn images(rate: f32) -> Report {
    classifier(batch(&[3, 16, 16]), |p| {
        let (a, b) = (conv(p, "a", 3, 32, 3), bare(p, "b", 32, 32, 3));
        let drop = kiln::nn::Dropout2d::new(&p.at("drop"), rate);
        let (bn, fc) = (norm(p, "bn", 32), linear(p, "fc", 32, 10));
        move |x: &Var| {
            let x = b.forward(&drop.forward(&a.forward(x).relu()));
            fc.forward(&means(&bn.forward(&x).relu()))
        }
    })
}

fn case(samples: usize, batch: usize) -> Case {
    let batches = Some(Batches { samples, batch, last: LastBatch::Kept });
    Case { batches, ..Case::default() }
}

fn one_is_left(samples: usize, of: usize) -> Report {
    found_in(&case(samples, of), batch(&[784]), |p| {
        let a = Linear::with_bias(&p.at("a"), 784, 128, Bias::Absent);
        let (bn, b) = (BatchNorm::new(&p.at("bn"), 128), linear(p, "b", 128, 10));
        move |x: &Var| b.forward(&bn.forward(&a.forward(x)).relu())
    })
}
