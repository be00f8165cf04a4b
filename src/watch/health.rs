// SPDX-License-Identifier: MIT OR Apache-2.0
//! Signs that a training does not go as it should, which are cheap to see and almost never wrong.

use std::fmt;

use flate2::Crc;

use crate::exec::Role;
use crate::graph::{ParamId, ParamRole};
use crate::nn::Module;
use crate::values::Values;
use crate::{LayerOutput, Result, Trainer};

/// A sign that a training does not go as it should. As text: what was seen, and what to look at.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Warning {
    /// The first loss is not that of a network that knows nothing.
    ColdStart {
        /// The loss of the first step.
        loss: f64,
        /// Classes that the network tells apart.
        classes: usize,
    },
    /// Units behind a ReLU give 0, whatever comes in: they no longer learn.
    DeadUnits {
        /// Path of the layer before the ReLU, or of the ReLU itself if it is a layer.
        layer: String,
        /// How many of its units are dead.
        dead: usize,
        /// How many it has: features, or channels of images.
        units: usize,
        /// Samples for which all of them were 0.
        samples: usize,
    },
    /// A parameter that is trained has not changed.
    Untrained {
        /// Its name.
        parameter: String,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Warning::ColdStart { loss, classes } => write!(
                f,
                "the first loss is {loss:.4}, far from {:.4}, that of guessing one of {classes} classes: \
                 look at the scale of the inputs, the initial values and what comes before the loss",
                expected(*classes),
            ),
            Warning::DeadUnits { layer, dead, units, samples } => write!(
                f,
                "{layer}: {dead} of {units} units behind a ReLU are 0 for all of {samples} samples and \
                 learn no more: look at the learning rate and the biases"
            ),
            Warning::Untrained { parameter } => write!(
                f,
                "{parameter} did not change in an epoch: nothing that it leads to reaches the loss, or \
                 its gradients are 0"
            ),
        }
    }
}

/// How many times larger or smaller than that of guessing a first loss may be.
const FAR: f64 = 2.0;

/// The least share of a layer's units that is worth a word: of networks that learn well, 10 to 30 % are
/// silent after their first epoch.
const WORTH_A_WORD: f64 = 0.5;

/// Looks at a training's first cross-entropy, before any update: that of a network that knows nothing of
/// so many classes is about `ln(classes)`.
///
/// ```
/// use kiln::watch::cold_start;
///
/// assert_eq!(cold_start(2.4, 10), None);
/// let warning = cold_start(31.0, 10).expect("far from 2.3026");
/// assert!(warning.to_string().starts_with("the first loss is 31.0000, far from 2.3026"));
/// ```
pub fn cold_start(loss: f64, classes: usize) -> Option<Warning> {
    let usual = expected(classes);
    let is_near = (usual / FAR..=usual * FAR).contains(&loss);
    (classes > 1 && !is_near).then_some(Warning::ColdStart { loss, classes })
}

fn expected(classes: usize) -> f64 {
    (classes as f64).ln()
}

/// Units behind ReLUs that gave nothing but 0 so far.
///
/// ```
/// use kiln::{models::SimpleNet, watch::DeadUnits, Device, Net, Seed, Tensor};
///
/// let mut net = Net::new(Device::cpu(), Seed(7), |p| SimpleNet::new(p, 4, 8, 3, 0.5))?;
/// net.set_parameter("fc1.bias", &Tensor::new([8], vec![-9.0; 8])?)?;
/// let mut dead = DeadUnits::default();
/// dead.add(&net.eval().layers(&Tensor::zeros([2, 4]))?)?;
/// assert!(dead.warnings()[0].to_string().starts_with("fc1: 8 of 8 units"));
/// # Ok::<(), kiln::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct DeadUnits {
    /// For each ReLU its layer and which of its units were alive.
    layers: Vec<(String, Vec<bool>)>,
    samples: usize,
}

impl DeadUnits {
    /// Looks at what the layers of a network gave for more samples, in eval mode, where no dropout makes
    /// zeros: [`View::layers`](crate::View::layers).
    ///
    /// # Errors
    /// What reading the values reports.
    pub fn add(&mut self, outputs: &[LayerOutput]) -> Result<()> {
        let relus = outputs.iter().filter(|found| found.op == "relu");
        let mut samples = 0;
        for (index, found) in relus.enumerate() {
            let dims = found.output.shape().dims();
            let &[count, units, ..] = dims else { continue };
            samples = count;
            if self.layers.len() <= index {
                self.layers.push((found.layer.clone(), vec![false; units]));
            }
            let Some((_, alive)) = self.layers.get_mut(index) else { continue };
            let each = dims[2..].iter().product::<usize>().max(1);
            let values = found.output.values()?;
            for (place, values) in values.chunks(each).enumerate() {
                if let Some(alive) = alive.get_mut(place % units.max(1)) {
                    *alive = *alive || values.iter().any(|value| *value != 0.0);
                }
            }
        }
        self.samples += samples;
        Ok(())
    }

    /// The layers of which half or more of the units are dead, as far as is known.
    pub fn warnings(&self) -> Vec<Warning> {
        let samples = self.samples;
        let warning = |(layer, alive): &(String, Vec<bool>)| {
            let (units, dead) = (alive.len(), alive.iter().filter(|alive| !**alive).count());
            let is_worth_it = dead > 0 && dead as f64 >= WORTH_A_WORD * units as f64;
            let layer = layer.clone();
            is_worth_it.then_some(Warning::DeadUnits { layer, dead, units, samples })
        };
        self.layers.iter().filter_map(warning).collect()
    }
}

/// Check sums of the parameters that a trainer's next update would change, to see later which it did not.
///
/// ```
/// use kiln::watch::CheckSums;
/// use kiln::{loss::Mse, nn::Linear, optim::Sgd, Device, Net, Seed, Tensor, Trainer};
///
/// let net = Net::new(Device::cpu(), Seed(7), |p| Linear::new(&p.at("fc"), 2, 1))?;
/// let mut fit = Trainer::new(net, Mse::default(), Sgd::new(0.1))?;
/// let before = CheckSums::of(&mut fit)?;
/// fit.step(&Tensor::zeros([1, 2]), &Tensor::new([1, 1], vec![9.0])?)?;
/// let warnings = CheckSums::of(&mut fit)?.unchanged_since(&before);
/// assert!(warnings[0].to_string().starts_with("fc.weight did not change"), "inputs of 0");
/// assert_eq!(warnings.len(), 1);
/// # Ok::<(), kiln::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckSums {
    sums: Vec<(String, u32)>,
}

impl CheckSums {
    /// Those of the parameters as they are now; frozen ones and those with a rate of 0 are left out.
    /// Waits for the steps that were issued.
    ///
    /// # Errors
    /// [`Error::Device`](crate::Error::Device) if the device failed meanwhile.
    pub fn of<M, In, Out, Target>(trainer: &mut Trainer<M, In, Out, Target>) -> Result<Self>
    where
        M: Module<In, Out>,
        In: Values,
        Out: Values,
        Target: Values,
    {
        let specs = trainer.net().specs().clone();
        let mut sums = Vec::new();
        for (index, spec) in specs.iter().enumerate() {
            if spec.role != ParamRole::Trained || trainer.rate_of(&spec.name)? == 0.0 {
                continue;
            }
            let mut sum = Crc::new();
            let (store, backend) = trainer.net().state();
            store.read_in_pieces(backend, Role::Value, ParamId::at(index), |piece| {
                sum.update(bytemuck::cast_slice(piece));
                Ok(())
            })?;
            sums.push((spec.name.clone(), sum.sum()));
        }
        Ok(CheckSums { sums })
    }

    /// The parameters that are as they were.
    pub fn unchanged_since(&self, before: &CheckSums) -> Vec<Warning> {
        let unchanged = self.sums.iter().filter(|sum| before.sums.contains(sum));
        unchanged.map(|(name, _)| Warning::Untrained { parameter: name.clone() }).collect()
    }
}
