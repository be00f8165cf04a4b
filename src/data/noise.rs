// SPDX-License-Identifier: MIT OR Apache-2.0
//! Wrong labels, for every kind of data set in memory.

use super::random::{self, Purpose};
use crate::{Error, Result};

/// A label that becomes wrong.
pub(super) struct Swap {
    /// The sample.
    pub(super) index: usize,
    /// Classes from the right label to the wrong one, around the end.
    pub(super) shift: usize,
}

/// Exactly `round(fraction * len)` samples, chosen uniformly by `seed`, each with a shift that is
/// uniform over the other classes.
///
/// # Errors
/// [`Error::Argument`] if `fraction` is NaN or outside `[0, 1]`, or if labels are to change and
/// there is no other class.
pub(super) fn swaps(len: usize, classes: usize, fraction: f64, seed: u64) -> Result<Vec<Swap>> {
    if !(0.0..=1.0).contains(&fraction) {
        return Err(Error::argument("fraction", "a number from 0 to 1", fraction));
    }
    let count = (fraction * len as f64).round() as usize;
    if count > 0 && classes < 2 {
        return Err(Error::argument("classes", "at least 2, to swap labels", classes));
    }
    let mut rng = random::stream(Purpose::LabelNoise, seed, 0);
    let mut indices: Vec<usize> = (0..len).collect();
    random::choose_front(&mut rng, &mut indices, count);
    indices.truncate(count);
    let mut swap = |index| Swap { index, shift: 1 + random::below(&mut rng, classes - 1) };
    Ok(indices.into_iter().map(&mut swap).collect())
}
