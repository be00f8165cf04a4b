// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is compared, and the ratios that kiln holds itself to.

use std::num::NonZeroUsize;

use super::peer::Torch;

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
    /// Dropout with p = 0.5, forward and backward.
    Dropout(Alone),
    /// 32 draws of a network of 784-2048-2048-10 with dropout before the last layer, of 64 samples.
    MonteCarlo,
}

/// What takes turns with kiln.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rival {
    Torch(Torch),
    /// kiln itself, with a pass in train mode for each draw.
    SinglePasses,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Network {
    Simple,
    VariableDropout,
    /// The article's convolutional network, on colour images.
    Cnn,
    /// A residual block of 64 channels, on feature maps; its loss is the mean of squares.
    ResidualBlock,
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
    Case { name: "drop16m", work: Work::Dropout(Alone::Elements), bars: &[18.0, 22.0] },
    Case { name: "drop2d", work: Work::Dropout(Alone::Channels), bars: &[3.0, 3.5] },
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
            Rival::Torch(Torch::Fused | Torch::Best) => None,
            Rival::SinglePasses => Some(SINGLE_PASSES),
        }
    }

    /// What kiln is compared with: a fused optimiser makes no difference where there is none, and the
    /// order of channels none where there are no images.
    pub(super) fn rivals(&self) -> &'static [Rival] {
        const EAGER: Rival = Rival::Torch(Torch::Eager);
        const FUSED: Rival = Rival::Torch(Torch::Fused);
        const BEST: Rival = Rival::Torch(Torch::Best);
        match self.work {
            Work::Training { network: Network::Cnn | Network::ResidualBlock, .. } => &[EAGER, BEST],
            Work::Training { .. } => &[EAGER, FUSED],
            Work::Dropout(Alone::Elements) => &[EAGER],
            Work::Dropout(Alone::Channels) => &[EAGER, BEST],
            Work::MonteCarlo => &[EAGER, Rival::SinglePasses],
        }
    }
}

impl Rival {
    /// Its name in reports.
    pub(super) fn name(self) -> &'static str {
        match self {
            Rival::Torch(torch) => torch.name(),
            Rival::SinglePasses => "kiln-singles",
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
