// SPDX-License-Identifier: MIT OR Apache-2.0
//! Layer normalisation.

use super::{Affine, Bias, Init, Module, Param, Scope};
use crate::graph::{LayerPath, Var};
use crate::op::{Mismatch, Normalize, Op, Over};
use crate::Shape;

/// Normalises each sample, or each step of a sequence, over its last extents (Ba et al. 2016,
/// arXiv:1607.06450), as `torch.nn.LayerNorm`: `(x - mean) / sqrt(variance + eps) * weight + bias`, in every
/// mode alike.
///
/// # Shapes
/// `x` and `y`: `[..., features...]`, with one extent or more before the features. Parameters: `weight
/// [features...]`, ones at first, and `bias [features...]`, zeros.
///
/// # Errors
/// No features, or none of an extent, come back from the network's constructor, other last extents of `x`
/// from tracing.
///
/// ```
/// use kiln::nn::LayerNorm;
/// use kiln::{Device, Net, Seed, Tensor};
///
/// let mut net = Net::new(Device::cpu(), Seed(7), |p| LayerNorm::new(&p.at("norm"), [2]))?;
/// let y = net.eval().forward(&Tensor::new([1, 2], vec![1.0, 3.0])?)?;
/// assert!((y.values()?[1] - 1.0).abs() < 1e-4);
/// # Ok::<(), kiln::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct LayerNorm {
    layer: LayerPath,
    features: Shape,
    eps: f64,
    weight: Option<Param>,
    bias: Option<Param>,
}

/// What layer norm can be told; PyTorch's defaults.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LayerNormOptions {
    /// Added to the variance.
    pub eps: f64,
    /// Whether a weight is learned, and with it a bias.
    pub affine: Affine,
    /// Whether there is a bias beside the weight.
    pub bias: Bias,
}

impl Default for LayerNormOptions {
    fn default() -> Self {
        LayerNormOptions { eps: 1e-5, affine: Affine::Learned, bias: Bias::Added }
    }
}

impl LayerNorm {
    /// Layer norm over last extents of this shape with PyTorch's defaults.
    pub fn new(p: &Scope, features: impl Into<Shape>) -> Self {
        Self::with_options(p, features, LayerNormOptions::default())
    }

    /// Layer norm over last extents of this shape.
    pub fn with_options(p: &Scope, features: impl Into<Shape>, options: LayerNormOptions) -> Self {
        let features = features.into();
        if features.rank() == 0 || features.elements() == 0 {
            p.reject("normalized_shape", "one extent or more, none of them 0", &features);
        }
        check_eps(p, options.eps);
        let learned = |name, value| {
            let is_learned = options.affine == Affine::Learned;
            is_learned.then(|| p.parameter(name, features.clone(), Init::Constant(value)))
        };
        let weight = learned("weight", 1.0);
        let bias = match options.bias {
            Bias::Added => learned("bias", 0.0),
            Bias::Absent => None,
        };
        LayerNorm { layer: p.layer("LayerNorm"), features, eps: options.eps, weight, bias }
    }
}

impl Module for LayerNorm {
    fn forward(&self, x: &Var) -> Var {
        x.within(&self.layer, |x| {
            let Some(shape) = x.shape() else { return x.clone() };
            if shape.rank() <= self.features.rank() || !shape.dims().ends_with(self.features.dims())
            {
                let features = self.features.dims().iter().map(usize::to_string);
                let features = features.collect::<Vec<_>>().join(", ");
                let expected = format!("input of shape [..., {features}]");
                return x.mistake("layer_norm", Mismatch::new(expected, &shape));
            }
            let y = rows_normalised(x, self.features.elements(), self.eps);
            let y = match &self.weight {
                Some(weight) => &y * &x.parameter(weight),
                None => y,
            };
            match &self.bias {
                Some(bias) => &y + &x.parameter(bias),
                None => y,
            }
        })
    }
}

/// Rejects what cannot be added to a variance.
pub(super) fn check_eps(p: &Scope, eps: f64) {
    if !(eps.is_finite() && eps >= 0.0) {
        p.reject("eps", "a finite number of 0 or more", eps);
    }
}

/// Each run of so many elements brought to mean 0 and variance 1.
pub(super) fn rows_normalised(x: &Var, elements: usize, eps: f64) -> Var {
    let Some(shape) = x.shape() else { return x.clone() };
    let rows = x.reshape([shape.elements() / elements.max(1), elements]);
    let mean = rows.apply(Op::Statistics(Over::Rows), &[]);
    let normalize = Normalize { over: Over::Rows, eps };
    rows.apply(Op::Normalize(normalize), &[&mean, &mean.result(1)]).reshape(shape)
}
