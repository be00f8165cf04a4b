// SPDX-License-Identifier: MIT OR Apache-2.0
//! A convolution's gradients of its weights and of its bias: for each tap the product of images and
//! gradients over all pixels (`tiles`, cut by `job`), by squares or channel by channel where
//! that is faster. `finish` hands the sums on.

mod finish;
mod job;
mod tiles;

pub(super) use finish::{finish, Parts, Tails};

use super::base::Isa;
use super::direct::ConvWay;
use super::products::{GradientTail, Tail};
use super::shape::{ConvShape, AXES};
use super::sweep::tap_index;
use super::{base, choice, depthwise, direct, products, reductions, split, winograd, with_room};
use super::{Pool, Stores};

/// `(dy, x) -> dw[, d_bias]`
#[derive(Debug)]
pub(crate) struct ConvWeightGradient<'a> {
    /// The convolution.
    pub(crate) shape: ConvShape,
    /// How it is computed.
    pub(crate) way: ConvWay,
    /// The gradient of the result.
    pub(crate) dy: &'a [f32],
    /// What the bias' gradient sums: `dy` as it was before it was rounded to be a factor.
    pub(crate) bias_dy: &'a [f32],
    /// The images.
    pub(crate) x: &'a [f32],
    /// What becomes of the weights' gradient, row-major.
    pub(crate) weight: GradientTail<'a>,
    /// What becomes of the bias' gradient, padded to a multiple of 16.
    pub(crate) bias: Option<GradientTail<'a>>,
}

/// What gradients are computed from.
pub(super) struct Operands<'a> {
    pub(super) shape: ConvShape,
    pub(super) dy: &'a [f32],
    pub(super) bias_dy: &'a [f32],
    pub(super) x: &'a [f32],
}

impl ConvWeightGradient<'_> {
    /// Computes it with all threads of the pool.
    ///
    /// # Panics
    /// If a slice has the wrong length.
    pub(crate) fn run(self, pool: &Pool, isa: Isa) {
        let Self { shape, way, dy, bias_dy, x, weight, bias } = self;
        assert_eq!((x.len(), dy.len()), (shape.x_len(), shape.y_len()), "images");
        assert_eq!(bias_dy.len(), dy.len(), "gradients");
        let tails = Tails {
            weight: Tail::new(weight, shape.weight_len()),
            bias: bias.map(|bias| Tail::new(bias, finish::bias_len(&shape))),
        };
        let operands = Operands { shape, dy, bias_dy, x };
        match way {
            ConvWay::Winograd => winograd::weight_gradient(pool, isa, &operands, &tails),
            ConvWay::Direct if shape.is_depthwise() => {
                depthwise::weight_gradient(pool, isa, &operands, &tails);
            }
            ConvWay::Direct => tiles::run(pool, isa, &operands, &tails),
        }
    }
}
