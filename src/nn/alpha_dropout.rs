// SPDX-License-Identifier: MIT OR Apache-2.0
//! Dropout that keeps mean and variance, for networks of SELU.

use super::dropout::check_rate;
use super::{Module, Scope};
use crate::graph::{LayerPath, Var};
use crate::op::{DropRate, Drops, Mismatch, Op, When};

/// What SELU tends to for small inputs, without its sign: `scale * alpha` (Klambauer et al. 2017).
const ALPHA: f64 = 1.758_099_340_847_376_7;

/// Sets each element with probability `p` to what SELU saturates at, and scales and shifts the result
/// so that inputs of mean 0 and variance 1 stay so, as `torch.nn.AlphaDropout` (Klambauer et al. 2017,
/// arXiv:1706.02515); does nothing in eval mode. The mask is that of [`Dropout`](super::Dropout).
///
/// With `a = 1 / sqrt((alpha^2 p + 1)(1 - p))`, kept elements become `a x + a alpha p` and dropped ones
/// `a alpha (p - 1)`, whatever they were; with `p = 1` all become 0.
///
/// # Shapes
/// Any; the first extent counts samples.
///
/// # Errors
/// `p` outside `[0, 1]` or NaN comes back from the network's constructor.
///
/// ```
/// use kiln::nn::AlphaDropout;
/// use kiln::{Device, Net, Seed, Tensor};
///
/// let mut net = Net::new(Device::cpu(), Seed(7), |p| AlphaDropout::new(&p.at("dropout"), 0.5))?;
/// let x = Tensor::new([1, 2], vec![1.0, -1.0])?;
/// assert_eq!(net.eval().forward(&x)?, x);
/// # Ok::<(), kiln::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct AlphaDropout {
    layer: LayerPath,
    p: f32,
}

/// [`AlphaDropout`] of whole channels, as `torch.nn.FeatureAlphaDropout`.
///
/// # Shapes
/// `[samples, channels, ...]` of rank 2 or more.
///
/// # Errors
/// As [`AlphaDropout`]; an input of rank 1 comes back from tracing.
#[derive(Clone, Debug)]
pub struct FeatureAlphaDropout {
    layer: LayerPath,
    p: f32,
}

impl AlphaDropout {
    /// Dropout with probability `p` of dropping an element.
    pub fn new(scope: &Scope, p: f32) -> Self {
        check_rate(scope, p);
        AlphaDropout { layer: scope.layer("AlphaDropout"), p }
    }
}

impl FeatureAlphaDropout {
    /// Dropout with probability `p` of dropping a channel.
    pub fn new(scope: &Scope, p: f32) -> Self {
        check_rate(scope, p);
        FeatureAlphaDropout { layer: scope.layer("FeatureAlphaDropout"), p }
    }
}

impl Module for AlphaDropout {
    fn forward(&self, x: &Var) -> Var {
        x.within(&self.layer, |x| dropped(x, self.p, Drops::Elements))
    }
}

impl Module for FeatureAlphaDropout {
    fn forward(&self, x: &Var) -> Var {
        x.within(&self.layer, |x| match x.shape() {
            Some(shape) if shape.rank() < 2 => {
                let expected = "input of shape [samples, channels, ...]";
                x.mistake("alpha_dropout", Mismatch::new(expected, &shape))
            }
            _ => dropped(x, self.p, Drops::Channels),
        })
    }
}

/// With `d = dropout(x + alpha)`, of which dropped elements are 0 and kept ones scaled, both cases are
/// `a / scale * d + a alpha (p - 1)`.
fn dropped(x: &Var, p: f32, drops: Drops) -> Var {
    // The rate as it is drawn at.
    let rate = DropRate::constant(p);
    let (p, scale) = (rate.most(), rate.constant_scale().unwrap_or(0.0));
    if p == 0.0 || scale == 0.0 {
        return x.dropout(rate, drops);
    }
    let a = 1.0 / ((ALPHA * ALPHA * p + 1.0) * (1.0 - p)).sqrt();
    let kept = (x + ALPHA).dropout(rate, drops);
    let random = kept * (a / scale) + a * ALPHA * (p - 1.0);
    random.apply(Op::ByMode(When::Random), &[x])
}
