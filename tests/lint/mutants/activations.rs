// SPDX-License-Identifier: MIT OR Apache-2.0
//! Mutants of D4.

use kiln::lint::{Code, Report, Severity};
use kiln::loss::{BceWithLogits, CrossEntropy};
use kiln::nn::{Linear, LogSoftmax, Module, Relu, Sequential, Sigmoid, Softmax};
use kiln::op::TensorType;
use kiln::Var;

use super::{mutant, Mutant};
use crate::blocks::{bare, conv, dropout, linear, means, norm};
use crate::{batch, classifier, found, make, trained, BATCH};

pub(super) fn mutants() -> Vec<Mutant> {
    use Code::{DoubledActivation, MissingActivation, SoftmaxBeforeLoss};
    use Severity::{Note, Warn};
    vec![
        mutant(SoftmaxBeforeLoss, Warn, "softmax", || scores(Softmax)),
        mutant(SoftmaxBeforeLoss, Warn, "sigmoid before cross-entropy", || scores(Sigmoid)),
        mutant(SoftmaxBeforeLoss, Note, "log_softmax", || scores(LogSoftmax)),
        mutant(SoftmaxBeforeLoss, Warn, "sigmoid before BCE with logits", || {
            let net =
                make(|p| Sequential::new(p).with(|p| Linear::new(p, 500, 30)).with(|_| Sigmoid));
            trained(net, BceWithLogits::default(), &batch(&[500]), &batch(&[30]))
        }),
        mutant(MissingActivation, Warn, "two linear layers", || dense(|x, _| x.clone())),
        mutant(MissingActivation, Warn, "only dropout between", || {
            dense(|x, drop| drop.forward(x))
        }),
        mutant(MissingActivation, Warn, "two convolutions", || {
            classifier(batch(&[3, 16, 16]), |p| {
                let (a, b) = (conv(p, "a", 3, 32, 3), conv(p, "b", 32, 64, 3));
                let fc = linear(p, "fc", 64, 10);
                move |x: &Var| fc.forward(&means(&b.forward(&a.forward(x)).relu()))
            })
        }),
        mutant(MissingActivation, Warn, "from maps to the classifier", || {
            classifier(batch(&[3, 16, 16]), |p| {
                let (a, fc) = (conv(p, "a", 3, 32, 3), linear(p, "fc", 32, 10));
                move |x: &Var| fc.forward(&means(&a.forward(x)))
            })
        }),
        mutant(MissingActivation, Note, "only batch norm between", || {
            classifier(batch(&[3, 16, 16]), |p| {
                let (a, b) = (bare(p, "a", 3, 32, 3), conv(p, "b", 32, 32, 3));
                let (bn, fc) = (norm(p, "bn", 32), linear(p, "fc", 32, 10));
                move |x: &Var| fc.forward(&means(&b.forward(&bn.forward(&a.forward(x))).relu()))
            })
        }),
        mutant(DoubledActivation, Warn, "ReLU twice", || dense(|x, _| x.relu().relu())),
        mutant(DoubledActivation, Warn, "ReLU on both sides of dropout", || {
            dense(|x, drop| drop.forward(&x.relu()).relu())
        }),
        mutant(DoubledActivation, Warn, "sigmoid and tanh", || dense(|x, _| x.sigmoid().tanh())),
        mutant(DoubledActivation, Warn, "scores cut off at 0", || scores(Relu)),
        mutant(DoubledActivation, Warn, "softmax of what ReLU has left", || {
            found(batch(&[784]), |p| {
                let fc = linear(p, "fc", 784, 10);
                move |x: &Var| fc.forward(x).relu().softmax()
            })
        }),
    ]
}

/// A classifier that ends with a function.
fn scores(end: impl Module + 'static) -> Report {
    let net = make(|p| {
        Sequential::new(p)
            .with(|p| Linear::new(p, 784, 128))
            .with(|_| Relu)
            .with(|p| Linear::new(p, 128, 10))
            .with(|_| end)
    });
    trained(net, CrossEntropy::default(), &batch(&[784]), &TensorType::i32([BATCH].into()))
}

/// Two linear layers with something between; the first does not narrow.
fn dense(between: fn(&Var, &kiln::nn::Dropout) -> Var) -> Report {
    classifier(batch(&[100]), |p| {
        let (a, b) = (linear(p, "a", 100, 256), linear(p, "b", 256, 10));
        let drop = dropout(p, "drop", 0.5);
        move |x: &Var| b.forward(&between(&a.forward(x), &drop))
    })
}
