// SPDX-License-Identifier: MIT OR Apache-2.0
//! Group normalisation.

use super::layer_norm::{check_eps, rows_normalised};
use super::{Affine, Init, Module, Param, Scope};
use crate::graph::{LayerPath, Var};
use crate::op::Mismatch;

/// Normalises groups of channels of each sample by themselves (Wu & He 2018, arXiv:1803.08494), as
/// `torch.nn.GroupNorm`: `(x - mean) / sqrt(variance + eps) * weight + bias`, in every mode alike.
///
/// # Shapes
/// `x` and `y`: `[samples, channels, spatial...]` of rank 2 or more. Parameters: `weight [channels]`, ones at
/// first, and `bias [channels]`, zeros.
///
/// # Errors
/// Groups that do not divide the channels come back from the network's constructor, other channels of `x`
/// from tracing.
///
/// ```
/// use kiln::nn::GroupNorm;
/// use kiln::{Device, Net, Seed, Tensor};
///
/// let mut net = Net::new(Device::cpu(), Seed(7), |p| GroupNorm::new(&p.at("norm"), 2, 6))?;
/// let y = net.eval().forward(&Tensor::zeros([3, 6, 4, 4]))?;
/// assert_eq!(y.shape().dims(), [3, 6, 4, 4]);
/// # Ok::<(), kiln::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct GroupNorm {
    layer: LayerPath,
    groups: usize,
    channels: usize,
    eps: f64,
    affine: Option<[Param; 2]>,
}

/// What group norm can be told; PyTorch's defaults.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GroupNormOptions {
    /// Added to the variance.
    pub eps: f64,
    /// Whether a weight and a bias are learned.
    pub affine: Affine,
}

impl Default for GroupNormOptions {
    fn default() -> Self {
        GroupNormOptions { eps: 1e-5, affine: Affine::Learned }
    }
}

impl GroupNorm {
    /// Channels in so many groups, with PyTorch's defaults.
    pub fn new(p: &Scope, groups: usize, channels: usize) -> Self {
        Self::with_options(p, groups, channels, GroupNormOptions::default())
    }

    /// Channels in so many groups.
    pub fn with_options(
        p: &Scope,
        groups: usize,
        channels: usize,
        options: GroupNormOptions,
    ) -> Self {
        if groups == 0 || channels == 0 || !channels.is_multiple_of(groups) {
            p.reject("num_groups", &format!("a number that divides {channels} channels"), groups);
        }
        check_eps(p, options.eps);
        GroupNorm {
            layer: p.layer("GroupNorm"),
            groups: groups.max(1),
            channels,
            eps: options.eps,
            affine: affine(p, channels, options.affine),
        }
    }
}

impl Module for GroupNorm {
    fn forward(&self, x: &Var) -> Var {
        x.within(&self.layer, |x| {
            let Some(shape) = x.shape() else { return x.clone() };
            if shape.rank() < 2 || shape.dims()[1] != self.channels {
                let expected = format!("input of shape [samples, {}, ...]", self.channels);
                return x.mistake("group_norm", Mismatch::new(expected, &shape));
            }
            let elements = shape.sample_elements() / self.groups;
            scaled(&rows_normalised(x, elements, self.eps), self.affine.as_ref())
        })
    }
}

/// A weight of ones and a bias of zeros for each channel, if they are learned.
pub(super) fn affine(p: &Scope, channels: usize, affine: Affine) -> Option<[Param; 2]> {
    let constant = |name, value| p.parameter(name, [channels], Init::Constant(value));
    (affine == Affine::Learned).then(|| [constant("weight", 1.0), constant("bias", 0.0)])
}

/// `y * weight + bias`, with one number per channel.
pub(super) fn scaled(y: &Var, affine: Option<&[Param; 2]>) -> Var {
    let (Some([weight, bias]), Some(shape)) = (affine, y.shape()) else { return y.clone() };
    let per_channel = |parameter: &Param| {
        let mut dims = vec![1; shape.rank() - 1];
        dims[0] = parameter.shape().elements();
        y.parameter(parameter).reshape(dims)
    };
    y * per_channel(weight) + per_channel(bias)
}
