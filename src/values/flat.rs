// SPDX-License-Identifier: MIT OR Apache-2.0
//! Structures as runs see them: one list, and how long the lists in it are.

use std::any::TypeId;
use std::fmt::Debug;

use super::Values;

/// A structure that is being taken apart.
#[doc(hidden)]
#[derive(Debug)]
pub struct Split<L> {
    leaves: Vec<L>,
    lists: Vec<usize>,
}

/// A structure that is being put together.
#[doc(hidden)]
pub struct Parts<'a, L> {
    leaves: &'a mut dyn Iterator<Item = L>,
    lists: &'a mut dyn Iterator<Item = usize>,
}

/// A structure taken apart: what it holds, in order, and the lengths of its lists.
#[derive(Clone, Debug)]
pub(crate) struct Flat<L> {
    pub(crate) leaves: Vec<L>,
    pub(crate) lists: Vec<usize>,
}

/// What distinguishes functions of the same tensors: the types of what they take and return, and the
/// lengths of the lists that they take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Form<'a> {
    pub(crate) types: TypeId,
    pub(crate) lists: &'a [usize],
}

impl<L: Clone + Debug> Flat<L> {
    pub(crate) fn of<V: Values>(structure: V::Of<L>) -> Self {
        let mut split = Split { leaves: Vec::new(), lists: Vec::new() };
        V::split(structure, &mut split);
        Flat { leaves: split.leaves, lists: split.lists }
    }

    /// A structure that was not taken apart, with at most one list: whatever is left over is in it.
    pub(crate) fn unstructured<V: Values>(leaves: Vec<L>) -> Result<Self, usize> {
        match (V::LISTS, leaves.len().checked_sub(V::LEAVES)) {
            (0, Some(0)) => Ok(Flat { leaves, lists: vec![] }),
            (1, Some(rest)) => Ok(Flat { leaves, lists: vec![rest] }),
            _ => Err(leaves.len()),
        }
    }

    pub(crate) fn join<V: Values>(self) -> Option<V::Of<L>> {
        join::<V, L>(&mut self.leaves.into_iter(), &mut self.lists.into_iter())
    }
}

/// Puts a structure together from the next values and lengths.
pub(crate) fn join<V: Values, L: Clone + Debug>(
    leaves: &mut dyn Iterator<Item = L>,
    lists: &mut dyn Iterator<Item = usize>,
) -> Option<V::Of<L>> {
    V::join(&mut Parts { leaves, lists })
}

impl<L> Split<L> {
    pub(super) fn leaf(&mut self, leaf: L) {
        self.leaves.push(leaf);
    }

    pub(super) fn list(&mut self, list: Vec<L>) {
        self.lists.push(list.len());
        self.leaves.extend(list);
    }
}

impl<L> Parts<'_, L> {
    pub(super) fn leaf(&mut self) -> Option<L> {
        self.leaves.next()
    }

    pub(super) fn list(&mut self) -> Option<Vec<L>> {
        let length = self.lists.next()?;
        (0..length).map(|_| self.leaves.next()).collect()
    }
}

impl<L> Debug for Parts<'_, L> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parts").finish_non_exhaustive()
    }
}

impl<'a> Form<'a> {
    /// The form of a function from `I` to `O`, whose outputs a loss compares with `T`.
    pub(crate) fn of<I: Values, O: Values, T: Values>(lists: &'a [usize]) -> Self {
        Form { types: TypeId::of::<(I, O, T)>(), lists }
    }
}
