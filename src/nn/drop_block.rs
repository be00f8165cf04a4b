// SPDX-License-Identifier: MIT OR Apache-2.0
//! Dropout of squares of pixels.

use super::dropout::check_rate;
use super::{MaxPool2d, Module, Scope};
use crate::graph::{LayerPath, Var};
use crate::op::{DropRate, Drops, Mismatch, Op, When};

/// Added to the number of pixels that are kept.
const EPS: f64 = 1e-6;

/// Drops squares of pixels of each feature map, about a share `p` of all pixels, and scales the others so
/// that the batch keeps its sum; does nothing in eval mode. As `torchvision.ops.DropBlock2d` (Ghiasi et
/// al. 2018, arXiv:1810.12890).
///
/// Where squares begin is drawn as [`Dropout`](super::Dropout) draws. The factor is that of all pixels of a
/// batch over those that are kept; micro-batches count each their own, so only their masks are those of the
/// whole batch. The mask takes the memory of one feature map per channel.
///
/// # Shapes
/// `[samples, channels, height, width]`. Squares that are larger than an image are as large as it.
///
/// # Errors
/// `p` outside `[0, 1]` or NaN, and squares of 0 pixels, come back from the network's constructor, an input
/// of another rank from tracing.
///
/// ```
/// use kiln::nn::DropBlock2d;
/// use kiln::{Device, Net, Seed, Tensor};
///
/// let mut net = Net::new(Device::cpu(), Seed(7), |p| DropBlock2d::new(&p.at("block"), 0.2, 3))?;
/// let ones = Tensor::new([2, 4, 8, 8], vec![1.0; 512])?;
/// let sum: f32 = net.train().forward(&ones)?.values()?.iter().sum();
/// assert!((sum - 512.0).abs() < 0.1);
/// # Ok::<(), kiln::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct DropBlock2d {
    layer: LayerPath,
    p: f32,
    side: usize,
}

impl DropBlock2d {
    /// A share `p` of pixels in squares of `side` pixels.
    pub fn new(scope: &Scope, p: f32, side: usize) -> Self {
        check_rate(scope, p);
        if side == 0 {
            scope.reject("block_size", "a side of 1 or more", side);
        }
        DropBlock2d { layer: scope.layer("DropBlock2d"), p, side: side.max(1) }
    }
}

impl Module for DropBlock2d {
    fn forward(&self, x: &Var) -> Var {
        x.within(&self.layer, |x| {
            let Some(shape) = x.shape() else { return x.clone() };
            let [samples, channels, height, width] = *shape.dims() else {
                let expected = "input of shape [samples, channels, height, width]";
                return x.mistake("drop_block", Mismatch::new(expected, &shape));
            };
            let side = self.side.min(height).min(width);
            if side == 0 || self.p == 0.0 {
                return x.clone();
            }
            // Squares lie inside the image, so their first pixels are in a smaller one.
            let [rows, columns] = [height - side + 1, width - side + 1];
            let share = (height * width) as f64 / (side * side * rows * columns) as f64;
            let rate = (f64::from(self.p) * share).min(1.0) as f32;
            // Of rank 3, so that the mask counts them in the order in which ones are made.
            let ones = x.leaf(Op::Constant(1.0)).expand([samples, channels, rows * columns]);
            let first = ones.dropout(DropRate::constant(rate), Drops::Elements).eq(0.0);
            let first = first.reshape([samples, channels, rows, columns]);
            // A pixel is dropped if a square begins at it or less than a side before it.
            let beyond = side - 1;
            let first = first.pad(2, beyond, beyond).pad(3, beyond, beyond);
            let mut pool = MaxPool2d::new([side, side]);
            pool.stride = [1, 1];
            let kept = pool.forward(&first).eq(0.0);
            let factor = (kept.sum() + EPS).reciprocal() * shape.elements() as f64;
            let random = kept.where_(x * &factor, 0.0);
            random.apply(Op::ByMode(When::Random), &[x])
        })
    }
}
