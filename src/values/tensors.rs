// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is given to networks and losses.

use std::borrow::Borrow;
use std::fmt::Debug;

use super::{Flat, Values};
use crate::graph::Var;
use crate::{Error, Result, Tensor};

/// Tensors in the structure of the values that they are given for: `&x` for a [`Var`], `(&a, &b)`
/// for `(Var, Var)`, an array for an array.
///
/// A `Vec` or slice of tensors is given for any structure and checked when it is: too few are an
/// error then, and not one of the compiler. The [batches](crate::data::Batch) of a loader are such.
///
/// ```
/// use kiln::nn::{Linear, Module};
/// use kiln::{Device, Net, Seed, Tensor, Var};
///
/// struct Difference { tower: Linear }
///
/// impl Module<(Var, Var)> for Difference {
///     fn forward(&self, (a, b): &(Var, Var)) -> Var {
///         &self.tower.forward(a) - &self.tower.forward(b)
///     }
/// }
///
/// let make = |p: &kiln::nn::Scope| Difference { tower: Linear::new(&p.at("tower"), 3, 2) };
/// let mut net = Net::new(Device::cpu(), Seed(7), make)?;
/// let (a, b) = (Tensor::zeros([4, 3]), Tensor::zeros([4, 3]));
/// assert_eq!(net.eval().forward((&a, &b))?, net.eval().forward(&vec![a.clone(), b])?);
/// let error = net.eval().forward(&[a][..]).unwrap_err().to_string();
/// assert_eq!(error, "inputs: expected 2 tensors, got 1");
/// # Ok::<(), kiln::Error>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be given for `{V}`",
    label = "expected tensors in the structure of `{V}`",
    note = "give `&x` for `Var`, `(&a, &b)` for `(Var, Var)`; a `Vec<Tensor>` for any structure"
)]
pub trait Tensors<V: Values> {
    /// The tensors; cloning them shares their elements. `what` names them in errors.
    ///
    /// # Errors
    /// [`Error::Argument`] if a list has another number of tensors.
    fn tensors(&self, what: &str) -> Result<V::Of<Tensor>>;
}

impl Tensors<Var> for Tensor {
    fn tensors(&self, _what: &str) -> Result<Tensor> {
        Ok(self.clone())
    }
}

impl<V: Values, T: Tensors<V> + ?Sized> Tensors<V> for &T {
    fn tensors(&self, what: &str) -> Result<V::Of<Tensor>> {
        (**self).tensors(what)
    }
}

impl<V: Values, T: Borrow<Tensor>> Tensors<V> for [T] {
    fn tensors(&self, what: &str) -> Result<V::Of<Tensor>> {
        structured::<V, Tensor>(what, self.iter().map(|tensor| tensor.borrow().clone()).collect())
    }
}

impl<V: Values, T: Borrow<Tensor>> Tensors<V> for Vec<T> {
    fn tensors(&self, what: &str) -> Result<V::Of<Tensor>> {
        Tensors::<V>::tensors(self.as_slice(), what)
    }
}

impl<V: Values, T: Tensors<V>, const N: usize> Tensors<[V; N]> for [T; N] {
    fn tensors(&self, what: &str) -> Result<[V::Of<Tensor>; N]> {
        let all: Result<Vec<V::Of<Tensor>>> = self.iter().map(|one| one.tensors(what)).collect();
        all?.try_into().map_err(|_| mismatch(what, N.to_string(), "another number"))
    }
}

impl<T: Borrow<Tensor>, const N: usize> Tensors<Vec<Var>> for [T; N] {
    fn tensors(&self, what: &str) -> Result<Vec<Tensor>> {
        Tensors::<Vec<Var>>::tensors(self.as_slice(), what)
    }
}

macro_rules! tuples {
    ($(($($values:ident $name:ident $place:tt)*))*) => {$(
        impl<$($values: Values, $name: Tensors<$values>),*> Tensors<($($values,)*)> for ($($name,)*) {
            #[allow(unused_variables, clippy::unused_unit, reason = "of no tensors")]
            fn tensors(&self, what: &str) -> Result<($($values::Of<Tensor>,)*)> {
                Ok(($(self.$place.tensors(what)?,)*))
            }
        }
    )*};
}

tuples! {
    ()
    (A TA 0 B TB 1)
    (A TA 0 B TB 1 C TC 2)
    (A TA 0 B TB 1 C TC 2 D TD 3)
    (A TA 0 B TB 1 C TC 2 D TD 3 E TE 4)
    (A TA 0 B TB 1 C TC 2 D TD 3 E TE 4 F TF 5)
}

/// A list in the structure of the values that it is given for.
///
/// # Errors
/// [`Error::Argument`] if it is of another length.
pub(crate) fn structured<V: Values, L: Clone + Debug>(
    what: &str,
    list: Vec<L>,
) -> Result<V::Of<L>> {
    let expected = || match (V::LEAVES, V::LISTS) {
        (count, 0) => count.to_string(),
        (0, 1) => "any number of".into(),
        (count, 1) => format!("{count} or more"),
        (_, lists) => format!("tuples, since the structure has {lists} lists, of"),
    };
    let flat = Flat::unstructured::<V>(list).map_err(|got| mismatch(what, expected(), got))?;
    flat.join::<V>().ok_or_else(|| mismatch(what, expected(), "fewer"))
}

fn mismatch(what: &str, expected: String, got: impl ToString) -> Error {
    let noun = if expected == "1" { "tensor" } else { "tensors" };
    Error::argument(what, format!("{expected} {noun}"), got)
}
