// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the host gives with a run behind its scalars, as far as the plan's kernels read it.

use super::divisor::Divisor;
use super::elements::keep_threshold;
use crate::backend::Run;
use crate::philox::scale_of;
use crate::scalars::RateSlot;
use crate::Result;

/// Numbers that the host gives with a run.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Given {
    /// What a loss divides by.
    Divisor(Divisor),
    /// Threshold and scale of a dropout whose rate changes.
    Rate(RateSlot),
}

/// Bytes of a rate.
pub(super) const RATE_BYTES: usize = 8;

impl Given {
    pub(super) fn bytes(&self) -> usize {
        match self {
            Given::Divisor(_) => 4,
            Given::Rate(_) => RATE_BYTES,
        }
    }

    /// Appends what it is in a run.
    ///
    /// # Errors
    /// As [`Divisor::of`].
    pub(crate) fn write(&self, run: &Run<'_>, bytes: &mut Vec<u8>) -> Result<()> {
        match self {
            Given::Divisor(divisor) => bytes.extend(divisor.of(run.inputs)?.to_ne_bytes()),
            Given::Rate(slot) => {
                let drop15 = run.scalars.dropout.drop15(*slot);
                bytes.extend(keep_threshold(drop15).to_ne_bytes());
                bytes.extend((scale_of(drop15) as f32).to_ne_bytes());
            }
        }
        Ok(())
    }
}
