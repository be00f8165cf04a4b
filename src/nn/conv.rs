// SPDX-License-Identifier: MIT OR Apache-2.0
//! Convolutional layers.

use super::{Bias, Init, Module, Param, Scope};
use crate::graph::{LayerPath, Var};
use crate::op::{self, Mismatch, Op, Rounding, Window, SPATIAL};

/// Convolution over one spatial extent, as `torch.nn.Conv1d`.
pub type Conv1d = Conv<1>;
/// Convolution over images, as `torch.nn.Conv2d`.
pub type Conv2d = Conv<2>;
/// Convolution over volumes, as `torch.nn.Conv3d`.
pub type Conv3d = Conv<3>;

/// Cross-correlation of an image with learned filters, plus a bias, as `torch.nn.Conv1d` to `Conv3d`.
///
/// # Shapes
/// `x`: `[samples, inputs, spatial...]` with `N` spatial extents; `y`: `[samples, outputs,
/// places...]`. Parameters: `weight [outputs, inputs / groups, kernel...]`, `bias [outputs]`, both
/// uniform over `±1/sqrt(inputs / groups * taps)`.
///
/// # Errors
/// Arguments that do not fit together come back from [`Net::new`](crate::Net::new), an input of
/// another shape, or smaller than the kernel, from tracing, both with the layer's path.
///
/// ```
/// use kiln::nn::{Conv2d, ConvOptions, Module, Padding};
/// use kiln::{Device, Net, Seed, Tensor};
///
/// let options = ConvOptions { padding: Padding::Same, ..ConvOptions::default() };
/// let mut net = Net::new(Device::cpu(), Seed(7), |p| {
///     Conv2d::with_options(&p.at("conv1"), 3, 8, [3, 3], options)
/// })?;
/// let y = net.eval().forward(&Tensor::zeros([5, 3, 12, 10]))?;
/// assert_eq!(y.shape().dims(), [5, 8, 12, 10]);
/// # Ok::<(), kiln::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Conv<const N: usize> {
    layer: LayerPath,
    weight: Param,
    bias: Option<Param>,
    conv: op::Conv,
    inputs: usize,
}

/// What a convolution can be told besides channels and kernel; PyTorch's defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvOptions<const N: usize> {
    /// Distance between places of the window.
    pub stride: [usize; N],
    /// Zeros around the image.
    pub padding: Padding<N>,
    /// Distance between taps of the window.
    pub dilation: [usize; N],
    /// Groups into which inputs and outputs are divided; each output sees its group's inputs.
    pub groups: usize,
    /// Whether a bias is added.
    pub bias: Bias,
}

/// Zeros around an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Padding<const N: usize> {
    /// This many on either side of each extent.
    Zeros([usize; N]),
    /// As many as keep the extents, for stride 1; the odd one comes last.
    Same,
}

impl<const N: usize> Default for ConvOptions<N> {
    fn default() -> Self {
        ConvOptions {
            stride: [1; N],
            padding: Padding::Zeros([0; N]),
            dilation: [1; N],
            groups: 1,
            bias: Bias::Added,
        }
    }
}

impl<const N: usize> Conv<N> {
    /// A convolution from `inputs` to `outputs` channels with a bias, stride 1 and no padding.
    pub fn new(p: &Scope, inputs: usize, outputs: usize, kernel: [usize; N]) -> Self {
        Self::with_options(p, inputs, outputs, kernel, ConvOptions::default())
    }

    /// A convolution from `inputs` to `outputs` channels.
    pub fn with_options(
        p: &Scope,
        inputs: usize,
        outputs: usize,
        kernel: [usize; N],
        options: ConvOptions<N>,
    ) -> Self {
        let groups = check(p, inputs, outputs, kernel, &options);
        let mut dims = vec![outputs, inputs / groups];
        dims.extend(kernel);
        let fan_in =
            dims[1..].iter().fold(1usize, |product, extent| product.saturating_mul(*extent));
        let init = Init::fan_in(fan_in);
        let weight = p.parameter("weight", dims, init);
        let bias = match options.bias {
            Bias::Added => Some(p.parameter("bias", [outputs], init)),
            Bias::Absent => None,
        };
        let conv = op::Conv::new(window(kernel, &options), groups);
        Conv { layer: p.layer(kind(N)), weight, bias, conv, inputs }
    }
}

impl<const N: usize> Module for Conv<N> {
    fn forward(&self, x: &Var) -> Var {
        x.within(&self.layer, |x| {
            let Some(shape) = x.shape() else { return x.clone() };
            if shape.rank() != N + 2 || shape.dims()[1] != self.inputs {
                let spatial = ["length", "height, width", "depth, height, width"];
                let spatial = spatial.get(N - 1).copied().unwrap_or("spatial...");
                let expected = format!("input of shape [samples, {}, {spatial}]", self.inputs);
                return x.mistake("conv", Mismatch::new(expected, &shape));
            }
            let y = x.apply(Op::Conv(self.conv), &[&x.parameter(&self.weight)]);
            match &self.bias {
                Some(bias) => {
                    let mut per_channel = vec![bias.shape().elements()];
                    per_channel.extend([1; N]);
                    &y + &x.parameter(bias).reshape(per_channel)
                }
                None => y,
            }
        })
    }
}

/// Reports what does not fit together; the number of groups to go on with.
fn check<const N: usize>(
    p: &Scope,
    inputs: usize,
    outputs: usize,
    kernel: [usize; N],
    options: &ConvOptions<N>,
) -> usize {
    for (what, numbers) in
        [("kernel", kernel), ("stride", options.stride), ("dilation", options.dilation)]
    {
        if numbers.contains(&0) {
            p.reject(what, "numbers of 1 or more", format!("{numbers:?}"));
        }
    }
    if options.padding == Padding::Same && options.stride != [1; N] {
        p.reject(
            "stride",
            "1 with padding that keeps the extents",
            format!("{:?}", options.stride),
        );
    }
    let groups = options.groups;
    let fits = groups > 0 && inputs.is_multiple_of(groups) && outputs.is_multiple_of(groups);
    if !fits {
        let expected = format!("a number that divides {inputs} inputs and {outputs} outputs");
        p.reject("groups", &expected, groups);
        return 1;
    }
    groups
}

fn window<const N: usize>(kernel: [usize; N], options: &ConvOptions<N>) -> Window {
    let mut window = Window {
        kernel: [1; SPATIAL],
        stride: [1; SPATIAL],
        dilation: [1; SPATIAL],
        padding: [[0; 2]; SPATIAL],
        rounding: Rounding::Floor,
    };
    for own in 0..N {
        let axis = SPATIAL - N + own;
        // What is 0 was rejected; the window must not divide by it on the way there.
        window.kernel[axis] = kernel[own].max(1);
        window.stride[axis] = options.stride[own].max(1);
        window.dilation[axis] = options.dilation[own].max(1);
        window.padding[axis] = match options.padding {
            Padding::Zeros(zeros) => [zeros[own]; 2],
            Padding::Same => {
                let all = window.reach(axis) - 1;
                [all / 2, all - all / 2]
            }
        };
    }
    window
}

fn kind(spatial: usize) -> &'static str {
    match spatial {
        1 => "Conv1d",
        2 => "Conv2d",
        _ => "Conv3d",
    }
}
