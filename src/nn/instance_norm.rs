// SPDX-License-Identifier: MIT OR Apache-2.0
//! Instance normalisation.

use super::group_norm::{affine, scaled};
use super::layer_norm::check_eps;
use super::{Affine, Init, Keep, Module, Param, Scope, Tracking};
use crate::graph::{LayerPath, Var};
use crate::op::{Mismatch, Normalize, Op, Over, StateRule, When};

/// Normalises each channel of each sample by itself (Ulyanov et al. 2016, arXiv:1607.08022), as
/// `torch.nn.InstanceNorm2d`. Unless told otherwise it learns nothing and is the same in every mode.
///
/// With [`Tracking::Running`], running statistics follow the means over a batch's samples in train mode and
/// are used in every other mode. `num_batches_tracked` stays 0, as PyTorch's does.
///
/// # Shapes
/// `x` and `y`: `[samples, channels, height, width]` with 2 pixels or more. Parameters, if learned: `weight
/// [channels]`, ones at first, and `bias [channels]`, zeros. State, if tracked: as
/// [`BatchNorm`](super::BatchNorm).
///
/// # Errors
/// Options out of range come back from the network's constructor, an input of another shape from tracing.
///
/// ```
/// use kiln::nn::InstanceNorm2d;
/// use kiln::{Device, Net, Seed, Tensor};
///
/// let mut net = Net::new(Device::cpu(), Seed(7), |p| InstanceNorm2d::new(&p.at("norm"), 3))?;
/// assert_eq!(net.parameter_count(), 0);
/// let y = net.eval().forward(&Tensor::zeros([2, 3, 4, 4]))?;
/// assert_eq!(y.shape().dims(), [2, 3, 4, 4]);
/// # Ok::<(), kiln::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct InstanceNorm2d {
    layer: LayerPath,
    channels: usize,
    eps: f64,
    momentum: f64,
    affine: Option<[Param; 2]>,
    running: Option<[Param; 2]>,
}

/// What instance norm can be told; PyTorch's defaults.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct InstanceNormOptions {
    /// Added to the variance.
    pub eps: f64,
    /// How much a batch's statistics count, the running ones the rest. PyTorch's `None` means 0 here.
    pub momentum: f64,
    /// Whether a weight and a bias are learned.
    pub affine: Affine,
    /// Which statistics are used where the mode is not train mode.
    pub tracking: Tracking,
}

impl Default for InstanceNormOptions {
    fn default() -> Self {
        let (affine, tracking) = (Affine::Absent, Tracking::Batch);
        InstanceNormOptions { eps: 1e-5, momentum: 0.1, affine, tracking }
    }
}

impl InstanceNorm2d {
    /// Instance norm of a number of channels with PyTorch's defaults.
    pub fn new(p: &Scope, channels: usize) -> Self {
        Self::with_options(p, channels, InstanceNormOptions::default())
    }

    /// Instance norm of a number of channels.
    pub fn with_options(p: &Scope, channels: usize, options: InstanceNormOptions) -> Self {
        check_eps(p, options.eps);
        if !(0.0..=1.0).contains(&options.momentum) {
            p.reject("momentum", "a number in [0, 1]", options.momentum);
        }
        let affine = affine(p, channels, options.affine);
        let running = (options.tracking == Tracking::Running).then(|| {
            let mean = p.state("running_mean", [channels], Init::Constant(0.0));
            let variance = p.state("running_var", [channels], Init::Constant(1.0));
            p.counter("num_batches_tracked");
            [mean, variance]
        });
        InstanceNorm2d {
            layer: p.layer("InstanceNorm2d"),
            channels,
            eps: options.eps,
            momentum: options.momentum,
            affine,
            running,
        }
    }
}

impl Module for InstanceNorm2d {
    fn forward(&self, x: &Var) -> Var {
        x.within(&self.layer, |x| {
            let Some(shape) = x.shape() else { return x.clone() };
            let (samples, pixels) = match *shape.dims() {
                [samples, channels, height, width]
                    if channels == self.channels && height * width > 1 =>
                {
                    (samples, height * width)
                }
                _ => {
                    let channels = self.channels;
                    let expected = format!(
                        "input of shape [samples, {channels}, height, width] with 2 pixels or more"
                    );
                    return x.mistake("instance_norm", Mismatch::new(expected, &shape));
                }
            };
            let rows = x.reshape([samples * self.channels, pixels]);
            let mean = rows.apply(Op::Statistics(Over::Rows), &[]);
            let statistics = [mean.clone(), mean.result(1)];
            let [mean, variance] = match &self.running {
                Some(running) => self.tracked(statistics, running, samples, pixels),
                None => statistics,
            };
            let normalize = Normalize { over: Over::Rows, eps: self.eps };
            let y = rows.apply(Op::Normalize(normalize), &[&mean, &variance]).reshape(shape);
            scaled(&y, self.affine.as_ref())
        })
    }
}

impl InstanceNorm2d {
    /// The statistics in train mode, which move the running ones, and the running ones in others.
    fn tracked(
        &self,
        statistics: [Var; 2],
        running: &[Param; 2],
        samples: usize,
        pixels: usize,
    ) -> [Var; 2] {
        let unbiased = pixels as f64 / (pixels - 1) as f64;
        [(0, 1.0), (1, unbiased)].map(|(index, factor)| {
            let (own, state): (&Var, &Param) = (&statistics[index], &running[index]);
            let shape = [samples, self.channels];
            let of_batch = own.reshape(shape).mean_over([0], Keep::Nothing);
            let old = own.parameter(state).expand(shape).reshape([samples * self.channels]);
            let rule = StateRule::Average { momentum: self.momentum, factor };
            own.set_state(state, rule, &[&of_batch]);
            own.apply(Op::ByMode(When::Training), &[&old])
        })
    }
}
