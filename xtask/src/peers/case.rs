// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is compared, and the ratios that kiln holds itself to.

use std::num::NonZeroUsize;

use super::monte_carlo::BATCH as MONTE_CARLO_BATCH;
use super::peer::Torch;
use super::program::Library;
use super::workload::Loading;

/// One comparison, by the name that the peer knows it under.
#[derive(Debug, PartialEq)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) work: Work,
    /// Smallest ratio of PyTorch eager's time to kiln's, with 1, 2, ... threads.
    bars: &'static [f64],
}

/// What a step does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Work {
    /// Forward, loss, backward, update.
    Training { network: Network, batch: usize, rule: Rule },
    /// Forward in eval mode.
    Eval { network: Network, batch: usize },
    /// Dropout with p = 0.5, forward and backward.
    Dropout(Alone),
    /// A batch of colour images, cropped and mirrored at random.
    Loading,
    /// 32 draws of a network of 784-2048-2048-10 with dropout before the last layer, of 64 samples.
    MonteCarlo,
}

/// What takes turns with kiln.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rival {
    Torch(Torch),
    Burn,
    Candle,
    /// kiln itself, with a pass in train mode for each draw.
    SinglePasses,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Network {
    Simple,
    VariableDropout,
    /// The article's convolutional network, on colour images.
    Cnn,
    /// Two convolutions with dropout of feature maps between them; its loss is the mean of squares.
    SpatialCnn,
    /// A residual block of 64 channels, on feature maps; its loss is the mean of squares.
    ResidualBlock,
    /// Twenty layers, on colour images.
    ResnetSmall,
    /// The article's recurrent network, on texts.
    RnnClassifier,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Rule {
    /// Learning rate 0.01, momentum 0.9.
    Sgd,
    /// Learning rate 0.001, PyTorch's defaults.
    Adam,
}

/// What is dropped where dropout is all there is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Alone {
    /// Of 16M elements.
    Elements,
    /// Whole feature maps of 64x128x32x32.
    Channels,
}

/// The bars come from a prototype of the fused step, timed beside PyTorch 2.15 on two AVX-512 cores
/// without AMX, where one core multiplies at 177 GFLOP/s; slower multipliers lower every ratio. Those of
/// images and texts come from what prototypes of their kernels reached there. That of draws asks that they
/// are no slower than PyTorch's.
pub(crate) const CASES: &[Case] = &[
    training("a64sgd", Network::Simple, 64, Rule::Sgd, &[2.6, 4.2]),
    training("a64adam", Network::Simple, 64, Rule::Adam, &[3.2, 5.0]),
    training("a256sgd", Network::Simple, 256, Rule::Sgd, &[2.2, 3.3]),
    training("a256adam", Network::Simple, 256, Rule::Adam, &[2.5, 3.8]),
    training("b128adam", Network::VariableDropout, 128, Rule::Adam, &[2.5, 3.6]),
    training("c64sgd", Network::Cnn, 64, Rule::Sgd, &[1.9, 2.2]),
    training("d32adam", Network::RnnClassifier, 32, Rule::Adam, &[1.5, 1.9]),
    training("e32sgd", Network::ResidualBlock, 32, Rule::Sgd, &[1.7, 1.9]),
    training("f64sgd", Network::SpatialCnn, 64, Rule::Sgd, &[]),
    training("g64sgd", Network::ResnetSmall, 64, Rule::Sgd, &[]),
    eval("a1eval", Network::Simple, 1),
    eval("a256eval", Network::Simple, 256),
    eval("b1eval", Network::VariableDropout, 1),
    eval("b256eval", Network::VariableDropout, 256),
    eval("c1eval", Network::Cnn, 1),
    eval("c256eval", Network::Cnn, 256),
    eval("d1eval", Network::RnnClassifier, 1),
    eval("d256eval", Network::RnnClassifier, 256),
    eval("e1eval", Network::ResidualBlock, 1),
    eval("e256eval", Network::ResidualBlock, 256),
    eval("f1eval", Network::SpatialCnn, 1),
    eval("f256eval", Network::SpatialCnn, 256),
    eval("g1eval", Network::ResnetSmall, 1),
    eval("g256eval", Network::ResnetSmall, 256),
    Case { name: "drop16m", work: Work::Dropout(Alone::Elements), bars: &[18.0, 22.0] },
    Case { name: "drop2d", work: Work::Dropout(Alone::Channels), bars: &[3.0, 3.5] },
    Case { name: "load64", work: Work::Loading, bars: &[] },
    Case { name: "mc32", work: Work::MonteCarlo, bars: &[1.0, 1.0] },
];

/// How much longer a pass for each draw has to take than all draws in one run.
const SINGLE_PASSES: f64 = 5.0;

const fn training(
    name: &'static str,
    network: Network,
    batch: usize,
    rule: Rule,
    bars: &'static [f64],
) -> Case {
    Case { name, work: Work::Training { network, batch, rule }, bars }
}

const fn eval(name: &'static str, network: Network, batch: usize) -> Case {
    Case { name, work: Work::Eval { network, batch }, bars: &[] }
}

impl Case {
    /// The case of this name.
    pub(crate) fn parse(name: &str) -> Result<&'static Case, String> {
        CASES.iter().find(|case| case.name == name).ok_or_else(|| {
            let names: Vec<&str> = CASES.iter().map(|case| case.name).collect();
            format!("expected one of {}", names.join(", "))
        })
    }

    /// The smallest ratio to a rival that is good enough; of what PyTorch can be told to do better, none.
    pub(super) fn bar(&self, rival: Rival, threads: NonZeroUsize) -> Option<f64> {
        match rival {
            Rival::Torch(Torch::Eager) => self.bars.get(threads.get() - 1).copied(),
            Rival::Torch(Torch::Best | Torch::Compiled) | Rival::Burn | Rival::Candle => None,
            Rival::SinglePasses => Some(SINGLE_PASSES),
        }
    }

    /// Whether it has bars at all.
    pub(super) fn is_held_to_bars(&self) -> bool {
        !self.bars.is_empty()
    }

    /// What kiln is compared with.
    pub(super) fn rivals(&self) -> &'static [Rival] {
        const EAGER: Rival = Rival::Torch(Torch::Eager);
        const BEST: Rival = Rival::Torch(Torch::Best);
        const COMPILED: Rival = Rival::Torch(Torch::Compiled);
        match self.work {
            Work::Training { .. } | Work::Eval { .. } => {
                &[EAGER, BEST, COMPILED, Rival::Burn, Rival::Candle]
            }
            Work::Dropout(Alone::Elements) => &[EAGER, Rival::Burn, Rival::Candle],
            Work::Dropout(Alone::Channels) => &[EAGER, BEST, Rival::Burn, Rival::Candle],
            // PyTorch's DataLoader at its best has two processes of workers.
            Work::Loading => &[EAGER, BEST],
            Work::MonteCarlo => &[EAGER, Rival::SinglePasses],
        }
    }

    /// Samples that a step handles; elements, of dropout alone.
    pub(super) fn samples(&self) -> usize {
        match self.work {
            Work::Training { batch, .. } | Work::Eval { batch, .. } => batch,
            Work::Dropout(alone) => alone.shape().iter().product(),
            Work::Loading => Loading::BATCH,
            Work::MonteCarlo => MONTE_CARLO_BATCH,
        }
    }
}

impl Rival {
    /// Its name in reports.
    pub(super) fn name(self) -> &'static str {
        match self {
            Rival::Torch(torch) => torch.name(),
            Rival::Burn => "burn",
            Rival::Candle => "candle",
            Rival::SinglePasses => "kiln-singles",
        }
    }

    /// The library that it is, unless it is kiln.
    pub(super) fn library(self) -> Option<Library> {
        match self {
            Rival::Torch(_) => Some(Library::Torch),
            Rival::Burn => Some(Library::Burn),
            Rival::Candle => Some(Library::Candle),
            Rival::SinglePasses => None,
        }
    }

    /// A case by the name that its program knows.
    pub(super) fn case_name(self, case: &Case) -> String {
        match self {
            Rival::Torch(torch) => torch.case_name(case),
            _ => case.name.to_owned(),
        }
    }
}

impl Alone {
    /// Extents of what it is given.
    pub(super) fn shape(self) -> &'static [usize] {
        match self {
            Alone::Elements => &[1024, 16384],
            Alone::Channels => &[64, 128, 32, 32],
        }
    }
}
