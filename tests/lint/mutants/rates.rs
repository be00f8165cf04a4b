// SPDX-License-Identifier: MIT OR Apache-2.0
//! Mutants of D1.

use kiln::lint::{Code, Report, Severity};
use kiln::models::{Cnn, ResidualNet, SimpleNet, SpatialDropoutCnn};
use kiln::nn::{Embedding, Gru, Lstm, Module, RecurrentOptions};
use kiln::Var;

use super::{mutant, Mutant};
use crate::blocks::{dropout, linear, Block, Normed};
use crate::{batch, classifier, found, tokens};

const WORDS: usize = 1000;

pub(super) fn mutants() -> Vec<Mutant> {
    use Code::{RateForLayer, RateHigh, RateInBranch, RateLow, RatesFall};
    use Severity::{Deny, Note, Warn};
    vec![
        mutant(RateHigh, Warn, "0.8 of hidden layers", || simple(0.8)),
        mutant(RateHigh, Deny, "all of hidden layers", || simple(1.0)),
        mutant(RateHigh, Note, "0.6 of an early layer", || dense([0.6, 0.6])),
        mutant(RateHigh, Note, "0.65 of the last layer", || dense([0.5, 0.65])),
        mutant(RateHigh, Warn, "0.9 of feature maps", || cnn([0.9, 0.5])),
        mutant(RateHigh, Warn, "0.75 between recurrent layers", || recurrent(0.75)),
        mutant(RateLow, Note, "0.1 of hidden layers", || simple(0.1)),
        mutant(RateLow, Note, "0.05 of feature maps", || cnn([0.05, 0.5])),
        mutant(RateLow, Note, "0.1 between recurrent layers", || recurrent(0.1)),
        mutant(RateForLayer, Note, "half of feature maps", || cnn([0.5, 0.5])),
        mutant(RateForLayer, Warn, "0.6 of feature maps", || spatial(0.6)),
        mutant(RateForLayer, Note, "half between recurrent layers", || recurrent(0.5)),
        mutant(RateForLayer, Note, "half of embeddings", || embedding([0.5, 0.5])),
        mutant(RateForLayer, Note, "0.4 of what a GRU yields", gru),
        mutant(RateInBranch, Note, "0.3 in a residual block", || residual(0.3)),
        mutant(RateInBranch, Warn, "0.6 in a residual block", || residual(0.6)),
        mutant(RateInBranch, Note, "0.4 in a Transformer", || transformer(0.4)),
        mutant(RatesFall, Note, "0.5 and then 0.2", || dense([0.5, 0.2])),
        mutant(RatesFall, Note, "half of maps and then 0.2 of features", || cnn([0.5, 0.2])),
        mutant(RatesFall, Note, "more of embeddings than of hidden layers", || {
            embedding([0.5, 0.2])
        }),
    ]
}

fn simple(rate: f32) -> Report {
    classifier(batch(&[784]), |p| {
        let net = SimpleNet::new(p, 784, 512, 10, rate);
        move |x: &Var| net.forward(x)
    })
}

fn dense(rates: [f32; 2]) -> Report {
    classifier(batch(&[784]), |p| {
        let layers = [linear(p, "a", 784, 256), linear(p, "b", 256, 128), linear(p, "c", 128, 10)];
        let drops = [dropout(p, "d1", rates[0]), dropout(p, "d2", rates[1])];
        move |x: &Var| {
            let x = drops[0].forward(&layers[0].forward(x).relu());
            layers[2].forward(&drops[1].forward(&layers[1].forward(&x).relu()))
        }
    })
}

fn cnn(rates: [f32; 2]) -> Report {
    classifier(batch(&[3, 32, 32]), |p| {
        let net = Cnn::with_rates(p, 10, rates);
        move |x: &Var| net.forward(x)
    })
}

fn spatial(rate: f32) -> Report {
    found(batch(&[3, 16, 16]), |p| {
        let net = SpatialDropoutCnn::new(p, rate);
        move |x: &Var| net.forward(x)
    })
}

fn residual(rate: f32) -> Report {
    classifier(batch(&[3, 32, 32]), |p| {
        let net = ResidualNet::new(p, 10, rate);
        move |x: &Var| net.forward(x)
    })
}

fn recurrent(rate: f32) -> Report {
    classifier(tokens(20), |p| {
        let embedding = Embedding::new(&p.at("embedding"), WORDS, 64);
        let options = RecurrentOptions { layers: 2, dropout: rate, ..RecurrentOptions::default() };
        let lstm = Lstm::with_options(&p.at("lstm"), 64, 128, options);
        let fc = linear(p, "fc", 128, 10);
        move |x: &Var| fc.forward(lstm.run(&embedding.forward(x)).last_hidden())
    })
}

fn embedding([early, late]: [f32; 2]) -> Report {
    classifier(tokens(20), |p| {
        let embedding = Embedding::new(&p.at("embedding"), WORDS, 64);
        let lstm = Lstm::new(&p.at("lstm"), 64, 128);
        let drops = [dropout(p, "early", early), dropout(p, "late", late)];
        let fc = linear(p, "fc", 128, 10);
        move |x: &Var| {
            let ran = lstm.run(&drops[0].forward(&embedding.forward(x)));
            fc.forward(&drops[1].forward(ran.last_hidden()))
        }
    })
}

fn gru() -> Report {
    found(tokens(20), |p| {
        let embedding = Embedding::new(&p.at("embedding"), WORDS, 64);
        let gru = Gru::new(&p.at("gru"), 64, 128);
        let (drop, fc) = (dropout(p, "drop", 0.4), linear(p, "fc", 128, 10));
        move |x: &Var| fc.forward(&drop.forward(&gru.forward(&embedding.forward(x))))
    })
}

fn transformer(rate: f32) -> Report {
    found(tokens(16), |p| {
        let embedding = Embedding::new(&p.at("embedding"), WORDS, 64);
        let block = Block::new(p, "block", 64, rate, Normed::Before);
        let fc = linear(p, "fc", 64, 10);
        move |x: &Var| fc.forward(&block.forward(&embedding.forward(x)))
    })
}
