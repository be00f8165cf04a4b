// SPDX-License-Identifier: MIT OR Apache-2.0
//! Mutants of D5.

use kiln::lint::{Code, Report, Severity};
use kiln::nn::{
    Directions, Dropout, Embedding, EmbeddingOptions, Gru, Init, Linear, Lstm, Module,
    Nonlinearity, Param, RecurrentOptions, Rnn, Scope,
};
use kiln::Var;

use super::{mutant, Mutant};
use crate::blocks::{dropout, linear};
use crate::{batch, classifier, tokens};

pub(super) fn mutants() -> Vec<Mutant> {
    let padded =
        |name, look: fn() -> Report| mutant(Code::PaddedLastState, Severity::Warn, name, look);
    let zoneout = |name, look: fn() -> Report| {
        mutant(Code::WeightDropoutWithZoneout, Severity::Warn, name, look)
    };
    vec![
        padded("LSTM", || {
            texts(|p| {
                let lstm = Lstm::new(&p.at("lstm"), 64, 128);
                move |x: &Var| lstm.run(x).last_hidden().clone()
            })
        }),
        padded("GRU of two layers", || {
            texts(|p| {
                let options = RecurrentOptions { layers: 2, dropout: 0.2, ..Default::default() };
                let gru = Gru::with_options(&p.at("gru"), 64, 128, options);
                move |x: &Var| gru.run(x).last_hidden().clone()
            })
        }),
        padded("RNN in both directions", || {
            texts(|p| {
                let options =
                    RecurrentOptions { directions: Directions::Both, ..Default::default() };
                let rnn = Rnn::with_options(&p.at("rnn"), 64, 128, Nonlinearity::Tanh, options);
                move |x: &Var| rnn.run(x).last_hidden().clone()
            })
        }),
        padded("the output of the last step", || {
            texts(|p| {
                let lstm = Lstm::new(&p.at("lstm"), 64, 128);
                move |x: &Var| lstm.forward(x).slice(1, 19..).squeeze(1)
            })
        }),
        zoneout("by a difference", || cell(|old, new, drop| old + drop.forward(&(new - old)))),
        zoneout("by a difference that is scaled", || {
            cell(|old, new, drop| drop.forward(&(new - old)).scale(0.5) + old)
        }),
        zoneout("by the options of a layer", || {
            classifier(batch(&[4, 64]), |p| {
                let options = RecurrentOptions {
                    weight_dropout: 0.5,
                    zoneout: 0.1,
                    ..RecurrentOptions::default()
                };
                let lstm = Lstm::with_options(&p.at("lstm"), 64, 128, options);
                let fc = linear(p, "fc", 128, 10);
                move |x: &Var| fc.forward(lstm.run(x).last_hidden())
            })
        }),
        zoneout("by a choice", || {
            cell(|old, new, drop| {
                let mask = drop.forward(&(new * 0.0 + 1.0));
                mask.where_(new, old)
            })
        }),
    ]
}

/// A classifier of texts that are padded.
fn texts<F: Fn(&Var) -> Var + Send + Sync>(of: impl FnOnce(&Scope) -> F) -> Report {
    classifier(tokens(20), |p| {
        let options = EmbeddingOptions { padding: Some(0), ..EmbeddingOptions::default() };
        let embedding = Embedding::with_options(&p.at("embedding"), 1000, 64, options);
        let (own, drop) = (of(p), dropout(p, "drop", 0.5));
        let fc = linear(p, "fc", 128, 10);
        move |x: &Var| fc.forward(&drop.forward(&own(&embedding.forward(x))))
    })
}

/// How a step's old and new state become the next.
type Zoned = fn(&Var, &Var, &Dropout) -> Var;

/// A hand-made recurrent layer whose weights are dropped.
struct Cell {
    input: Linear,
    weight: Param,
    drops: [Dropout; 2],
    zoned: Zoned,
}

impl Module for Cell {
    fn forward(&self, x: &Var) -> Var {
        let weight = self.drops[0].forward(&x.parameter(&self.weight));
        let step = |number: usize| x.slice(1, number..number + 1).squeeze(1);
        let mut state = self.input.forward(&step(0)).tanh();
        for number in 1..4 {
            let input = self.input.forward(&step(number));
            let new = (input + state.matmul_transposed(&weight)).tanh();
            state = (self.zoned)(&state, &new, &self.drops[1]);
        }
        state
    }
}

fn cell(zoned: Zoned) -> Report {
    classifier(batch(&[4, 64]), |p| {
        let cell = Cell {
            input: linear(p, "input", 64, 128),
            weight: p.linear_weight("weight", 128, 128, Init::Ones),
            drops: [dropout(p, "weights", 0.3), dropout(p, "states", 0.1)],
            zoned,
        };
        let fc = linear(p, "fc", 128, 10);
        move |x: &Var| fc.forward(&cell.forward(x))
    })
}
