// SPDX-License-Identifier: MIT OR Apache-2.0
//! Options of recurrent layers, once each.

use kiln::nn::{
    Between, Directions, GateNorm, Gru, LockedDropout, Lstm, Nonlinearity, RecurrentOptions, Rnn,
};

use super::zoo::Build;

/// Layers whose states move in eval mode by a part of the way, so that it is not train mode without dropout.
pub(crate) const ZONED: [&str; 2] = ["lstm_zoneout", "rnn_zoneout"];

/// Layers that make one step after the other if they drop, and else all steps in one operation.
pub(crate) const STEPPED: [&str; 2] = ["lstm_recurrent_dropout", "gru_recurrent_dropout"];

/// Layers that normalise what follows from a state that begins at 0: its small deviation divides.
pub(crate) const AMPLIFIED: [&str; 1] = ["lstm_norm"];

/// Layers that draw masks of weights, which samples share.
pub(crate) const OF_WEIGHTS: [&str; 1] = ["gru_weight_dropout"];

/// Adds each with the shapes of its inputs.
pub(crate) fn add_to(add: &mut impl FnMut(&'static str, &[&[usize]], Build)) {
    let sequences: &[&[usize]] = &[&[1, 1, 1], &[3, 5, 7], &[13, 3, 33]];
    let one: &[&[usize]] = &[&[5, 4, 7]];
    add("locked_dropout", sequences, |p, _, rate| {
        Box::new(LockedDropout::new(&p.at("locked"), rate))
    });
    add("lstm_locked", one, |p, x, rate| {
        let (directions, between) = (Directions::Both, Between::Locked);
        let options = RecurrentOptions {
            layers: 2,
            directions,
            dropout: rate,
            between,
            input_dropout: rate,
            output_dropout: rate,
            ..RecurrentOptions::default()
        };
        Box::new(Lstm::projected(p, x[2], 9, 4, options))
    });
    add("gru_weight_dropout", one, |p, x, rate| {
        let options =
            RecurrentOptions { layers: 2, weight_dropout: rate, ..RecurrentOptions::default() };
        Box::new(Gru::with_options(p, x[2], 9, options))
    });
    add("lstm_recurrent_dropout", one, |p, x, rate| {
        let options = RecurrentOptions {
            directions: Directions::Both,
            recurrent_dropout: rate,
            ..RecurrentOptions::default()
        };
        Box::new(Lstm::with_options(p, x[2], 9, options))
    });
    add("gru_recurrent_dropout", one, |p, x, rate| {
        let options = RecurrentOptions { recurrent_dropout: rate, ..RecurrentOptions::default() };
        Box::new(Gru::with_options(p, x[2], 9, options))
    });
    add("lstm_norm", one, |p, x, rate| {
        let norm = GateNorm::Layer;
        let options =
            RecurrentOptions { layers: 2, dropout: rate, norm, ..RecurrentOptions::default() };
        // Units are not projected: of few states dropout may drop all, and a deviation of 0 would divide.
        Box::new(Lstm::with_options(p, x[2], 16, options))
    });
    add("lstm_zoneout", one, |p, x, rate| {
        let options =
            RecurrentOptions { zoneout: rate, cell_zoneout: 0.25, ..RecurrentOptions::default() };
        Box::new(Lstm::with_options(p, x[2], 9, options))
    });
    add("rnn_zoneout", one, |p, x, rate| {
        let directions = Directions::Both;
        let options = RecurrentOptions { directions, zoneout: rate, ..RecurrentOptions::default() };
        Box::new(Rnn::with_options(p, x[2], 9, Nonlinearity::Tanh, options))
    });
}
