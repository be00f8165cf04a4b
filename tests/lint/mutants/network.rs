// SPDX-License-Identifier: MIT OR Apache-2.0
//! Mutants of D6.

use kiln::lint::{check, Case, Code, Report, Severity, Use};
use kiln::models::{Cnn, RnnClassifier, SimpleNet};
use kiln::nn::{BatchNorm, Conv2d, Dropout2d, Gru, Lstm, Module, RecurrentOptions};
use kiln::op::TensorType;
use kiln::{Mode, Var};

use super::{mutant, Mutant};
use crate::blocks::{dropout, linear, means};
use crate::{batch, classifier, found, found_in, make, tokens, Function};

pub(super) fn mutants() -> Vec<Mutant> {
    use Code::{MonteCarloWithoutDropout, NoEffect, RandomInEval, SmallNetwork};
    use Severity::{Deny, Note, Warn};
    vec![
        mutant(SmallNetwork, Warn, "10-20-20-2", || simple([10, 20, 2], 0.5)),
        mutant(SmallNetwork, Note, "20-48-48-3", || simple([20, 40, 3], 0.5)),
        mutant(SmallNetwork, Warn, "four features", || {
            classifier(batch(&[784]), |p| {
                let layers =
                    [linear(p, "a", 784, 128), linear(p, "b", 128, 4), linear(p, "c", 4, 10)];
                let drop = dropout(p, "drop", 0.5);
                move |x: &Var| {
                    let x = layers[1].forward(&layers[0].forward(x).relu()).relu();
                    layers[2].forward(&drop.forward(&x))
                }
            })
        }),
        mutant(SmallNetwork, Warn, "six maps", || {
            classifier(batch(&[3, 16, 16]), |p| {
                let (a, b) =
                    (Conv2d::new(&p.at("a"), 3, 6, [3, 3]), Conv2d::new(&p.at("b"), 6, 64, [5, 5]));
                let (drop, fc) = (Dropout2d::new(&p.at("drop"), 0.2), linear(p, "fc", 64, 10));
                move |x: &Var| {
                    let x = b.forward(&drop.forward(&a.forward(x).relu())).relu();
                    fc.forward(&means(&x))
                }
            })
        }),
        mutant(NoEffect, Note, "rate 0", || simple([784, 128, 10], 0.0)),
        mutant(NoEffect, Note, "rate 0 of maps", || {
            classifier(batch(&[3, 32, 32]), |p| {
                let net = Cnn::with_rates(p, 10, [0.0, 0.5]);
                move |x: &Var| net.forward(x)
            })
        }),
        mutant(NoEffect, Warn, "an LSTM of one layer", || {
            found(batch(&[20, 64]), |p| {
                let lstm = Lstm::with_options(&p.at("lstm"), 64, 128, one_layer());
                move |x: &Var| lstm.forward(x)
            })
        }),
        mutant(NoEffect, Warn, "a GRU of one layer", || {
            found(batch(&[20, 64]), |p| {
                let gru = Gru::with_options(&p.at("gru"), 64, 128, one_layer());
                move |x: &Var| gru.forward(x)
            })
        }),
        mutant(MonteCarloWithoutDropout, Deny, "nothing is dropped", || {
            found_in(&monte_carlo(), batch(&[784]), |p| {
                let (a, b) = (linear(p, "a", 784, 128), linear(p, "b", 128, 10));
                move |x: &Var| b.forward(&a.forward(x).relu())
            })
        }),
        mutant(MonteCarloWithoutDropout, Deny, "rate 0", || {
            found_in(&monte_carlo(), batch(&[784]), |p| {
                let net = SimpleNet::new(p, 784, 128, 10, 0.0);
                move |x: &Var| net.forward(x)
            })
        }),
        mutant(MonteCarloWithoutDropout, Deny, "an LSTM of one layer", || {
            found_in(&monte_carlo(), batch(&[20, 64]), |p| {
                let lstm = Lstm::with_options(&p.at("lstm"), 64, 128, one_layer());
                move |x: &Var| lstm.forward(x)
            })
        }),
        mutant(RandomInEval, Deny, "dropout of features", || {
            as_if_in_eval(batch(&[784]), |p| SimpleNet::new(p, 784, 128, 10, 0.5))
        }),
        mutant(RandomInEval, Deny, "dropout between recurrent layers", || {
            as_if_in_eval(tokens(20), |p| {
                let net = RnnClassifier::new(p, 100, 64, 64, 4, 0.3);
                Function(move |x: &Var| net.forward(x))
            })
        }),
        mutant(RandomInEval, Deny, "dropout of maps", || {
            as_if_in_eval(batch(&[8, 4, 4]), |p| Dropout2d::new(p, 0.2))
        }),
        mutant(RandomInEval, Deny, "running statistics", || {
            as_if_in_eval(batch(&[8, 4, 4]), |p| BatchNorm::new(p, 8))
        }),
    ]
}

fn simple([inputs, hidden, classes]: [usize; 3], rate: f32) -> Report {
    classifier(batch(&[inputs]), |p| {
        let net = SimpleNet::new(p, inputs, hidden, classes, rate);
        move |x: &Var| net.forward(x)
    })
}

fn one_layer() -> RecurrentOptions {
    RecurrentOptions { dropout: 0.5, ..RecurrentOptions::default() }
}

fn monte_carlo() -> Case {
    Case { used: Use::MonteCarlo, ..Case::default() }
}

/// Looks at what a network does in train mode as if it did that in eval mode.
fn as_if_in_eval<M: Module>(x: TensorType, of: impl FnOnce(&kiln::nn::Scope) -> M) -> Report {
    let mut net = make(of);
    let graph = net.plan(Mode::Train, &[x]).expect("a plan").graph.clone();
    check(&graph, &graph, &Case::default())
}
