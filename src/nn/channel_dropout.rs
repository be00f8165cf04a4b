// SPDX-License-Identifier: MIT OR Apache-2.0
//! Dropout of whole channels.

use super::rates::{rate_of, scheduled};
use super::{DropoutSchedule, Module, Scope};
use crate::graph::{LayerPath, Var};
use crate::op::{DropRate, Drops, Mismatch};

/// Drops whole channels of sequences, as `torch.nn.Dropout1d`.
pub type Dropout1d = ChannelDropout<1>;
/// Drops whole feature maps of images, as `torch.nn.Dropout2d`.
pub type Dropout2d = ChannelDropout<2>;
/// Drops whole channels of volumes, as `torch.nn.Dropout3d`.
pub type Dropout3d = ChannelDropout<3>;

/// Drops each channel of each sample with probability `p` in train mode and scales the others by
/// `1 / (1 - p)`; does nothing in eval mode. As `torch.nn.Dropout1d` to `Dropout3d` (Tompson et al. 2015,
/// arXiv:1411.4280): neighbouring pixels say much the same, so dropping single ones hides little.
///
/// The mask is that of [`Dropout`](super::Dropout) with channels as its elements: a function of seed,
/// layer, call, pass, sample and channel that costs no memory.
///
/// # Shapes
/// `[samples, channels, spatial...]` with `N` spatial extents. The first extent always counts samples:
/// where PyTorch takes an input of one rank less for a single sample, this is an error.
///
/// # Errors
/// `p` outside `[0, 1]` or NaN comes back from the network's constructor, an input of another rank from
/// tracing.
///
/// ```
/// use kiln::nn::{Dropout2d, Module};
/// use kiln::{Device, Net, Seed, Tensor};
///
/// let mut net = Net::new(Device::cpu(), Seed(7), |p| Dropout2d::new(&p.at("dropout"), 0.5))?;
/// let ones = Tensor::new([1, 8, 2, 2], vec![1.0; 32])?;
/// let kept = net.train().forward(&ones)?;
/// for map in kept.values()?.chunks(4) {
///     assert!(map == [0.0; 4] || map == [2.0; 4]);
/// }
/// # Ok::<(), kiln::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct ChannelDropout<const N: usize> {
    layer: LayerPath,
    p: f32,
    rate: DropRate,
}

impl<const N: usize> ChannelDropout<N> {
    /// Dropout with probability `p` of dropping a channel.
    pub fn new(scope: &Scope, p: f32) -> Self {
        Self::at(scope, p, rate_of(scope, p))
    }

    /// Dropout whose probability is read anew in each pass: see
    /// [`Dropout::scheduled`](super::Dropout::scheduled).
    pub fn scheduled(scope: &Scope, schedule: DropoutSchedule) -> Self {
        Self::at(scope, schedule.rate(0), scheduled(scope, schedule))
    }

    fn at(scope: &Scope, p: f32, rate: DropRate) -> Self {
        let kind = ["Dropout1d", "Dropout2d", "Dropout3d"];
        let kind = kind.get(N - 1).copied().unwrap_or("ChannelDropout");
        ChannelDropout { layer: scope.layer(kind), p, rate }
    }

    /// The probability of dropping a channel; of a schedule, that of the first pass.
    pub fn p(&self) -> f32 {
        self.p
    }
}

impl<const N: usize> Module for ChannelDropout<N> {
    fn forward(&self, x: &Var) -> Var {
        x.within(&self.layer, |x| match x.shape() {
            Some(shape) if shape.rank() != N + 2 => {
                let spatial = ["length", "height, width", "depth, height, width"];
                let spatial = spatial.get(N - 1).copied().unwrap_or("spatial...");
                let expected = format!("input of shape [samples, channels, {spatial}]");
                x.mistake("dropout", Mismatch::new(expected, &shape))
            }
            _ => x.dropout(self.rate, Drops::Channels),
        })
    }
}
