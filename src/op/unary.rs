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
    /// `x + number`.
    Offset(f64),
    /// `|x|`, with a derivative of 0 at 0.
    Abs,
    /// Square root.
    Sqrt,
    /// `1 / sqrt(x)`.
    Rsqrt,
    /// `1 / x`.
    Reciprocal,
    /// Sine of an angle in radians.
    Sin,
    /// Cosine of an angle in radians.
    Cos,
    /// The error function.
    Erf,
    /// `x` to the power of a number; the power 0 is 1, whatever `x` is.
    Pow(f64),
    /// `x`, but no less than `min` and no more than `max`, which wins where it is the smaller. NaN
    /// stays NaN. The gradient passes where `min < x < max`.
    Clamp {
        /// The smallest result, `-inf` for no bound.
        min: f64,
        /// The largest result, `inf` for no bound.
        max: f64,
    },
    /// 1 where `x` is 0, else 0. Without a gradient.
    Not,
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
            Unary::Offset(_) => "offset",
            Unary::Abs => "abs",
            Unary::Sqrt => "sqrt",
            Unary::Rsqrt => "rsqrt",
            Unary::Reciprocal => "reciprocal",
            Unary::Sin => "sin",
            Unary::Cos => "cos",
            Unary::Erf => "erf",
            Unary::Pow(_) => "pow",
            Unary::Clamp { .. } => "clamp",
            Unary::Not => "not",
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
            Unary::Offset(_) => "offset_grad",
            Unary::Abs => "abs_grad",
            Unary::Sqrt => "sqrt_grad",
            Unary::Rsqrt => "rsqrt_grad",
            Unary::Reciprocal => "reciprocal_grad",
            Unary::Sin => "sin_grad",
            Unary::Cos => "cos_grad",
            Unary::Erf => "erf_grad",
            Unary::Pow(_) => "pow_grad",
            Unary::Clamp { .. } => "clamp_grad",
            Unary::Not => "not_grad",
        }
    }

    /// Which value the gradient needs: the output where that is enough, since it is kept anyway.
    pub fn saved(self) -> Saved {
        match self {
            Unary::Relu | Unary::Tanh | Unary::Sigmoid | Unary::Exp => Saved::Output,
            Unary::Sqrt | Unary::Rsqrt | Unary::Reciprocal => Saved::Output,
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
            Unary::Offset(number) => x + number,
            Unary::Abs => x.abs(),
            Unary::Sqrt => x.sqrt(),
            Unary::Rsqrt => 1.0 / x.sqrt(),
            Unary::Reciprocal => 1.0 / x,
            Unary::Sin => x.sin(),
            Unary::Cos => x.cos(),
            Unary::Erf => erf(x),
            Unary::Pow(exponent) => power(x, exponent),
            Unary::Clamp { .. } if x.is_nan() => x,
            Unary::Clamp { min, max } => x.max(min).min(max),
            Unary::Not => f64::from(u8::from(x == 0.0)),
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
            Unary::Offset(_) => 1.0,
            Unary::Abs if x == 0.0 || x.is_nan() => 0.0,
            Unary::Abs => x.signum(),
            Unary::Sqrt => 0.5 / saved,
            Unary::Rsqrt => -0.5 * saved.powi(3),
            Unary::Reciprocal => -saved * saved,
            Unary::Sin => x.cos(),
            Unary::Cos => -x.sin(),
            Unary::Erf => std::f64::consts::FRAC_2_SQRT_PI * (-x * x).exp(),
            Unary::Pow(0.0) => 0.0,
            Unary::Pow(exponent) => exponent * power(x, exponent - 1.0),
            Unary::Clamp { min, max } => {
                let above = min < x || min == f64::NEG_INFINITY;
                let below = x < max || max == f64::INFINITY;
                f64::from(u8::from(above && below && !x.is_nan()))
            }
            Unary::Not => 0.0,
        }
    }

    /// The gradient, from the value that [`Unary::saved`] names: the derivative times `dy`, but where
    /// a bound has cut a value off, no gradient passes, not even an infinite one.
    pub fn backward(self, saved: f64, dy: f64) -> f64 {
        match (self, self.derivative(saved)) {
            (Unary::Clamp { .. }, 0.0) => 0.0,
            (_, slope) => slope * dy,
        }
    }

    /// Appends the gradient with respect to input `x` of node `y`, if there is one.
    pub(super) fn gradient(
        self,
        graph: &mut dyn Record,
        x: NodeId,
        y: NodeId,
        dy: NodeId,
    ) -> Result<Option<NodeId>, Mismatch> {
        let saved = match self.saved() {
            Saved::Input => x,
            Saved::Output => y,
        };
        match self {
            Unary::Relu => graph.add(Op::MaskNonZero(1.0), &[y, dy]).map(Some),
            Unary::Scale(_) => graph.add(Op::Unary(self), &[dy]).map(Some),
            Unary::Offset(_) => Ok(Some(dy)),
            Unary::Not => Ok(None),
            _ => graph.add(Op::UnaryGrad(self), &[saved, dy]).map(Some),
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

/// `x` to a power; half powers are roots, as in PyTorch, and so NaN for the negative infinity.
fn power(x: f64, exponent: f64) -> f64 {
    match exponent {
        0.5 => x.sqrt(),
        -0.5 => 1.0 / x.sqrt(),
        _ => x.powf(exponent),
    }
}

fn gelu_inner(x: f64) -> f64 {
    SQRT_2_OVER_PI * (x + GELU_CUBIC * x * x * x)
}

fn normal_distribution(x: f64) -> f64 {
    0.5 * erfc(-x / std::f64::consts::SQRT_2)
}

/// Where the series of the error function ends and the fraction of its complement begins.
const ERF_TAIL: f64 = 2.0;

/// Error function; relative error below 1e-14.
fn erf(x: f64) -> f64 {
    match x.abs() < ERF_TAIL {
        true => erf_series(x),
        false => 1.0 - erfc(x),
    }
}

/// Complementary error function: relative error below 1e-14 in the upper tail.
fn erfc(x: f64) -> f64 {
    if x.is_nan() {
        return x;
    }
    let magnitude = x.abs();
    let positive = if magnitude < ERF_TAIL {
        1.0 - erf_series(magnitude)
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

/// The Maclaurin series of the error function, for numbers near zero.
fn erf_series(x: f64) -> f64 {
    let (mut term, mut sum, mut n) = (x, x, 0.0);
    while term.abs() > 1e-18 * sum.abs() {
        n += 1.0;
        term *= -x * x / n;
        sum += term / (2.0 * n + 1.0);
    }
    2.0 / std::f64::consts::PI.sqrt() * sum
}
