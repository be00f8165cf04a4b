// SPDX-License-Identifier: MIT OR Apache-2.0
//! The fully connected layer.

use super::{Bias, Init, Module, Param, Scope};
use crate::graph::{LayerPath, Var};
use crate::op::Mismatch;
use crate::Shape;

/// `y = x W^T + b`, as `torch.nn.Linear`.
///
/// # Shapes
/// `x`: `[..., inputs]` of rank 2 or more; `y`: `[..., outputs]`. Parameters: `weight [outputs,
/// inputs]`, `bias [outputs]`, both uniform over `±1/sqrt(inputs)`.
///
/// # Errors
/// A wrong innermost extent comes back from tracing with the layer's path.
///
/// ```
/// use kiln::nn::{Linear, Module};
/// use kiln::{Device, Net, Seed, Tensor};
///
/// let mut net = Net::new(Device::cpu(), Seed(7), |p| Linear::new(&p.at("fc"), 3, 2))?;
/// let y = net.eval().forward(&Tensor::zeros([5, 3]))?;
/// assert_eq!(y.shape().dims(), [5, 2]);
/// # Ok::<(), kiln::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Linear {
    layer: LayerPath,
    weight: Param,
    bias: Option<Param>,
}

impl Linear {
    /// A layer from `inputs` to `outputs` features, with a bias.
    pub fn new(p: &Scope, inputs: usize, outputs: usize) -> Self {
        Self::with_bias(p, inputs, outputs, Bias::Added)
    }

    /// A layer from `inputs` to `outputs` features, with or without a bias.
    pub fn with_bias(p: &Scope, inputs: usize, outputs: usize, bias: Bias) -> Self {
        let init = Init::fan_in(inputs);
        let weight = p.linear_weight("weight", outputs, inputs, init);
        let bias = match bias {
            Bias::Added => Some(p.parameter("bias", [outputs], init)),
            Bias::Absent => None,
        };
        Linear { layer: p.layer("Linear"), weight, bias }
    }
}

impl Module for Linear {
    fn forward(&self, x: &Var) -> Var {
        x.within(&self.layer, |x| {
            let Some(shape) = x.shape() else { return x.clone() };
            let [outputs, inputs] = [self.weight.shape().dims()[0], self.weight.shape().dims()[1]];
            if shape.rank() < 2 || shape.last() != inputs {
                let expected = format!("input of shape [..., {inputs}]");
                return x.mistake("linear", Mismatch::new(expected, &shape));
            }
            let matrix = x.reshape([shape.rows(), inputs]);
            let mut y = matrix.matmul_transposed(&x.parameter(&self.weight));
            if let Some(bias) = &self.bias {
                y = &y + &x.parameter(bias);
            }
            let mut dims = shape.dims().to_vec();
            *dims.last_mut().expect("rank checked above") = outputs;
            y.reshape(Shape::from(dims))
        })
    }
}
