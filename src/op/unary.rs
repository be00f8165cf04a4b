// SPDX-License-Identifier: MIT OR Apache-2.0
//! Functions of one element, with their derivatives.

use super::{Mismatch, Op, TensorType};
use super::{NodeId, Record};
use crate::DType;

/// A function applied to each element.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Unary {
    /// `max(x, 0)`; NaN stays NaN.
    Relu,
    /// `x` if positive, else `slope * x`.
    LeakyRelu(f64),
    /// `x * Phi(x)` with the normal distribution function (Hendrycks & Gimpel 2016,
    /// arXiv:1606.08415).
    Gelu,
    /// GELU by its `tanh` approximation, from the same paper.
    GeluTanh,
    /// `x * sigmoid(x)` (Elfwing et al. 2017, arXiv:1702.03118).
    Silu,
    /// Hyperbolic tangent.
    Tanh,
    /// `1 / (1 + exp(-x))`.
    Sigmoid,
    /// `log(1 + exp(x))`, without overflow.
    Softplus,
    /// Natural exponential.
    Exp,
    /// Natural logarithm.
    Log,
    /// `x * x`.
    Square,
    /// `factor * x`.
    Scale(f64),
}

/// Which value a function's gradient needs from the forward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Saved {
    /// The function's input.
    Input,
    /// The function's output.
    Output,
}

const SQRT_2_OVER_PI: f64 = 0.797_884_560_802_865_4;
const GELU_CUBIC: f64 = 0.044_715;

impl Unary {
    /// Name of the function.
    pub fn name(self) -> &'static str {
        match self {
            Unary::Relu => "relu",
            Unary::LeakyRelu(_) => "leaky_relu",
            Unary::Gelu => "gelu",
            Unary::GeluTanh => "gelu_tanh",
            Unary::Silu => "silu",
            Unary::Tanh => "tanh",
            Unary::Sigmoid => "sigmoid",
            Unary::Softplus => "softplus",
            Unary::Exp => "exp",
            Unary::Log => "log",
            Unary::Square => "square",
            Unary::Scale(_) => "scale",
        }
    }

    /// Name of the function's gradient.
    pub(super) fn gradient_name(self) -> &'static str {
        match self {
            Unary::Relu => "relu_grad",
            Unary::LeakyRelu(_) => "leaky_relu_grad",
            Unary::Gelu => "gelu_grad",
            Unary::GeluTanh => "gelu_tanh_grad",
            Unary::Silu => "silu_grad",
            Unary::Tanh => "tanh_grad",
            Unary::Sigmoid => "sigmoid_grad",
            Unary::Softplus => "softplus_grad",
            Unary::Exp => "exp_grad",
            Unary::Log => "log_grad",
            Unary::Square => "square_grad",
            Unary::Scale(_) => "scale_grad",
        }
    }

    /// Which value the gradient needs: the output where that is enough, since it is kept anyway.
    pub fn saved(self) -> Saved {
        match self {
            Unary::Relu | Unary::Tanh | Unary::Sigmoid | Unary::Exp => Saved::Output,
            _ => Saved::Input,
        }
    }

    /// The function.
    pub fn value(self, x: f64) -> f64 {
        match self {
            Unary::Relu => {
                if x <= 0.0 {
                    0.0
                } else {
                    x
                }
            }
            Unary::LeakyRelu(slope) => {
                if x > 0.0 {
                    x
                } else {
                    slope * x
                }
            }
            Unary::Gelu => x * normal_distribution(x),
            Unary::GeluTanh => 0.5 * x * (1.0 + gelu_inner(x).tanh()),
            Unary::Silu => x * sigmoid(x),
            Unary::Tanh => x.tanh(),
            Unary::Sigmoid => sigmoid(x),
            Unary::Softplus => x.max(0.0) + (-x.abs()).exp().ln_1p(),
            Unary::Exp => x.exp(),
            Unary::Log => x.ln(),
            Unary::Square => x * x,
            Unary::Scale(factor) => factor * x,
        }
    }

    /// The derivative, from the value that [`Unary::saved`] names.
    pub fn derivative(self, saved: f64) -> f64 {
        let x = saved;
        match self {
            Unary::Relu => f64::from(u8::from(saved != 0.0)),
            Unary::LeakyRelu(slope) => {
                if x > 0.0 {
                    1.0
                } else {
                    slope
                }
            }
            Unary::Gelu => {
                let density = (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt();
                normal_distribution(x) + x * density
            }
            Unary::GeluTanh => {
                let t = gelu_inner(x).tanh();
                let inner_slope = SQRT_2_OVER_PI * (1.0 + 3.0 * GELU_CUBIC * x * x);
                0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * inner_slope
            }
            Unary::Silu => {
                let s = sigmoid(x);
                s * (1.0 + x * (1.0 - s))
            }
            Unary::Tanh => 1.0 - saved * saved,
            Unary::Sigmoid => saved * (1.0 - saved),
            Unary::Softplus => sigmoid(x),
            Unary::Exp => saved,
            Unary::Log => 1.0 / x,
            Unary::Square => 2.0 * x,
            Unary::Scale(factor) => factor,
        }
    }

    /// Appends the gradient with respect to input `x` of node `y`.
    pub(super) fn gradient(
        self,
        graph: &mut dyn Record,
        x: NodeId,
        y: NodeId,
        dy: NodeId,
    ) -> Result<NodeId, Mismatch> {
        let saved = match self.saved() {
            Saved::Input => x,
            Saved::Output => y,
        };
        match self {
            Unary::Relu => graph.add(Op::MaskNonZero(1.0), &[y, dy]),
            Unary::Scale(_) => graph.add(Op::Unary(self), &[dy]),
            _ => graph.add(Op::UnaryGrad(self), &[saved, dy]),
        }
    }
}

pub(super) fn infer(inputs: &[&TensorType]) -> Result<TensorType, Mismatch> {
    match inputs {
        [x] if x.dtype == DType::F32 => Ok((*x).clone()),
        _ => Err(Mismatch::new("one floating-point tensor", super::update::describe(inputs))),
    }
}

pub(super) fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

fn gelu_inner(x: f64) -> f64 {
    SQRT_2_OVER_PI * (x + GELU_CUBIC * x * x * x)
}

fn normal_distribution(x: f64) -> f64 {
    0.5 * erfc(-x / std::f64::consts::SQRT_2)
}

/// Complementary error function: a Maclaurin series near zero, a continued fraction (Lentz) in the
/// tails; relative error below 1e-14.
fn erfc(x: f64) -> f64 {
    if x.is_nan() {
        return x;
    }
    let magnitude = x.abs();
    let positive = if magnitude < 2.0 {
        let (mut term, mut sum, mut n) = (magnitude, magnitude, 0.0);
        while term.abs() > 1e-18 * sum.abs() {
            n += 1.0;
            term *= -magnitude * magnitude / n;
            sum += term / (2.0 * n + 1.0);
        }
        1.0 - 2.0 / std::f64::consts::PI.sqrt() * sum
    } else if magnitude > 28.0 {
        0.0
    } else {
        let tail = (1..=80).rev().fold(0.0, |tail, k| f64::from(k) / 2.0 / (magnitude + tail));
        (-magnitude * magnitude).exp() / std::f64::consts::PI.sqrt() / (magnitude + tail)
    };
    if x < 0.0 {
        2.0 - positive
    } else {
        positive
    }
}
