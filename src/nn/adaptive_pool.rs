// SPDX-License-Identifier: MIT OR Apache-2.0
//! Pooling to a size.

use super::{AvgPool2d, Module};
use crate::graph::Var;
use crate::op::{Blend, Mismatch, Op, Term};

/// The means of as many pieces of an image as are asked for, as `torch.nn.AdaptiveAvgPool2d`: piece `i` of
/// `n` along an extent of `size` reaches from `floor(i size / n)` to `ceil((i + 1) size / n)`.
///
/// # Shapes
/// `x`: `[samples, channels, height, width]`; `y`: `[samples, channels, rows, columns]`. `None` keeps an
/// extent.
///
/// # Errors
/// No rows or no columns, an input of another rank and one without pixels come back from tracing.
///
/// ```
/// use kiln::nn::{AdaptiveAvgPool2d, Module};
/// use kiln::{Device, Net, Seed, Tensor};
///
/// let mut net = Net::new(Device::cpu(), Seed(7), |_| AdaptiveAvgPool2d::new(1, 2))?;
/// let x = Tensor::new([1, 1, 1, 3], vec![1., 2., 6.])?;
/// assert_eq!(net.eval().forward(&x)?.values()?, [1.5, 4.0]);
/// # Ok::<(), kiln::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AdaptiveAvgPool2d {
    /// Rows and columns of the result.
    pub size: [Option<usize>; 2],
}

impl AdaptiveAvgPool2d {
    /// A result of so many rows and columns; `None` as many as there are.
    pub fn new(rows: impl Into<Option<usize>>, columns: impl Into<Option<usize>>) -> Self {
        AdaptiveAvgPool2d { size: [rows.into(), columns.into()] }
    }
}

impl Module for AdaptiveAvgPool2d {
    fn forward(&self, x: &Var) -> Var {
        let Some(shape) = x.shape() else { return x.clone() };
        let extents = match *shape.dims() {
            [_, _, height, width] if height > 0 && width > 0 => [height, width],
            _ => {
                let expected = "input of shape [samples, channels, height, width] with pixels";
                return x.mistake("adaptive_avg_pool", Mismatch::new(expected, &shape));
            }
        };
        let size = [0, 1].map(|axis: usize| self.size[axis].unwrap_or(extents[axis]));
        if size.contains(&0) {
            let expected = "a size of 1 or more rows and columns";
            return x.mistake("adaptive_avg_pool", Mismatch::new(expected, format!("{size:?}")));
        }
        if (0..2).all(|axis| extents[axis].is_multiple_of(size[axis])) {
            // Pieces of one size side by side.
            let kernel = [0, 1].map(|axis: usize| extents[axis] / size[axis]);
            return AvgPool2d::new(kernel).forward(x);
        }
        let means = |x: Var, axis: usize| {
            let places = pieces(extents[axis], size[axis]);
            x.apply(Op::Blend(Blend::new(2 + axis, extents[axis], places)), &[])
        };
        means(means(x.clone(), 0), 1)
    }
}

/// The terms of the means of so many pieces of an extent.
fn pieces(extent: usize, count: usize) -> Vec<Vec<Term>> {
    let piece = |index: usize| {
        let (from, to) = (index * extent / count, ((index + 1) * extent).div_ceil(count));
        let weight = 1.0 / (to - from) as f64;
        (from..to).map(|from| Term { from, weight }).collect()
    };
    (0..count).map(piece).collect()
}
