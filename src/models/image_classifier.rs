// SPDX-License-Identifier: MIT OR Apache-2.0
//! Scores from feature maps.

use crate::graph::Var;
use crate::nn::{AvgPool2d, Linear, Module, Scope};

/// `features -> means of squares of pixels -> fc`: scores from whatever yields feature maps.
///
/// # Shapes
/// The features yield `[samples, channels, side, side]` for `x`; scores: `[samples, classes]`.
///
/// # Errors
/// Features of another shape come back from the first run.
///
/// ```
/// use kiln::models::{ImageClassifier, SpatialDropoutCnn};
/// use kiln::{Device, Net, Seed, Tensor};
///
/// let mut net = Net::new(Device::cpu(), Seed(7), |p| {
///     ImageClassifier::new(p, SpatialDropoutCnn::new(p, 0.2), [128, 8], 4, 10)
/// })?;
/// let scores = net.eval().forward(&Tensor::zeros([2, 3, 8, 8]))?;
/// assert_eq!(scores.shape().dims(), [2, 10]);
/// # Ok::<(), kiln::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct ImageClassifier<M> {
    features: M,
    pool: AvgPool2d,
    fc: Linear,
}

impl<M> ImageClassifier<M> {
    /// Scores of `classes` from features with this many channels and this side, averaged over squares
    /// of `square` pixels. The linear layer is named `fc`.
    pub fn new(
        p: &Scope,
        features: M,
        [channels, side]: [usize; 2],
        square: usize,
        classes: usize,
    ) -> Self {
        let places = side.checked_div(square).unwrap_or(0);
        let inputs = channels.saturating_mul(places).saturating_mul(places);
        let fc = Linear::new(&p.at("fc"), inputs, classes);
        ImageClassifier { features, pool: AvgPool2d::new([square, square]), fc }
    }
}

impl<M: Module> Module for ImageClassifier<M> {
    fn forward(&self, x: &Var) -> Var {
        let maps = self.features.forward(x);
        self.fc.forward(&self.pool.forward(&maps).flatten(1))
    }
}
