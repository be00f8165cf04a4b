// SPDX-License-Identifier: MIT OR Apache-2.0
//! Recurrent layers whose steps are all made by one launch, against the CPU: what the verdict allows has to be
//! part of it.

use super::{by_reference, difference, largest, numbers, tolerance, Check};
use crate::backend::cuda::Walks;
use crate::graph::Var;
use crate::nn::{
    Directions, Gru, Lstm, Module, Nonlinearity, RecurrentOptions, Rnn, Scope, Sequences,
};
use crate::{Device, Net, Result, Seed, Tensor};

/// Rounding grows from step to step.
const TOLERANCE: f32 = 1e-4;
const SAMPLES: usize = 19;
const STEPS: usize = 6;
const FEATURES: usize = 12;

/// An LSTM in both directions of two layers with dropout between them, a GRU, and a layer of tanh, on
/// sequences of several lengths. Units come in whole blocks.
struct Walked {
    lstm: Lstm,
    gru: Gru,
    tanh: Rnn,
}

impl Walked {
    fn new(p: &Scope) -> Self {
        let one = RecurrentOptions::default();
        let both = Directions::Both;
        let two = RecurrentOptions { layers: 2, dropout: 0.3, directions: both, ..one };
        Walked {
            lstm: Lstm::with_options(&p.at("lstm"), FEATURES, 24, two),
            gru: Gru::with_options(&p.at("gru"), 48, 136, one),
            tanh: Rnn::with_options(&p.at("tanh"), 136, 16, Nonlinearity::Tanh, one),
        }
    }
}

impl Module<(Var, Var)> for Walked {
    fn forward(&self, (x, lengths): &(Var, Var)) -> Var {
        let read = self.lstm.run(Sequences::new(x).with_lengths(lengths));
        let told = self.gru.run(Sequences::new(&read.output).with_lengths(lengths));
        self.tanh.run(Sequences::new(&told.output).with_lengths(lengths)).output
    }
}

pub(super) fn compare(device: &Device) -> Result<Check> {
    let lengths = (0..SAMPLES).map(|sample| (1 + sample * 5 % STEPS) as i32).collect();
    let lengths = Tensor::labels([SAMPLES], lengths)?;
    let x = numbers(8, [SAMPLES, STEPS, FEATURES])?;
    let dy = numbers(9, [SAMPLES, STEPS, 16])?;
    let run = |device: Device| -> Result<Vec<Tensor>> {
        let mut net = Net::new(device, Seed(13), Walked::new)?;
        let gradients = net.train().gradients((&x, &lengths), &dy)?;
        let mut all = vec![gradients.output];
        all.extend(gradients.parameters.into_iter().map(|(_, gradient)| gradient));
        Ok(all)
    };
    let got = run(device.clone().with_walks(Walks::Always))?;
    let reference = by_reference(device, run)?;
    let mut worst = 0.0;
    for (got, reference) in got.iter().zip(&reference) {
        worst = largest(worst, difference(got, reference)?);
    }
    let what = "recurrent layers, all steps in one launch".into();
    Ok(Check { what, worst, tolerance: tolerance(device, TOLERANCE) })
}
