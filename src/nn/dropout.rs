// SPDX-License-Identifier: MIT OR Apache-2.0
//! Dropout of single elements.

use super::rates::{rate_of, scheduled};
use super::{DropoutSchedule, Module, Scope};
use crate::graph::{LayerPath, Var};
use crate::op::{DropRate, Drops};

/// Drops each element with probability `p` in train mode and scales the others by `1 / (1 - p)`;
/// does nothing in eval mode. As `torch.nn.Dropout` (Hinton et al. 2012, arXiv:1207.0580).
///
/// The mask is a function of the network's seed, this layer's path, which of its calls this is,
/// the number of the pass, the sample and the element: it costs no memory, and is the same on
/// every device and however the batch is divided. `p` is rounded to the nearest 1/32768 and the
/// scale uses the rounded value, so that the expectation is exact. Dropped elements are *selected*
/// to 0: an infinity or NaN that is dropped gives 0, where PyTorch multiplies and gives NaN.
///
/// With [`scheduled`](Dropout::scheduled), `p` changes while the network is trained.
///
/// # Shapes
/// Any; the first extent counts samples.
///
/// # Errors
/// `p` outside `[0, 1]` or NaN comes back from the network's constructor.
///
/// ```
/// use kiln::nn::{Dropout, Module};
/// use kiln::{Device, Net, Seed, Tensor};
///
/// let mut net = Net::new(Device::cpu(), Seed(7), |p| Dropout::new(&p.at("dropout"), 0.5))?;
/// let ones = Tensor::new([1, 8], vec![1.0; 8])?;
/// let kept = net.train().forward(&ones)?;
/// assert!(kept.values()?.iter().all(|&y| y == 0.0 || y == 2.0));
/// assert_eq!(net.eval().forward(&ones)?, ones);
///
/// let error = Net::new(Device::cpu(), Seed(7), |p| Dropout::new(&p.at("d"), 1.5)).unwrap_err();
/// assert_eq!(error.to_string(), "d: p: expected a probability in [0, 1], got 1.5");
/// # Ok::<(), kiln::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Dropout {
    layer: LayerPath,
    p: f32,
    rate: DropRate,
}

impl Dropout {
    /// Dropout with probability `p` of dropping an element.
    pub fn new(scope: &Scope, p: f32) -> Self {
        Dropout { layer: scope.layer("Dropout"), p, rate: rate_of(scope, p) }
    }

    /// Dropout whose probability is read anew in each pass, from a schedule or as
    /// [`Net::set_dropout_rate`](crate::Net::set_dropout_rate) says. The network's plans stay as they are.
    ///
    /// ```
    /// use kiln::nn::{Dropout, DropoutSchedule};
    /// use kiln::{Device, Net, Seed, Tensor};
    ///
    /// let rising = DropoutSchedule::Linear { start: 0.0, end: 0.5, passes: 2 };
    /// let mut net =
    ///     Net::new(Device::cpu(), Seed(7), |p| Dropout::scheduled(&p.at("dropout"), rising))?;
    /// let ones = Tensor::new([1, 8], vec![1.0; 8])?;
    /// assert_eq!(net.train().forward(&ones)?, ones); // rate 0
    /// assert!(net.train().forward(&ones)?.values()?.iter().all(|&y| y == 0.0 || y > 1.3));
    /// assert!(net.train().forward(&ones)?.values()?.iter().all(|&y| y == 0.0 || y == 2.0));
    /// # Ok::<(), kiln::Error>(())
    /// ```
    ///
    /// # Errors
    /// A schedule with rates outside `[0, 1)` comes back from the network's constructor; such a rate that
    /// only shows later, from the pass.
    pub fn scheduled(scope: &Scope, schedule: DropoutSchedule) -> Self {
        let p = schedule.rate(0);
        Dropout { layer: scope.layer("Dropout"), p, rate: scheduled(scope, schedule) }
    }

    /// The probability of dropping an element; of a schedule, that of the first pass.
    pub fn p(&self) -> f32 {
        self.p
    }
}

impl Module for Dropout {
    fn forward(&self, x: &Var) -> Var {
        x.within(&self.layer, |x| x.dropout(self.rate, Drops::Elements))
    }
}

/// Rejects what is no probability.
pub(super) fn check_rate(scope: &Scope, p: f32) {
    if !(0.0..=1.0).contains(&p) {
        scope.reject("p", "a probability in [0, 1]", p);
    }
}
