// SPDX-License-Identifier: MIT OR Apache-2.0
//! The training steps that are timed: every network that comes with kiln, and a wide one.

use kiln::models::{
    Cnn, ResidualBlock, ResidualNet, ResnetSmall, RnnClassifier, SimpleNet, SpatialDropoutCnn,
    VariableDropoutNet,
};
use kiln::nn::{Dropout, Linear, Module, Relu, Scope, Sequential};
use kiln::optim::{Adam, Optimizer, Sgd};
use kiln::{loss, Device, Net, Seed, Tensor, Trainer, Var};

use super::measure::{Noise, Size};
use super::Result;

const CLASSES: usize = 10;
const SEED: Seed = Seed(7);

/// A training step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    /// The network, by the name that peers know.
    pub(crate) name: &'static str,
    pub(crate) batch: usize,
    rule: Rule,
    make: fn(&Scope, Rates) -> Box<dyn Module>,
    /// Extents of a sample.
    sample: &'static [usize],
    given: Given,
    aim: Aim,
    /// Whether others are asked to take turns.
    pub(crate) has_peer: bool,
}

#[derive(Clone, Copy, Debug)]
enum Rule {
    /// Learning rate 0.01, momentum 0.9.
    Sgd,
    /// Learning rate 0.001.
    Adam,
}

/// What the layers of a network drop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rates {
    /// As much as they do in the article.
    Own,
    /// Nothing.
    Zero,
}

/// What a sample is.
#[derive(Clone, Copy, Debug)]
enum Given {
    Numbers,
    /// Tokens of a vocabulary of this many.
    Tokens(usize),
}

/// What training makes small.
#[derive(Clone, Copy, Debug)]
enum Aim {
    /// Cross-entropy of scores.
    Classes,
    /// The mean of the output's squares.
    Squares,
}

const DENSE: Case = Case {
    name: "simple",
    batch: 256,
    rule: Rule::Adam,
    make: |p, rates| Box::new(SimpleNet::new(p, 784, 512, CLASSES, rates.of(0.5))),
    sample: &[784],
    given: Given::Numbers,
    aim: Aim::Classes,
    has_peer: true,
};

const FULL: &[Case] = &[
    Case { batch: 64, ..DENSE },
    DENSE,
    Case { rule: Rule::Sgd, ..DENSE },
    Case { batch: 1024, ..DENSE },
    Case {
        name: "variable",
        batch: 128,
        make: |p, rates| {
            let own = VariableDropoutNet::RATES;
            Box::new(VariableDropoutNet::with_rates(p, own.map(|p| rates.of(p))))
        },
        ..DENSE
    },
    Case {
        name: "cnn",
        batch: 128,
        rule: Rule::Sgd,
        make: |p, rates| Box::new(Cnn::with_rates(p, CLASSES, Cnn::RATES.map(|p| rates.of(p)))),
        sample: &[3, 32, 32],
        ..DENSE
    },
    Case {
        name: "spatial",
        batch: 128,
        rule: Rule::Sgd,
        make: |p, rates| Box::new(SpatialDropoutCnn::new(p, rates.of(SpatialDropoutCnn::RATE))),
        sample: &[3, 32, 32],
        aim: Aim::Squares,
        ..DENSE
    },
    Case {
        name: "residual",
        batch: 64,
        rule: Rule::Sgd,
        make: |p, rates| Box::new(ResidualBlock::new(p, 64, rates.of(ResidualBlock::RATE))),
        sample: &[64, 32, 32],
        aim: Aim::Squares,
        ..DENSE
    },
    Case {
        name: "rnn",
        batch: 64,
        make: |p, rates| Box::new(RnnClassifier::new(p, 10_000, 128, 256, CLASSES, rates.of(0.5))),
        sample: &[64],
        given: Given::Tokens(10_000),
        ..DENSE
    },
    Case {
        name: "residual_net",
        batch: 64,
        rule: Rule::Sgd,
        make: |p, rates| Box::new(ResidualNet::new(p, CLASSES, rates.of(ResidualBlock::RATE))),
        sample: &[3, 32, 32],
        has_peer: false,
        ..DENSE
    },
    Case {
        name: "resnet_small",
        batch: 128,
        rule: Rule::Sgd,
        make: |p, rates| Box::new(ResnetSmall::new(p, CLASSES, rates.of(ResnetSmall::RATE))),
        sample: &[3, 32, 32],
        has_peer: false,
        ..DENSE
    },
    Case {
        name: "mlp4096",
        batch: 4096,
        rule: Rule::Sgd,
        make: |p, rates| mlp(p, 4096, rates),
        sample: &[4096],
        ..DENSE
    },
];

/// One of each kind.
const SMALL: &[Case] = &[
    Case { name: "mlp16", batch: 8, make: |p, rates| mlp(p, 16, rates), sample: &[16], ..DENSE },
    Case {
        name: "residual8",
        batch: 2,
        rule: Rule::Sgd,
        make: |p, rates| Box::new(ResidualBlock::new(p, 8, rates.of(ResidualBlock::RATE))),
        sample: &[8, 6, 6],
        aim: Aim::Squares,
        ..DENSE
    },
    Case {
        name: "rnn8",
        batch: 4,
        make: |p, rates| Box::new(RnnClassifier::new(p, 20, 8, 8, CLASSES, rates.of(0.5))),
        sample: &[3],
        given: Given::Tokens(20),
        ..DENSE
    },
];

/// Two hidden layers as wide as the input.
fn mlp(p: &Scope, width: usize, rates: Rates) -> Box<dyn Module> {
    let rate = rates.of(0.5);
    let layers = Sequential::new(p)
        .with(|p| Linear::new(p, width, width))
        .with(|_| Relu)
        .with(|p| Dropout::new(p, rate));
    let layers = layers.with(|p| Linear::new(p, width, width)).with(|_| Relu);
    Box::new(layers.with(|p| Dropout::new(p, rate)).with(|p| Linear::new(p, width, CLASSES)))
}

/// The training steps of a size.
pub(crate) fn cases(size: Size) -> &'static [Case] {
    match size {
        Size::Full => FULL,
        Size::Small => SMALL,
    }
}

impl Case {
    /// `simple:256:adam`, as peers take it.
    pub(crate) fn id(&self) -> String {
        let rule = match self.rule {
            Rule::Sgd => "sgd",
            Rule::Adam => "adam",
        };
        format!("{}:{}:{rule}", self.name, self.batch)
    }

    /// A trainer on a device.
    pub(crate) fn trainer(&self, device: Device, rates: Rates) -> Result<Trainer<Box<dyn Module>>> {
        let optimizer: Optimizer = match self.rule {
            Rule::Sgd => Sgd::new(0.01).momentum(0.9).into(),
            Rule::Adam => Adam::new(1e-3).into(),
        };
        let net = Net::new(device, SEED, |p| (self.make)(p, rates))?;
        Ok(match self.aim {
            Aim::Classes => Trainer::new(net, loss::CrossEntropy::default(), optimizer)?,
            Aim::Squares => {
                let squares = loss::from_fn(|output: &Var, _: &Var| output.square().mean());
                Trainer::new(net, squares, optimizer)?
            }
        })
    }

    /// Random samples and labels, the same every time.
    pub(crate) fn data(&self) -> Result<(Tensor, Tensor)> {
        let mut random = Noise::new(5);
        let shape: Vec<usize> = [self.batch].iter().chain(self.sample).copied().collect();
        let count = shape.iter().product();
        let x = match self.given {
            Given::Numbers => Tensor::new(shape.as_slice(), random.values(count, 1.7))?,
            Given::Tokens(words) => {
                let tokens = (0..count).map(|_| (random.bits() as usize % words) as i32);
                Tensor::labels(shape.as_slice(), tokens.collect())?
            }
        };
        let labels = (0..self.batch).map(|_| (random.bits() as usize % CLASSES) as i32).collect();
        Ok((x, Tensor::labels([self.batch], labels)?))
    }
}

impl Rates {
    fn of(self, own: f32) -> f32 {
        match self {
            Rates::Own => own,
            Rates::Zero => 0.0,
        }
    }
}
