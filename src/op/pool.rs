// SPDX-License-Identifier: MIT OR Apache-2.0
//! Pooling: the largest element, or the mean, under a window.

use super::window::{image_shape, positions, spatial, SPATIAL};
use super::{update::describe, Array, Mismatch, Op, TensorType, Window};
use super::{NodeId, Record};
use crate::{DType, Shape};

/// `x -> (y, index)`: the largest element under each place of a window, and its number among the
/// spatial elements of the image. NaN is larger than all numbers; of equal elements the first counts,
/// of several NaNs the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaxPool(pub Window);

/// `x -> y`: the mean under each place of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AvgPool {
    /// The window.
    pub window: Window,
    /// What a sum is divided by.
    pub divisor: Divisor,
}

/// What the sum of a window is divided by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Divisor {
    /// The elements under the window, those of the padding included: `count_include_pad=True`.
    #[default]
    Padded,
    /// The elements of the image under the window.
    Valid,
    /// A number.
    Fixed(usize),
}

impl MaxPool {
    pub(super) fn infer(self, inputs: &[&TensorType]) -> Result<Vec<TensorType>, Mismatch> {
        let y = pooled(&self.0, inputs)?;
        Ok(vec![TensorType::f32(y.clone()), TensorType::i32(y)])
    }

    /// `(index, dy) -> dx` for images of a shape.
    pub(super) fn infer_gradient(
        self,
        inputs: &[&TensorType],
        image: &Shape,
    ) -> Result<TensorType, Mismatch> {
        match inputs {
            [index, dy] if index.dtype == DType::I32 && index.shape == dy.shape => {
                Ok(TensorType::f32(image.clone()))
            }
            _ => Err(Mismatch::new("indices and their gradients", describe(inputs))),
        }
    }

    pub(super) fn gradient(
        self,
        graph: &mut dyn Record,
        node: NodeId,
        dy: NodeId,
    ) -> Result<NodeId, Mismatch> {
        let index = graph.result(node, 1)?;
        let image = graph.shape(graph.inputs(node)[0]).clone();
        graph.add(Op::MaxPoolGrad(self, image), &[index, dy])
    }

    pub(super) fn eval(self, x: &Array) -> Vec<Array> {
        let (mut values, mut indices) = (Vec::new(), Vec::new());
        let shape = each_window(&self.0, x, |plane, _, sources| {
            let mut largest = (f64::NEG_INFINITY, None);
            for source in sources.into_iter().flatten() {
                let value = plane[source];
                if largest.1.is_none() || value > largest.0 || value.is_nan() {
                    largest = (value, Some(source));
                }
            }
            values.push(largest.0);
            indices.push(largest.1.unwrap_or(0) as f64);
        });
        vec![Array::new(shape.clone(), values), Array::new(shape, indices)]
    }

    pub(super) fn eval_gradient(self, image: &Shape, index: &Array, dy: &Array) -> Array {
        let mut dx = Array::zeros(image);
        let plane: usize = spatial(image).iter().product();
        let places: usize = spatial(&index.shape).iter().product();
        for (place, (index, dy)) in index.data.iter().zip(&dy.data).enumerate() {
            dx.data[place / places * plane + *index as usize] += dy;
        }
        dx
    }
}

impl AvgPool {
    pub(super) fn infer(self, inputs: &[&TensorType]) -> Result<TensorType, Mismatch> {
        pooled(&self.window, inputs).map(TensorType::f32)
    }

    /// `dy -> dx` for images of a shape.
    pub(super) fn infer_gradient(
        self,
        inputs: &[&TensorType],
        image: &Shape,
    ) -> Result<TensorType, Mismatch> {
        let places = self.window.places(image)?;
        match inputs {
            [dy] if spatial(&dy.shape) == places => Ok(TensorType::f32(image.clone())),
            _ => Err(Mismatch::new(format!("a gradient for {places:?}"), describe(inputs))),
        }
    }

    pub(super) fn eval(self, x: &Array) -> Array {
        let mut values = Vec::new();
        let extents = spatial(&x.shape);
        let shape = each_window(&self.window, x, |plane, place, sources| {
            let sum: f64 = sources.into_iter().flatten().map(|source| plane[source]).sum();
            values.push(sum / self.divisor_at(extents, place));
        });
        Array::new(shape, values)
    }

    pub(super) fn eval_gradient(self, image: &Shape, dy: &Array) -> Array {
        let mut dx = Array::zeros(image);
        let extents = spatial(image);
        let plane: usize = extents.iter().product();
        let places = spatial(&dy.shape);
        let count: usize = places.iter().product();
        for (index, dy) in dy.data.iter().enumerate() {
            let place = positions(places).nth(index % count).unwrap_or_default();
            let share = dy / self.divisor_at(extents, place);
            for tap in positions(self.window.kernel) {
                if let Some(source) = self.window.source(extents, place, tap) {
                    dx.data[index / count * plane + source] += share;
                }
            }
        }
        dx
    }

    /// What the sum at each place is divided by, for images of a shape.
    pub(crate) fn divisors(self, image: &Shape) -> Vec<f32> {
        let places = self.window.places(image).unwrap_or_default();
        let extents = spatial(image);
        positions(places).map(|place| self.divisor_at(extents, place) as f32).collect()
    }

    /// What the sum at a place is divided by.
    fn divisor_at(self, extents: [usize; 3], place: [usize; 3]) -> f64 {
        let window = &self.window;
        let covered = |axis: usize| {
            let [before, after] = match self.divisor {
                Divisor::Padded => window.padding[axis],
                _ => [0, 0],
            };
            let from =
                (place[axis] * window.stride[axis]) as isize - window.padding[axis][0] as isize;
            let first = from.max(-(before as isize));
            // What hangs over beyond the padding is not counted.
            let end = (from + window.kernel[axis] as isize).min((extents[axis] + after) as isize);
            (end - first).max(0) as usize
        };
        match self.divisor {
            Divisor::Fixed(divisor) => divisor as f64,
            Divisor::Padded | Divisor::Valid => (covered(0) * covered(1) * covered(2)) as f64,
        }
    }
}

fn pooled(window: &Window, inputs: &[&TensorType]) -> Result<Shape, Mismatch> {
    match inputs {
        [x] if x.dtype == DType::F32 && (3..=5).contains(&x.shape.rank()) => {
            Ok(image_shape(&x.shape, x.shape.dims()[1], window.places(&x.shape)?))
        }
        _ => Err(Mismatch::new("an image of rank 3 to 5", describe(inputs))),
    }
}

/// Hands out, for each place of the window in each plane, the plane, the place and the taps' sources.
/// Returns the shape of the results.
fn each_window(
    window: &Window,
    x: &Array,
    mut take: impl FnMut(&[f64], [usize; SPATIAL], Vec<Option<usize>>),
) -> Shape {
    let extents = spatial(&x.shape);
    let places = window.places(&x.shape).unwrap_or_default();
    for plane in x.data.chunks_exact(extents.iter().product::<usize>().max(1)) {
        for place in positions(places) {
            let source = |tap| window.source(extents, place, tap);
            take(plane, place, positions(window.kernel).map(source).collect());
        }
    }
    image_shape(&x.shape, x.shape.dims()[1], places)
}
