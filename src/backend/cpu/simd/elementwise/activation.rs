// SPDX-License-Identifier: MIT OR Apache-2.0
//! Activations inside other kernels.

use super::base::{for_each_vector, load, store, Kernel, Vector};
use super::math;

/// An activation function.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Activation {
    /// The identity.
    None,
    /// max(x, 0); NaN stays NaN.
    Relu,
    /// x where positive, else this slope times x.
    LeakyRelu(f32),
    /// Hyperbolic tangent.
    Tanh,
    /// 1 / (1 + e^-x).
    Sigmoid,
    /// x * sigmoid(x).
    Silu,
    /// x * the normal distribution function of x.
    Gelu,
    /// GELU by the tangent formula.
    GeluTanh,
}

/// Applies an activation to a short slice from inside another kernel.
#[inline(always)]
pub(crate) fn activate_in_place<V: Vector>(activation: Activation, values: &mut [f32]) {
    // SAFETY: this is called from a kernel, so the machine has `V`'s instruction set.
    unsafe { V::enter(Forward { activation, x: values.as_ptr(), y: values }) }
}

/// `y = activation(x)`; `x` is valid for as many reads as `y` is long, and may be `y`.
struct Forward<'a> {
    activation: Activation,
    x: *const f32,
    y: &'a mut [f32],
}

impl Kernel for Forward<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let to = self.y.as_mut_ptr();
        macro_rules! each {
            (|$x:ident| $result:expr) => {
                for_each_vector!(V, self.y.len(), |at, lanes| {
                    // SAFETY: both are valid for the whole length; with `x` the same as `y`, each
                    // vector is read before it is written. `to` is used in place of `x` then, so
                    // that reads and writes go through pointers of one origin.
                    unsafe {
                        let from = if self.x == to { to.cast_const() } else { self.x };
                        let $x = load::<V>(from.add(at), lanes);
                        store($result, to.add(at), lanes);
                    }
                })
            };
        }
        match self.activation {
            Activation::None => each!(|x| x),
            Activation::Relu => each!(|x| V::splat(0.0).max(x)),
            Activation::LeakyRelu(slope) => each!(|x| math::leaky_relu(x, slope)),
            Activation::Tanh => each!(|x| math::tanh(x)),
            Activation::Sigmoid => each!(|x| math::sigmoid(x)),
            Activation::Silu => each!(|x| math::silu(x)),
            Activation::Gelu => each!(|x| math::gelu(x)),
            Activation::GeluTanh => each!(|x| math::gelu_tanh(x)),
        }
    }
}
