// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is compared, and the ratios that kiln holds itself to.

use std::num::NonZeroUsize;

use super::peer::Optimiser;

/// One comparison, by the name that the peer knows it under.
#[derive(Debug, PartialEq)]
pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) work: Work,
    /// Smallest ratio of PyTorch eager's time to kiln's, with 1, 2, ... threads.
    bars: &'static [f64],
}

/// What a step does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Work {
    /// Forward, cross-entropy, backward, update.
    Training { network: Network, batch: usize, rule: Rule },
    /// Dropout with p = 0.5 on [`DROPOUT_SHAPE`], forward and backward.
    Dropout,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Network {
    Simple,
    VariableDropout,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Rule {
    /// Learning rate 0.01, momentum 0.9.
    Sgd,
    /// Learning rate 0.001, PyTorch's defaults.
    Adam,
}

/// 16M elements.
pub(super) const DROPOUT_SHAPE: [usize; 2] = [1024, 16384];

/// The bars come from a prototype of the fused step, timed beside PyTorch 2.15 on two AVX-512 cores
/// without AMX, where one core multiplies at 177 GFLOP/s; slower multipliers lower every ratio.
pub(super) const CASES: &[Case] = &[
    training("a64sgd", Network::Simple, 64, Rule::Sgd, &[2.6, 4.2]),
    training("a64adam", Network::Simple, 64, Rule::Adam, &[3.2, 5.0]),
    training("a256sgd", Network::Simple, 256, Rule::Sgd, &[2.2, 3.3]),
    training("a256adam", Network::Simple, 256, Rule::Adam, &[2.5, 3.8]),
    training("b128adam", Network::VariableDropout, 128, Rule::Adam, &[2.5, 3.6]),
    Case { name: "drop16m", work: Work::Dropout, bars: &[18.0, 22.0] },
];

const fn training(
    name: &'static str,
    network: Network,
    batch: usize,
    rule: Rule,
    bars: &'static [f64],
) -> Case {
    Case { name, work: Work::Training { network, batch, rule }, bars }
}

impl Case {
    /// The case of this name.
    pub(super) fn parse(name: &str) -> Result<&'static Case, String> {
        CASES.iter().find(|case| case.name == name).ok_or_else(|| {
            let names: Vec<&str> = CASES.iter().map(|case| case.name).collect();
            format!("expected one of {}", names.join(", "))
        })
    }

    /// The smallest ratio to PyTorch eager that is good enough.
    pub(super) fn bar(&self, threads: NonZeroUsize) -> Option<f64> {
        self.bars.get(threads.get() - 1).copied()
    }

    /// What kiln is compared with: a fused optimiser makes no difference where there is none.
    pub(super) fn rivals(&self) -> &'static [Optimiser] {
        match self.work {
            Work::Training { .. } => &[Optimiser::Eager, Optimiser::Fused],
            Work::Dropout => &[Optimiser::Eager],
        }
    }
}
