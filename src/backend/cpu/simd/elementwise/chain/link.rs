// SPDX-License-Identifier: MIT OR Apache-2.0
//! One link of a chain over a block.

use super::super::base::{Kernel, Vector};
use super::of_one::OfOne;
use super::of_several::OfSeveral;
use super::slopes::Slopes;
use crate::kernel::chain::Function;

/// A function of the elements of a block. The arguments that it takes and `to` are valid for `count`
/// values; they may be the same or apart.
pub(super) struct Apply {
    pub(super) function: Function,
    pub(super) from: [*const f32; 3],
    pub(super) to: *mut f32,
    pub(super) count: usize,
}

impl Kernel for Apply {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        // SAFETY: the caller's, passed on. Functions of one kind are compiled together, apart from
        // those of other kinds.
        unsafe {
            match self.function {
                Function::Copy => V::enter(OfOne { function: None, link: self }),
                Function::Unary(function) => {
                    V::enter(OfOne { function: Some(function), link: self });
                }
                Function::UnaryGrad(function) => V::enter(Slopes { function, link: self }),
                _ => V::enter(OfSeveral(self)),
            }
        }
    }
}

/// Applies an expression to each vector of a link's arguments.
macro_rules! each {
    ($vector:ty, $link:expr, |$($argument:ident),+| $result:expr) => {{
        let Apply { from, to, count, .. } = $link;
        $crate::backend::cpu::simd::base::for_each_vector!($vector, count, |at, lanes| {
            // SAFETY: the arguments and `to` are valid for `count` values.
            unsafe {
                let mut from = from.into_iter();
                $(let $argument = match from.next() {
                    Some(from) => load::<$vector>(from.add(at), lanes),
                    None => <$vector>::splat(0.0),
                };)+
                store($result, to.add(at), lanes);
            }
        })
    }};
}
pub(super) use each;
