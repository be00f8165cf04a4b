// SPDX-License-Identifier: MIT OR Apache-2.0
//! Transposed convolution.

use super::{Bias, Init, Module, Param, Scope};
use crate::graph::{LayerPath, Var};
use crate::op::{self, Mismatch, Op, Rounding, Window, SPATIAL};
use crate::Shape;

/// What a 1-d convolution's gradient computes, as `torch.nn.ConvTranspose1d`.
pub type ConvTranspose1d = ConvTranspose<1>;
/// What a convolution of images computes as its gradient, as `torch.nn.ConvTranspose2d`.
pub type ConvTranspose2d = ConvTranspose<2>;
/// What a convolution of volumes computes as its gradient, as `torch.nn.ConvTranspose3d`.
pub type ConvTranspose3d = ConvTranspose<3>;

/// The gradient of a convolution with respect to its image as a layer of its own, plus a bias, as
/// `torch.nn.ConvTranspose1d` to `ConvTranspose3d`: each element of `x` adds a multiple of the filters to
/// `y`.
///
/// # Shapes
/// `x`: `[samples, inputs, spatial...]` with `N` spatial extents; `y`: `[samples, outputs, spatial...]`, where
/// an extent `n` becomes `(n - 1) stride - 2 padding + dilation (kernel - 1) + output_padding + 1`.
/// Parameters: `weight [inputs, outputs / groups, kernel...]`, `bias [outputs]`, both uniform over
/// `±1/sqrt(outputs / groups * taps)`, as PyTorch has it.
///
/// # Errors
/// Arguments that do not fit together come back from [`Net::new`](crate::Net::new), an input of another
/// shape, or a result without elements, from tracing, both with the layer's path.
///
/// ```
/// use kiln::nn::{ConvTranspose2d, ConvTransposeOptions};
/// use kiln::{Device, Net, Seed, Tensor};
///
/// let options = ConvTransposeOptions { stride: [2, 2], ..ConvTransposeOptions::default() };
/// let mut net = Net::new(Device::cpu(), Seed(7), |p| {
///     ConvTranspose2d::with_options(&p.at("up"), 8, 4, [2, 2], options)
/// })?;
/// let y = net.eval().forward(&Tensor::zeros([5, 8, 6, 7]))?;
/// assert_eq!(y.shape().dims(), [5, 4, 12, 14]);
/// # Ok::<(), kiln::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct ConvTranspose<const N: usize> {
    layer: LayerPath,
    weight: Param,
    bias: Option<Param>,
    conv: op::Conv,
    channels: [usize; 2],
    output_padding: [usize; N],
}

/// What a transposed convolution can be told besides channels and kernel; PyTorch's defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvTransposeOptions<const N: usize> {
    /// Distance in `y` between neighbours in `x`.
    pub stride: [usize; N],
    /// Elements that are cut off on either side of each extent.
    pub padding: [usize; N],
    /// Elements that are added at the end of each extent, fewer than the stride.
    pub output_padding: [usize; N],
    /// Distance between taps of the window.
    pub dilation: [usize; N],
    /// Groups into which inputs and outputs are divided; each input adds to its group's outputs.
    pub groups: usize,
    /// Whether a bias is added.
    pub bias: Bias,
}

impl<const N: usize> Default for ConvTransposeOptions<N> {
    fn default() -> Self {
        ConvTransposeOptions {
            stride: [1; N],
            padding: [0; N],
            output_padding: [0; N],
            dilation: [1; N],
            groups: 1,
            bias: Bias::Added,
        }
    }
}

impl<const N: usize> ConvTranspose<N> {
    /// A transposed convolution from `inputs` to `outputs` channels with a bias, stride 1 and no padding.
    pub fn new(p: &Scope, inputs: usize, outputs: usize, kernel: [usize; N]) -> Self {
        Self::with_options(p, inputs, outputs, kernel, ConvTransposeOptions::default())
    }

    /// A transposed convolution from `inputs` to `outputs` channels.
    pub fn with_options(
        p: &Scope,
        inputs: usize,
        outputs: usize,
        kernel: [usize; N],
        options: ConvTransposeOptions<N>,
    ) -> Self {
        let groups = check(p, [inputs, outputs], kernel, &options);
        let mut dims = vec![inputs, outputs / groups];
        dims.extend(kernel);
        let fan = dims[1..].iter().fold(1usize, |product, extent| product.saturating_mul(*extent));
        let init = Init::fan_in(fan);
        let weight = p.parameter("weight", dims, init);
        let bias = match options.bias {
            Bias::Added => Some(p.parameter("bias", [outputs], init)),
            Bias::Absent => None,
        };
        let kinds = ["ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d"];
        ConvTranspose {
            layer: p.layer(kinds.get(N - 1).copied().unwrap_or("ConvTranspose")),
            weight,
            bias,
            conv: op::Conv::new(window(kernel, &options), groups),
            channels: [inputs, outputs],
            output_padding: options.output_padding,
        }
    }
}

impl<const N: usize> Module for ConvTranspose<N> {
    fn forward(&self, x: &Var) -> Var {
        x.within(&self.layer, |x| {
            let Some(shape) = x.shape() else { return x.clone() };
            let [inputs, outputs] = self.channels;
            if shape.rank() != N + 2 || shape.dims()[1] != inputs {
                let spatial = ["length", "height, width", "depth, height, width"];
                let spatial = spatial.get(N - 1).copied().unwrap_or("spatial...");
                let expected = format!("input of shape [samples, {inputs}, {spatial}]");
                return x.mistake("conv_transpose", Mismatch::new(expected, &shape));
            }
            let image = match self.image(&shape) {
                Ok(image) => image,
                Err(mismatch) => return x.mistake("conv_transpose", mismatch),
            };
            let op = Op::ConvInputGrad(self.conv, image);
            let y = x.apply(op, &[&x.parameter(&self.weight)]);
            match &self.bias {
                Some(bias) => {
                    let mut per_channel = vec![outputs];
                    per_channel.extend([1; N]);
                    &y + &x.parameter(bias).reshape(per_channel)
                }
                None => y,
            }
        })
    }
}

impl<const N: usize> ConvTranspose<N> {
    /// The image whose convolution has the shape of `x`.
    fn image(&self, x: &Shape) -> Result<Shape, Mismatch> {
        let mut dims = vec![x.samples(), self.channels[1]];
        for own in 0..N {
            let (axis, window) = (SPATIAL - N + own, &self.conv.window);
            let spread = x.dims()[2 + own].saturating_sub(1).saturating_mul(window.stride[axis]);
            let padded =
                spread.saturating_add(window.reach(axis)).saturating_add(self.output_padding[own]);
            let padding = window.padding[axis].iter().fold(0usize, |sum, p| sum.saturating_add(*p));
            match padded.checked_sub(padding) {
                Some(extent) if extent > 0 && x.dims()[2 + own] > 0 => dims.push(extent),
                _ => {
                    let expected =
                        format!("an image of which padding of {padding} leaves something");
                    return Err(Mismatch::new(expected, x));
                }
            }
        }
        let image = Shape::from(dims);
        image.clone().allowed()?;
        Ok(image)
    }
}

/// Reports what does not fit together; the number of groups to go on with.
fn check<const N: usize>(
    p: &Scope,
    [inputs, outputs]: [usize; 2],
    kernel: [usize; N],
    options: &ConvTransposeOptions<N>,
) -> usize {
    for (what, numbers) in
        [("kernel", kernel), ("stride", options.stride), ("dilation", options.dilation)]
    {
        if numbers.contains(&0) {
            p.reject(what, "numbers of 1 or more", format!("{numbers:?}"));
        }
    }
    if (0..N).any(|axis| options.output_padding[axis] >= options.stride[axis].max(1)) {
        let expected = format!("numbers below the stride {:?}", options.stride);
        p.reject("output_padding", &expected, format!("{:?}", options.output_padding));
    }
    let groups = options.groups;
    if groups == 0 || !inputs.is_multiple_of(groups) || !outputs.is_multiple_of(groups) {
        let expected = format!("a number that divides {inputs} inputs and {outputs} outputs");
        p.reject("groups", &expected, groups);
        return 1;
    }
    groups
}

fn window<const N: usize>(kernel: [usize; N], options: &ConvTransposeOptions<N>) -> Window {
    let mut window = Window {
        kernel: [1; SPATIAL],
        stride: [1; SPATIAL],
        dilation: [1; SPATIAL],
        padding: [[0; 2]; SPATIAL],
        rounding: Rounding::Floor,
    };
    for (own, side) in kernel.into_iter().enumerate() {
        let axis = SPATIAL - N + own;
        // What is 0 was rejected; the window must not divide by it on the way there.
        window.kernel[axis] = side.max(1);
        window.stride[axis] = options.stride[own].max(1);
        window.dilation[axis] = options.dilation[own].max(1);
        window.padding[axis] = [options.padding[own]; 2];
    }
    window
}
