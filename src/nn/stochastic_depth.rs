// SPDX-License-Identifier: MIT OR Apache-2.0
//! Dropout of whole samples of a branch.

use super::rates::{rate_of, scheduled};
use super::{DropoutSchedule, Module, Scope};
use crate::graph::{LayerPath, Var};
use crate::op::{DropRate, Drops};

/// Drops all of a sample with probability `p` in train mode and scales the others by `1 / (1 - p)`; does
/// nothing in eval mode. At the end of a residual branch it skips the branch (Huang et al. 2016,
/// arXiv:1603.09382), as `torchvision.ops.StochasticDepth` with `mode="row"`.
///
/// There is no `mode="batch"`: samples of a batch do not share decisions, since a batch may be divided.
///
/// # Shapes
/// Any; the first extent counts samples.
///
/// # Errors
/// `p` outside `[0, 1]` or NaN comes back from the network's constructor.
///
/// ```
/// use kiln::nn::StochasticDepth;
/// use kiln::{Device, Net, Seed, Tensor};
///
/// let mut net = Net::new(Device::cpu(), Seed(7), |p| StochasticDepth::new(&p.at("skip"), 0.5))?;
/// let ones = Tensor::new([4, 3], vec![1.0; 12])?;
/// for row in net.train().forward(&ones)?.values()?.chunks(3) {
///     assert!(row == [0.0; 3] || row == [2.0; 3]);
/// }
/// # Ok::<(), kiln::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct StochasticDepth {
    layer: LayerPath,
    rate: DropRate,
}

impl StochasticDepth {
    /// Probability `p` of dropping a sample.
    pub fn new(scope: &Scope, p: f32) -> Self {
        StochasticDepth { layer: scope.layer("StochasticDepth"), rate: rate_of(scope, p) }
    }

    /// A probability that is read anew in each pass: see [`Dropout::scheduled`](super::Dropout::scheduled).
    pub fn scheduled(scope: &Scope, schedule: DropoutSchedule) -> Self {
        StochasticDepth { layer: scope.layer("StochasticDepth"), rate: scheduled(scope, schedule) }
    }
}

impl Module for StochasticDepth {
    fn forward(&self, x: &Var) -> Var {
        x.within(&self.layer, |x| x.dropout(self.rate, Drops::Samples))
    }
}
