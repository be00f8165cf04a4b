// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the host gives with a run behind its scalars, as far as the plan's kernels read it.

use super::divisor::Divisor;
use super::elements::keep_threshold;
use crate::backend::cuda::abi::{KilnLaterRates, KILN_LATER_RATES};
use crate::backend::cuda::sizes::single;
use crate::backend::Run;
use crate::philox::scale_of;
use crate::scalars::{RateSlot, Scalars};
use crate::Result;

/// Numbers that the host gives with a run.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Given {
    /// What a loss divides by.
    Divisor(Divisor),
    /// Threshold and scale of a dropout whose rate changes.
    Rate(RateSlot),
    /// Rates of the update where more updates before it were skipped than the host knows of.
    Later {
        /// The optimiser's own momentum.
        momentum: f64,
    },
}

/// Bytes of a rate.
pub(super) const RATE_BYTES: usize = 8;
/// Bytes of the rates of later updates.
pub(super) const LATER_BYTES: usize = std::mem::size_of::<KilnLaterRates>();
const _: () = assert!(KILN_LATER_RATES as usize == Scalars::LATER);

impl Given {
    pub(super) fn bytes(&self) -> usize {
        match self {
            Given::Divisor(_) => 4,
            Given::Rate(_) => RATE_BYTES,
            Given::Later { .. } => LATER_BYTES,
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
                bytes.extend((single(scale_of(drop15))).to_ne_bytes());
            }
            Given::Later { momentum } => {
                bytes.extend(run.scalars.skipped.to_ne_bytes());
                for rates in &run.scalars.later {
                    let momentum = rates.momentum.unwrap_or(*momentum);
                    let rounded = [single(momentum), single(1.0 - momentum)];
                    bytes.extend(rates.learning_rate.to_ne_bytes());
                    bytes.extend(rounded.iter().flat_map(|number| number.to_ne_bytes()));
                    bytes.extend(rates.average.to_ne_bytes());
                    bytes.extend(momentum.to_ne_bytes());
                }
            }
        }
        Ok(())
    }
}
