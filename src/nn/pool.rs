// SPDX-License-Identifier: MIT OR Apache-2.0
//! Pooling layers.

use super::Module;
use crate::graph::Var;
use crate::op::{self, Divisor, Mismatch, Op, Rounding, Window, SPATIAL};

/// The largest of neighbours on a line, as `torch.nn.MaxPool1d`.
pub type MaxPool1d = MaxPool<1>;
/// The largest of neighbours in an image, as `torch.nn.MaxPool2d`.
pub type MaxPool2d = MaxPool<2>;
/// The largest of neighbours in a volume, as `torch.nn.MaxPool3d`.
pub type MaxPool3d = MaxPool<3>;
/// The mean of neighbours on a line, as `torch.nn.AvgPool1d`.
pub type AvgPool1d = AvgPool<1>;
/// The mean of neighbours in an image, as `torch.nn.AvgPool2d`.
pub type AvgPool2d = AvgPool<2>;
/// The mean of neighbours in a volume, as `torch.nn.AvgPool3d`.
pub type AvgPool3d = AvgPool<3>;

/// The largest element under each place of a window, as `torch.nn.MaxPool1d` to `MaxPool3d`. NaN is
/// larger than any number; of equal elements the first takes the gradient. Padding never wins.
///
/// # Shapes
/// `x`: `[samples, channels, spatial...]` with `N` spatial extents; `y`: `[samples, channels,
/// places...]`.
///
/// # Errors
/// A window that does not fit comes back from tracing: padding of more than half a kernel, an image
/// smaller than the window, or a place all of whose taps may lie in the padding.
///
/// ```
/// use kiln::nn::{MaxPool2d, Module};
/// use kiln::{Device, Net, Seed, Tensor};
///
/// let mut net = Net::new(Device::cpu(), Seed(7), |_| MaxPool2d::new([2, 2]))?;
/// let x = Tensor::new([1, 1, 2, 4], vec![1., 2., 0., 0., 3., 0., 0., 5.])?;
/// assert_eq!(net.eval().forward(&x)?.values()?, [3., 5.]);
/// # Ok::<(), kiln::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaxPool<const N: usize> {
    /// Extents of the window.
    pub kernel: [usize; N],
    /// Distance between its places.
    pub stride: [usize; N],
    /// Elements around the image that never win.
    pub padding: [usize; N],
    /// Distance between its taps.
    pub dilation: [usize; N],
    /// Whether its last place may hang over the end.
    pub rounding: Rounding,
}

/// The mean under each place of a window, as `torch.nn.AvgPool1d` to `AvgPool3d`.
///
/// # Shapes
/// As [`MaxPool`].
///
/// # Errors
/// As [`MaxPool`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AvgPool<const N: usize> {
    /// Extents of the window.
    pub kernel: [usize; N],
    /// Distance between its places.
    pub stride: [usize; N],
    /// Zeros around the image.
    pub padding: [usize; N],
    /// Whether its last place may hang over the end.
    pub rounding: Rounding,
    /// What sums are divided by.
    pub divisor: Divisor,
}

impl<const N: usize> MaxPool<N> {
    /// Windows side by side.
    pub fn new(kernel: [usize; N]) -> Self {
        let rounding = Rounding::Floor;
        MaxPool { kernel, stride: kernel, padding: [0; N], dilation: [1; N], rounding }
    }
}

impl<const N: usize> AvgPool<N> {
    /// Windows side by side.
    pub fn new(kernel: [usize; N]) -> Self {
        let (rounding, divisor) = (Rounding::Floor, Divisor::Padded);
        AvgPool { kernel, stride: kernel, padding: [0; N], rounding, divisor }
    }
}

impl<const N: usize> Module for MaxPool<N> {
    fn forward(&self, x: &Var) -> Var {
        let window = window(self.kernel, self.stride, self.padding, self.dilation, self.rounding);
        match window.and_then(|window| check::<N>(x, window)) {
            Ok(window) => x.apply(Op::MaxPool(op::MaxPool(window)), &[]),
            Err(mismatch) => x.mistake("max_pool", mismatch),
        }
    }
}

impl<const N: usize> Module for AvgPool<N> {
    fn forward(&self, x: &Var) -> Var {
        let window = window(self.kernel, self.stride, self.padding, [1; N], self.rounding);
        let divisor = match self.divisor {
            Divisor::Fixed(0) => Err(Mismatch::new("a divisor of 1 or more", 0)),
            divisor => Ok(divisor),
        };
        let pool = window
            .and_then(|window| check::<N>(x, window))
            .and_then(|window| divisor.map(|divisor| op::AvgPool { window, divisor }));
        match pool {
            Ok(pool) => x.apply(Op::AvgPool(pool), &[]),
            Err(mismatch) => x.mistake("avg_pool", mismatch),
        }
    }
}

fn window<const N: usize>(
    kernel: [usize; N],
    stride: [usize; N],
    padding: [usize; N],
    dilation: [usize; N],
    rounding: Rounding,
) -> Result<Window, Mismatch> {
    let mut window = Window {
        kernel: [1; SPATIAL],
        stride: [1; SPATIAL],
        dilation: [1; SPATIAL],
        padding: [[0; 2]; SPATIAL],
        rounding,
    };
    for own in 0..N {
        let axis = SPATIAL - N + own;
        for (what, number) in
            [("kernel", kernel[own]), ("stride", stride[own]), ("dilation", dilation[own])]
        {
            if number == 0 {
                return Err(Mismatch::new(format!("a {what} of 1 or more"), 0));
            }
        }
        if padding[own] > kernel[own] / 2 {
            let expected = format!("padding of at most {}, half the kernel", kernel[own] / 2);
            return Err(Mismatch::new(expected, padding[own]));
        }
        window.kernel[axis] = kernel[own];
        window.stride[axis] = stride[own];
        window.dilation[axis] = dilation[own];
        window.padding[axis] = [padding[own]; 2];
    }
    Ok(window)
}

/// Whether the window fits the image, with a tap inside it at every place.
fn check<const N: usize>(x: &Var, window: Window) -> Result<Window, Mismatch> {
    let Some(shape) = x.shape() else { return Ok(window) };
    if shape.rank() != N + 2 {
        return Err(Mismatch::new(format!("an image with {N} spatial extents"), &shape));
    }
    match window.has_empty_place(&shape)? {
        true => Err(Mismatch::new("a window with a tap inside the image at every place", &shape)),
        false => Ok(window),
    }
}
