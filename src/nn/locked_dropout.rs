// SPDX-License-Identifier: MIT OR Apache-2.0
//! Dropout that is the same at all steps of a sequence.

use super::rates::{rate_of, scheduled};
use super::{DropoutSchedule, Module, Scope};
use crate::graph::{LayerPath, Var};
use crate::op::{DropRate, Drops, Mismatch};

/// Drops features of sequences with probability `p` in train mode, each at all steps of a sequence alike, and
/// scales the others by `1 / (1 - p)`; does nothing in eval mode. Variational dropout (Gal & Ghahramani 2016,
/// arXiv:1512.05287), the `LockedDropout` of AWD-LSTM (Merity et al. 2017, arXiv:1708.02182), which PyTorch
/// lacks.
///
/// The mask is that of [`Dropout`](super::Dropout) with features as its elements: a function of seed, layer,
/// call, pass, sample and feature. It costs no memory and depends neither on how long sequences are padded nor
/// on how a batch is divided.
///
/// # Shapes
/// `[samples, steps, features]`.
///
/// # Errors
/// `p` outside `[0, 1]` or NaN comes back from the network's constructor, an input of another rank from
/// tracing.
///
/// ```
/// use kiln::nn::LockedDropout;
/// use kiln::{Device, Net, Seed, Tensor};
///
/// let mut net = Net::new(Device::cpu(), Seed(7), |p| LockedDropout::new(&p.at("locked"), 0.5))?;
/// let ones = Tensor::new([1, 3, 8], vec![1.0; 24])?;
/// let kept = net.train().forward(&ones)?;
/// let steps: Vec<&[f32]> = kept.values()?.chunks(8).collect();
/// assert!(steps[0] == steps[1] && steps[1] == steps[2]);
/// assert!(steps[0].iter().all(|&y| y == 0.0 || y == 2.0));
/// # Ok::<(), kiln::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct LockedDropout {
    layer: LayerPath,
    p: f32,
    rate: DropRate,
}

impl LockedDropout {
    /// Dropout with probability `p` of dropping a feature.
    pub fn new(scope: &Scope, p: f32) -> Self {
        LockedDropout { layer: scope.layer("LockedDropout"), p, rate: rate_of(scope, p) }
    }

    /// Dropout whose probability is read anew in each pass: see
    /// [`Dropout::scheduled`](super::Dropout::scheduled).
    pub fn scheduled(scope: &Scope, schedule: DropoutSchedule) -> Self {
        let p = schedule.rate(0);
        LockedDropout { layer: scope.layer("LockedDropout"), p, rate: scheduled(scope, schedule) }
    }

    /// The probability of dropping a feature; of a schedule, that of the first pass.
    pub fn p(&self) -> f32 {
        self.p
    }
}

impl Module for LockedDropout {
    fn forward(&self, x: &Var) -> Var {
        x.within(&self.layer, |x| match x.shape() {
            Some(shape) if shape.rank() != 3 => {
                let expected = "input of shape [samples, steps, features]";
                x.mistake("dropout", Mismatch::new(expected, &shape))
            }
            _ => x.dropout(self.rate, Drops::Features),
        })
    }
}
