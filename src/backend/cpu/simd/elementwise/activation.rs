// SPDX-License-Identifier: MIT OR Apache-2.0
//! Activations and their derivatives over slices.

use super::base::{dispatch, for_each_vector, load, store, Isa, Kernel, SharedSlice, Vector};
use super::{math, split_by, Pool};

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

/// `y = activation(x)`.
///
/// # Panics
/// If lengths differ.
pub(crate) fn activate(pool: &Pool, isa: Isa, activation: Activation, x: &[f32], y: &mut [f32]) {
    assert_eq!(x.len(), y.len(), "input and output of an activation");
    let y = SharedSlice::new(y);
    pool.run(&|index| {
        let range = split_by(64, x.len(), pool.threads(), index);
        // SAFETY: the threads' ranges are disjoint.
        let y = unsafe { y.part(range.clone()) };
        // SAFETY: the kernel uses slices of one length.
        unsafe { dispatch(isa, Forward { activation, x: x[range].as_ptr(), y }) }
    });
}

/// `dx = dy * activation'`, from what the forward pass saved: the output for ReLU, tanh and
/// sigmoid, the input for the others.
///
/// # Panics
/// If lengths differ.
pub(crate) fn activate_gradient(
    pool: &Pool,
    isa: Isa,
    activation: Activation,
    saved: &[f32],
    dy: &[f32],
    dx: &mut [f32],
) {
    assert_eq!((saved.len(), dy.len()), (dx.len(), dx.len()), "slices of an activation's gradient");
    let dx = SharedSlice::new(dx);
    pool.run(&|index| {
        let range = split_by(64, dy.len(), pool.threads(), index);
        // SAFETY: the threads' ranges are disjoint.
        let dx = unsafe { dx.part(range.clone()) };
        let backward = Backward { activation, saved: &saved[range.clone()], dy: &dy[range], dx };
        // SAFETY: the kernel uses slices of one length.
        unsafe { dispatch(isa, backward) }
    });
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

struct Backward<'a> {
    activation: Activation,
    saved: &'a [f32],
    dy: &'a [f32],
    dx: &'a mut [f32],
}

impl Kernel for Backward<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let one = V::splat(1.0);
        macro_rules! each {
            (|$saved:ident, $dy:ident| $result:expr) => {
                for_each_vector!(V, self.dx.len(), |at, lanes| {
                    // SAFETY: all three slices have this length.
                    unsafe {
                        let $saved = load::<V>(self.saved.as_ptr().add(at), lanes);
                        let $dy = load::<V>(self.dy.as_ptr().add(at), lanes);
                        store($result, self.dx.as_mut_ptr().add(at), lanes);
                    }
                })
            };
        }
        let zero = V::splat(0.0);
        match self.activation {
            Activation::None => each!(|_x, dy| dy),
            Activation::Relu => each!(|y, dy| V::select(y.differs(zero), dy, zero)),
            Activation::LeakyRelu(slope) => {
                each!(|x, dy| V::select(x.greater(zero), dy, dy.mul(V::splat(slope))))
            }
            Activation::Tanh => each!(|y, dy| dy.mul(one.sub(y).mul(one.add(y)))),
            Activation::Sigmoid => each!(|y, dy| dy.mul(y.mul(one.sub(y)))),
            Activation::Silu => each!(|x, dy| dy.mul(math::silu_slope(x))),
            Activation::Gelu => each!(|x, dy| dy.mul(math::gelu_slope(x))),
            Activation::GeluTanh => each!(|x, dy| dy.mul(math::gelu_tanh_slope(x))),
        }
    }
}
