// SPDX-License-Identifier: MIT OR Apache-2.0
//! Convolutions: a product of windows and filters.

use super::window::{image_shape, positions, spatial, SPATIAL};
use super::{update::describe, Array, Mismatch, Op, TensorType, Window};
use super::{NodeId, Record};
use crate::{DType, Precision, Shape};

/// `(x, weight) -> y`, with `x [samples, channels, spatial...]`, `weight [outputs, channels / groups,
/// taps...]` and `y [samples, outputs, places...]`: cross-correlation, as all frameworks name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv {
    /// The window.
    pub window: Window,
    /// Groups into which inputs and outputs are divided; each output sees its group's inputs.
    pub groups: usize,
    /// What both factors are rounded to before they are multiplied.
    pub factors: Precision,
}

/// One product of a convolution: where its factors lie and where it is added to.
struct Tap {
    x: usize,
    weight: usize,
    y: usize,
}

impl Conv {
    /// A convolution that rounds nothing.
    pub fn new(window: Window, groups: usize) -> Self {
        Conv { window, groups, factors: Precision::F32 }
    }

    pub(super) fn infer(self, inputs: &[&TensorType]) -> Result<TensorType, Mismatch> {
        let [x, weight] = inputs else {
            return Err(Mismatch::new("an image and filters", describe(inputs)));
        };
        self.check(&x.shape, &weight.shape, inputs)?;
        let places = self.window.places(&x.shape)?;
        Ok(TensorType::f32(image_shape(&x.shape, weight.shape.dims()[0], places)))
    }

    /// `(dy, weight) -> dx` for images of a shape.
    pub(super) fn infer_input_gradient(
        self,
        inputs: &[&TensorType],
        image: &Shape,
    ) -> Result<TensorType, Mismatch> {
        let [dy, weight] = inputs else {
            return Err(Mismatch::new("a gradient and filters", describe(inputs)));
        };
        let y = self.infer(&[&TensorType::f32(image.clone()), weight])?;
        match **dy == y {
            true => Ok(TensorType::f32(image.clone())),
            false => Err(Mismatch::new(y.to_string(), dy)),
        }
    }

    /// `(x, dy) -> dw` for filters of a shape.
    pub(super) fn infer_weight_gradient(
        self,
        inputs: &[&TensorType],
        filters: &Shape,
    ) -> Result<TensorType, Mismatch> {
        let [x, dy] = inputs else {
            return Err(Mismatch::new("an image and a gradient", describe(inputs)));
        };
        let y = self.infer(&[x, &TensorType::f32(filters.clone())])?;
        match **dy == y {
            true => Ok(TensorType::f32(filters.clone())),
            false => Err(Mismatch::new(y.to_string(), dy)),
        }
    }

    pub(super) fn gradient(
        self,
        graph: &mut dyn Record,
        inputs: &[NodeId],
        dy: NodeId,
    ) -> Result<Vec<Option<NodeId>>, Mismatch> {
        let (image, filters) = (graph.shape(inputs[0]).clone(), graph.shape(inputs[1]).clone());
        let dx = graph.add(Op::ConvInputGrad(self, image), &[dy, inputs[1]])?;
        let dw = graph.add(Op::ConvWeightGrad(self, filters), &[inputs[0], dy])?;
        Ok(vec![Some(dx), Some(dw)])
    }

    /// The gradient of [`Op::ConvInputGrad`], which is a transposed convolution's forward pass.
    pub(super) fn gradient_of_input_gradient(
        self,
        graph: &mut dyn Record,
        inputs: &[NodeId],
        dy: NodeId,
    ) -> Result<Vec<Option<NodeId>>, Mismatch> {
        let filters = graph.shape(inputs[1]).clone();
        let dx = graph.add(Op::Conv(self), &[dy, inputs[1]])?;
        let dw = graph.add(Op::ConvWeightGrad(self, filters), &[dy, inputs[0]])?;
        Ok(vec![Some(dx), Some(dw)])
    }

    pub(super) fn eval(self, x: &Array, weight: &Array) -> Array {
        let places = self.window.places(&x.shape).unwrap_or_default();
        let mut y = Array::zeros(&image_shape(&x.shape, weight.shape.dims()[0], places));
        let (x, weight) = (&self.rounded(x), &self.rounded(weight));
        let shape = y.shape.clone();
        self.taps(&x.shape, &weight.shape, &shape, |tap| {
            y.data[tap.y] += x.data[tap.x] * weight.data[tap.weight];
        });
        y
    }

    pub(super) fn eval_input_gradient(self, image: &Shape, dy: &Array, weight: &Array) -> Array {
        let mut dx = Array::zeros(image);
        let (dy, weight) = (&self.rounded(dy), &self.rounded(weight));
        self.taps(image, &weight.shape, &dy.shape, |tap| {
            dx.data[tap.x] += dy.data[tap.y] * weight.data[tap.weight];
        });
        dx
    }

    pub(super) fn eval_weight_gradient(self, filters: &Shape, x: &Array, dy: &Array) -> Array {
        let mut dw = Array::zeros(filters);
        let (x, dy) = (&self.rounded(x), &self.rounded(dy));
        self.taps(&x.shape, filters, &dy.shape, |tap| {
            dw.data[tap.weight] += x.data[tap.x] * dy.data[tap.y];
        });
        dw
    }

    fn check(self, x: &Shape, weight: &Shape, inputs: &[&TensorType]) -> Result<(), Mismatch> {
        let kernel = &self.window.kernel[SPATIAL - x.rank().saturating_sub(2).min(SPATIAL)..];
        let fits = (3..=5).contains(&x.rank())
            && weight.rank() == x.rank()
            && weight.dims()[2..] == *kernel
            && weight.dims()[1].checked_mul(self.groups) == Some(x.dims()[1])
            && weight.dims()[0].is_multiple_of(self.groups)
            && inputs.iter().all(|ty| ty.dtype == DType::F32);
        let expected = || {
            let own = weight.dims().get(1).copied().unwrap_or(0);
            let channels = own.saturating_mul(self.groups);
            format!("an image with {channels} channels and {} spatial extents", kernel.len())
        };
        fits.then_some(()).ok_or_else(|| Mismatch::new(expected(), describe(inputs)))
    }

    fn rounded(self, factor: &Array) -> Array {
        match self.factors {
            Precision::F32 => factor.clone(),
            precision => factor.map(|value| f64::from(precision.round(value as f32))),
        }
    }

    /// Hands out every product.
    fn taps(self, x: &Shape, weight: &Shape, y: &Shape, mut take: impl FnMut(Tap)) {
        let (extents, places) = (spatial(x), spatial(y));
        let plane: usize = extents.iter().product();
        let (inputs, outputs) = (weight.dims()[1], y.dims()[1] / self.groups);
        let mut at = 0;
        for sample in 0..y.samples() {
            for output in 0..y.dims()[1] {
                let first_input = output / outputs * inputs;
                for place in positions(places) {
                    for (tap, position) in positions(self.window.kernel).enumerate() {
                        let Some(source) = self.window.source(extents, place, position) else {
                            continue;
                        };
                        for input in 0..inputs {
                            let channel = sample * x.dims()[1] + first_input + input;
                            take(Tap {
                                x: channel * plane + source,
                                weight: (output * inputs + input) * self.window.taps() + tap,
                                y: at,
                            });
                        }
                    }
                    at += 1;
                }
            }
        }
    }
}
