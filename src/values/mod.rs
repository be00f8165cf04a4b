// SPDX-License-Identifier: MIT OR Apache-2.0
//! Structures of values: what networks and losses take and return, and the tensors given for it.

mod flat;
mod given;
mod tensors;

use std::fmt::Debug;

pub(crate) use flat::{join, Flat, Form, Parts, Split};
pub(crate) use given::Given;
pub(crate) use tensors::structured;
pub use tensors::Tensors;

use crate::graph::Var;

/// What a [`Module`](crate::nn::Module) takes or returns, and what a [`Loss`](crate::loss::Loss)
/// compares with: one [`Var`]; tuples of up to six, which may hold further structures; arrays; a
/// `Vec<Var>` of any length; or nothing, `()`.
///
/// Where a network takes `(Var, Var)`, [`Tensors`] are given for it: `net.eval().forward((&a, &b))`.
pub trait Values: sealed::Sealed + Clone + Debug + 'static {
    /// The same structure with something else in each value's place: with tensors for what a run
    /// returns, `(Tensor, Tensor)` for `(Var, Var)`; with types, shapes or gradients.
    type Of<L: Clone + Debug>: Clone + Debug;

    /// Values outside of lists.
    #[doc(hidden)]
    const LEAVES: usize;

    /// Lists, whose lengths the type does not say.
    #[doc(hidden)]
    const LISTS: usize;

    #[doc(hidden)]
    fn split<L: Clone + Debug>(of: Self::Of<L>, into: &mut Split<L>);

    #[doc(hidden)]
    fn join<L: Clone + Debug>(from: &mut Parts<'_, L>) -> Option<Self::Of<L>>;

    #[doc(hidden)]
    fn from_vars(vars: Self::Of<Var>) -> Self;

    #[doc(hidden)]
    fn into_vars(self) -> Self::Of<Var>;
}

impl Values for Var {
    type Of<L: Clone + Debug> = L;
    const LEAVES: usize = 1;
    const LISTS: usize = 0;

    fn split<L: Clone + Debug>(of: L, into: &mut Split<L>) {
        into.leaf(of);
    }

    fn join<L: Clone + Debug>(from: &mut Parts<'_, L>) -> Option<L> {
        from.leaf()
    }

    fn from_vars(vars: Var) -> Self {
        vars
    }

    fn into_vars(self) -> Var {
        self
    }
}

impl Values for Vec<Var> {
    type Of<L: Clone + Debug> = Vec<L>;
    const LEAVES: usize = 0;
    const LISTS: usize = 1;

    fn split<L: Clone + Debug>(of: Vec<L>, into: &mut Split<L>) {
        into.list(of);
    }

    fn join<L: Clone + Debug>(from: &mut Parts<'_, L>) -> Option<Vec<L>> {
        from.list()
    }

    fn from_vars(vars: Vec<Var>) -> Self {
        vars
    }

    fn into_vars(self) -> Vec<Var> {
        self
    }
}

impl<V: Values, const N: usize> Values for [V; N] {
    type Of<L: Clone + Debug> = [V::Of<L>; N];
    const LEAVES: usize = N * V::LEAVES;
    const LISTS: usize = N * V::LISTS;

    fn split<L: Clone + Debug>(of: Self::Of<L>, into: &mut Split<L>) {
        of.into_iter().for_each(|one| V::split(one, into));
    }

    fn join<L: Clone + Debug>(from: &mut Parts<'_, L>) -> Option<Self::Of<L>> {
        let all: Option<Vec<V::Of<L>>> = (0..N).map(|_| V::join(from)).collect();
        all?.try_into().ok()
    }

    fn from_vars(vars: Self::Of<Var>) -> Self {
        vars.map(V::from_vars)
    }

    fn into_vars(self) -> Self::Of<Var> {
        self.map(V::into_vars)
    }
}

macro_rules! tuples {
    ($(($($name:ident $place:tt)*))*) => {$(
        impl<$($name: Values),*> Values for ($($name,)*) {
            type Of<L: Clone + Debug> = ($($name::Of<L>,)*);
            const LEAVES: usize = 0 $(+ $name::LEAVES)*;
            const LISTS: usize = 0 $(+ $name::LISTS)*;

            #[allow(unused_variables, clippy::unused_unit, reason = "of no values")]
            fn split<L: Clone + Debug>(of: Self::Of<L>, into: &mut Split<L>) {
                $($name::split(of.$place, into);)*
            }

            #[allow(unused_variables, reason = "of no values")]
            fn join<L: Clone + Debug>(from: &mut Parts<'_, L>) -> Option<Self::Of<L>> {
                Some(($($name::join(from)?,)*))
            }

            #[allow(unused_variables, clippy::unused_unit, reason = "of no values")]
            fn from_vars(vars: Self::Of<Var>) -> Self {
                ($($name::from_vars(vars.$place),)*)
            }

            #[allow(clippy::unused_unit, reason = "of no values")]
            fn into_vars(self) -> Self::Of<Var> {
                ($($name::into_vars(self.$place),)*)
            }
        }

        impl<$($name: Values),*> sealed::Sealed for ($($name,)*) {}
    )*};
}

tuples! {
    ()
    (A 0 B 1)
    (A 0 B 1 C 2)
    (A 0 B 1 C 2 D 3)
    (A 0 B 1 C 2 D 3 E 4)
    (A 0 B 1 C 2 D 3 E 4 F 5)
}

mod sealed {
    use super::Values;
    use crate::graph::Var;

    /// Structures are taken apart and put together again inside of kiln alone.
    pub trait Sealed {}

    impl Sealed for Var {}
    impl Sealed for Vec<Var> {}
    impl<V: Values, const N: usize> Sealed for [V; N] {}
}
