// SPDX-License-Identifier: MIT OR Apache-2.0
//! Batch normalisation.

use super::{Init, Module, Param, Scope};
use crate::graph::{LayerPath, Var};
use crate::op::{Mismatch, Normalize, Op, Over, StateRule};

/// Normalises each channel over all samples and pixels (Ioffe & Szegedy 2015, arXiv:1502.03167), as
/// `torch.nn.BatchNorm1d` to `BatchNorm3d`: `(x - mean) / sqrt(variance + eps) * weight + bias`.
///
/// In train mode mean and variance are those of the batch, and running ones follow them; in every
/// other mode the running ones are used, and gradients treat them as constants. Micro-batches are
/// normalised each by itself and move the running statistics each, as separate passes do in PyTorch.
///
/// # Shapes
/// `x` and `y`: `[samples, channels, spatial...]` of rank 2 to 5. Parameters: `weight [channels]`, ones
/// at first, and `bias [channels]`, zeros. State: `running_mean` and `running_var [channels]`, zeros
/// and ones, and `num_batches_tracked`, an `i64`.
///
/// # Errors
/// Another number of channels comes back from tracing, and in train mode a batch with one value per
/// channel, which has no variance.
///
/// ```
/// use kiln::nn::BatchNorm;
/// use kiln::{Device, Net, Seed, Tensor};
///
/// let mut net = Net::new(Device::cpu(), Seed(7), |p| BatchNorm::new(&p.at("bn"), 1))?;
/// net.train().forward(&Tensor::new([2, 1], vec![1., 3.])?)?;
/// assert_eq!(net.parameter("bn.running_mean")?.values()?, [0.2]);
/// assert_eq!(net.parameter("bn.num_batches_tracked")?.counters()?, [1]);
/// # Ok::<(), kiln::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct BatchNorm {
    layer: LayerPath,
    channels: usize,
    eps: f64,
    momentum: Momentum,
    affine: Option<[Param; 2]>,
    running: Option<Running>,
}

/// What batch norm can be told; PyTorch's defaults.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BatchNormOptions {
    /// Added to the variance.
    pub eps: f64,
    /// How running statistics follow those of batches.
    pub momentum: Momentum,
    /// Whether a weight and a bias are learned.
    pub affine: Affine,
    /// Which statistics are used where the mode is not train mode.
    pub tracking: Tracking,
}

/// How running statistics follow those of batches.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Momentum {
    /// A batch's statistics count this much, the running ones the rest.
    Exponential(f64),
    /// All batches count the same: PyTorch's `momentum=None`.
    Cumulative,
}

/// Whether a normalisation is followed by a learned weight and bias.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Affine {
    /// It is.
    #[default]
    Learned,
    /// It is not.
    Absent,
}

/// Which statistics are used where the mode is not train mode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tracking {
    /// Running ones: `track_running_stats=True`.
    #[default]
    Running,
    /// Those of the batch.
    Batch,
}

#[derive(Clone, Debug)]
struct Running {
    mean: Param,
    variance: Param,
    batches: Param,
}

impl Default for BatchNormOptions {
    fn default() -> Self {
        BatchNormOptions {
            eps: 1e-5,
            momentum: Momentum::Exponential(0.1),
            affine: Affine::Learned,
            tracking: Tracking::Running,
        }
    }
}

impl BatchNorm {
    /// Batch norm of a number of channels with PyTorch's defaults.
    pub fn new(p: &Scope, channels: usize) -> Self {
        Self::with_options(p, channels, BatchNormOptions::default())
    }

    /// Batch norm of a number of channels.
    pub fn with_options(p: &Scope, channels: usize, options: BatchNormOptions) -> Self {
        let BatchNormOptions { eps, momentum, affine, tracking } = options;
        if !(eps.is_finite() && eps >= 0.0) {
            p.reject("eps", "a finite number of 0 or more", eps);
        }
        match momentum {
            Momentum::Exponential(momentum) if !(0.0..=1.0).contains(&momentum) => {
                p.reject("momentum", "a number in [0, 1]", momentum);
            }
            _ => {}
        }
        let [ones, zeros] = [Init::Constant(1.0), Init::Constant(0.0)];
        let affine = (affine == Affine::Learned).then(|| {
            [p.parameter("weight", [channels], ones), p.parameter("bias", [channels], zeros)]
        });
        let running = (tracking == Tracking::Running).then(|| Running {
            mean: p.state("running_mean", [channels], zeros),
            variance: p.state("running_var", [channels], ones),
            batches: p.counter("num_batches_tracked"),
        });
        BatchNorm { layer: p.layer("BatchNorm"), channels, eps, momentum, affine, running }
    }
}

impl Module for BatchNorm {
    fn forward(&self, x: &Var) -> Var {
        x.within(&self.layer, |x| {
            let Some(shape) = x.shape() else { return x.clone() };
            if !(2..=5).contains(&shape.rank()) || shape.dims()[1] != self.channels {
                let expected = format!("input of shape [samples, {}, ...]", self.channels);
                return x.mistake("batch_norm", Mismatch::new(expected, &shape));
            }
            let [mean, variance] = self.statistics(x, shape.elements() / self.channels);
            let mut operands = vec![mean, variance];
            operands.extend(self.affine.iter().flatten().map(|parameter| x.parameter(parameter)));
            let normalize = Normalize { over: Over::Channels, eps: self.eps };
            x.apply(Op::Normalize(normalize), &operands.iter().collect::<Vec<_>>())
        })
    }
}

impl BatchNorm {
    /// Mean and variance to normalise with, and the running ones moved towards them. `count` values of
    /// each channel are there.
    fn statistics(&self, x: &Var, count: usize) -> [Var; 2] {
        let Some(running) = &self.running else {
            let mean = x.apply(Op::Statistics(Over::Channels), &[]);
            return [mean.clone(), mean.result(1)];
        };
        let (old_mean, old_variance) = (x.parameter(&running.mean), x.parameter(&running.variance));
        let mean = x.apply(Op::Statistics(Over::Channels), &[&old_mean, &old_variance]);
        let variance = mean.result(1);
        let batches = x.set_state(&running.batches, StateRule::Count, &[]);
        // With one value the layer is refused in train mode, and nothing is tracked in others.
        let unbiased = count as f64 / count.saturating_sub(1).max(1) as f64;
        for (state, statistic, factor) in
            [(&running.mean, &mean, 1.0), (&running.variance, &variance, unbiased)]
        {
            match self.momentum {
                Momentum::Exponential(momentum) => {
                    let rule = StateRule::Average { momentum, factor };
                    x.set_state(state, rule, &[statistic]);
                }
                Momentum::Cumulative => {
                    let rule = StateRule::CumulativeAverage { factor };
                    x.set_state(state, rule, &[statistic, &batches]);
                }
            }
        }
        [mean, variance]
    }
}
