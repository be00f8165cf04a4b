// SPDX-License-Identifier: MIT OR Apache-2.0
//! Training steps whose kernels are measured one by one.

use std::num::NonZeroUsize;

use kiln::loss::{self, CrossEntropy};
use kiln::models::{RnnCell, RnnClassifier, SpatialDropoutCnn};
use kiln::nn::{Module, RecurrentOptions, Scope};
use kiln::optim::Sgd;
use kiln::plan::Plan;
use kiln::{Convolutions, Device, Net, Seed, Tensor, Trainer, Var};

use super::random_values;
use crate::peers::case::{Case, Work};
use crate::peers::network::Rates;
use crate::peers::workload;
use crate::Result;

/// A training step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Subject {
    /// That of a case of `cargo xtask peers`.
    Peers(&'static str),
    /// The residual block with its convolutions as the sums that they mean.
    PreciseResidual,
    /// Two convolutions with dropout of feature maps between them, 64x3x32x32 to 64 and 128 channels.
    Spatial,
    /// A GRU of one layer of 256 units on 256 features, 32 texts of 64 tokens.
    Gru,
}

impl Subject {
    /// Its plan, and what it takes.
    pub(super) fn plan(self) -> Result<(Plan, Vec<Tensor>)> {
        match self {
            Subject::Peers(name) => of_case(Case::parse(name)?, Convolutions::Fast),
            Subject::PreciseResidual => of_case(Case::parse("e32sgd")?, Convolutions::Precise),
            Subject::Spatial => {
                let make = |p: &Scope| -> Box<dyn Module> {
                    Box::new(SpatialDropoutCnn::new(p, SpatialDropoutCnn::RATE))
                };
                let images = [64, 3, 32, 32];
                let images = Tensor::new(images, random_values(images.iter().product()))?;
                let squares = loss::from_fn(|output: &Var, _: &Var| output.square().mean());
                let net = Net::new(device(Convolutions::Fast), Seed(7), make)?;
                step(Trainer::new(net, squares, Sgd::new(0.01))?, images)
            }
            Subject::Gru => {
                let options = RecurrentOptions { layers: 1, dropout: 0.5, ..Default::default() };
                let make = |p: &Scope| -> Box<dyn Module> {
                    let sizes = [1000, 256, 256, 10];
                    Box::new(RnnClassifier::with_cell(p, RnnCell::Gru, sizes, options))
                };
                let texts = (0..32 * 64).map(|token| token * 7919 % 1000).collect();
                let net = Net::new(device(Convolutions::Fast), Seed(7), make)?;
                let trainer = Trainer::new(net, CrossEntropy::default(), Sgd::new(0.01))?;
                step(trainer, Tensor::labels([32, 64], texts)?)
            }
        }
    }
}

/// Plans are the same for any number of threads.
fn device(convolutions: Convolutions) -> Device {
    Device::cpu_with_threads(NonZeroUsize::MIN).with_convolutions(convolutions)
}

fn of_case(case: &Case, convolutions: Convolutions) -> Result<(Plan, Vec<Tensor>)> {
    let Work::Training { network, batch, rule } = case.work else {
        return Err(format!("{}: expected a training", case.name).into());
    };
    let (x, target) = network.random_batch(batch)?;
    let mut trainer = workload::trainer(network, rule, device(convolutions), Rates::Own)?;
    Ok((trainer.plan(&x.ty(), &target.ty())?.clone(), vec![x, target]))
}

fn step(mut trainer: Trainer<Box<dyn Module>>, x: Tensor) -> Result<(Plan, Vec<Tensor>)> {
    let samples = x.shape().dims()[0];
    let labels = (0..samples as i32).map(|label| label % 10).collect();
    let labels = Tensor::labels([samples], labels)?;
    Ok((trainer.plan(&x.ty(), &labels.ty())?.clone(), vec![x, labels]))
}
