// SPDX-License-Identifier: MIT OR Apache-2.0
//! Zeros around images.

use super::Module;
use crate::graph::Var;
use crate::op::Mismatch;

/// Zeros around an image, as `torch.nn.ZeroPad2d`. To take pixels away, use [`Var::slice`].
///
/// # Shapes
/// `x`: `[samples, channels, height, width]`; `y`: `[samples, channels, top + height + bottom, left + width +
/// right]`.
///
/// # Errors
/// An input of another rank, and a result of too many elements, come back from tracing.
///
/// ```
/// use kiln::nn::{Module, ZeroPad2d};
/// use kiln::{Device, Net, Seed, Tensor};
///
/// let mut net = Net::new(Device::cpu(), Seed(7), |_| ZeroPad2d::new([1, 0, 0, 1]))?;
/// let x = Tensor::new([1, 1, 1, 2], vec![1., 2.])?;
/// assert_eq!(net.eval().forward(&x)?.values()?, [0., 1., 2., 0., 0., 0.]);
/// # Ok::<(), kiln::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ZeroPad2d {
    /// Zeros on the left, on the right, above and below.
    pub padding: [usize; 4],
}

impl ZeroPad2d {
    /// So many zeros on the left, on the right, above and below.
    pub fn new(padding: [usize; 4]) -> Self {
        ZeroPad2d { padding }
    }
}

impl Module for ZeroPad2d {
    fn forward(&self, x: &Var) -> Var {
        match x.shape() {
            Some(shape) if shape.rank() != 4 => {
                let expected = "input of shape [samples, channels, height, width]";
                x.mistake("zero_pad", Mismatch::new(expected, &shape))
            }
            _ => {
                let [left, right, above, below] = self.padding;
                x.pad(2, above, below).pad(3, left, right)
            }
        }
    }
}
