// SPDX-License-Identifier: MIT OR Apache-2.0
//! Steps that compute nothing: copies and fills need no kernel.

use super::scratch::cast;
use super::Lowering;
use crate::backend::cuda::launch::{Copy, Fill, Item};
use crate::op::{Nll, Reduction};
use crate::{DType, Result};

impl Lowering<'_> {
    /// A gradient into its slot.
    pub(super) fn copy_gradient(&mut self) -> Result<Item> {
        let (stored, count) = (self.stored_type(0), self.output_shape(0).elements());
        let (to, from) = (self.write(0)?, self.read(0)?);
        Ok(match stored {
            DType::F32 => Item::Copy(Copy { to, from, bytes: stored.bytes() * count }),
            _ => cast([to, from], count, [stored, DType::F32]).into(),
        })
    }

    /// The loss of no samples, for which there is no block to write it: a mean divides 0 by 0.
    pub(super) fn loss_of_nothing(&mut self, nll: &Nll) -> Result<Item> {
        let (loss, count) = match nll.reduction {
            Reduction::Mean => (f32::NAN, 1),
            Reduction::Sum => (0.0, 1),
            Reduction::None => (0.0, 0),
        };
        Ok(Item::Fill(Fill { at: self.write(0)?, bits: loss.to_bits(), count }))
    }
}
