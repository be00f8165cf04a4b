// SPDX-License-Identifier: MIT OR Apache-2.0
//! The types of a batch, as text and numbers.

use serde::{Deserialize, Serialize};

use crate::op::TensorType;
use crate::values::{Flat, Values};
use crate::{DType, Error, Result};

/// The types of a batch's inputs or targets.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum SavedTypes {
    /// Of the only one, by itself or in a list.
    One(SavedType),
    /// Of several, with the lengths of the lists among them.
    Several { types: Vec<SavedType>, lists: Vec<usize> },
}

/// The type of one tensor.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct SavedType {
    shape: Vec<usize>,
    elements: ElementType,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum ElementType {
    F32,
    I32,
}

impl SavedTypes {
    pub(super) fn of<V: Values>(types: &V::Of<TensorType>) -> Self {
        let Flat { leaves, lists } = Flat::of::<V>(types.clone());
        let mut types: Vec<SavedType> = leaves.iter().map(SavedType::of).collect();
        match (types.len(), lists.is_empty()) {
            (1, true) => SavedTypes::One(types.remove(0)),
            (1, false) if is_list::<V>() => SavedTypes::One(types.remove(0)),
            _ => SavedTypes::Several { types, lists },
        }
    }

    /// The types in the structure that a network or a loss has.
    ///
    /// # Errors
    /// [`Error::Argument`] if they are of another.
    pub(super) fn structured<V: Values>(&self, what: &str) -> Result<V::Of<TensorType>> {
        let (types, lists) = match self {
            SavedTypes::One(one) if is_list::<V>() => (std::slice::from_ref(one), &[1][..]),
            SavedTypes::One(one) => (std::slice::from_ref(one), &[][..]),
            SavedTypes::Several { types, lists } => (&types[..], &lists[..]),
        };
        let in_lists = lists.iter().fold(0_usize, |all, &length| all.saturating_add(length));
        let fits = lists.len() == V::LISTS && V::LEAVES.saturating_add(in_lists) == types.len();
        let leaves = types.iter().map(SavedType::tensor).collect();
        let flat = Flat { leaves, lists: lists.to_vec() };
        flat.join::<V>().filter(|_| fits).ok_or_else(|| {
            let expected = format!("{} tensors and {} lists", V::LEAVES, V::LISTS);
            let got = format!("{} tensors, lists of {lists:?} among them", types.len());
            Error::argument(what, expected, got)
        })
    }
}

/// Whether a structure is one list: of one value it is saved as that value, so that programs whose
/// networks take lists go on with what they trained when the networks took one value.
fn is_list<V: Values>() -> bool {
    V::LEAVES == 0 && V::LISTS == 1
}

impl SavedType {
    fn of(ty: &TensorType) -> Self {
        let elements = match ty.dtype {
            DType::I32 | DType::I64 => ElementType::I32,
            DType::F32 | DType::Bf16 | DType::F16 => ElementType::F32,
        };
        SavedType { shape: ty.shape.dims().into(), elements }
    }

    fn tensor(&self) -> TensorType {
        let shape = self.shape.as_slice().into();
        match self.elements {
            ElementType::F32 => TensorType::f32(shape),
            ElementType::I32 => TensorType::i32(shape),
        }
    }
}
