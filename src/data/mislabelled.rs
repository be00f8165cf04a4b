// SPDX-License-Identifier: MIT OR Apache-2.0
//! A data set some of whose labels are wrong.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::{noise, Dataset, Fields, Pass, Sample};
use crate::{Error, Result};

/// A data set that gives some samples a wrong class, the same ones as
/// [`MemoryDataset::with_label_noise`](super::MemoryDataset::with_label_noise).
///
/// ```
/// use std::sync::Arc;
/// use kiln::data::{Digits, Mislabelled};
///
/// let wrong = Mislabelled::new(Arc::new(Digits::load().to_8x8()), 0.2, 7)?;
/// assert_eq!(wrong.count(), 359);
/// # Ok::<(), kiln::Error>(())
/// ```
#[derive(Clone)]
pub struct Mislabelled {
    inner: Arc<dyn Dataset>,
    /// Classes from the right label to the wrong one, by sample.
    shifts: BTreeMap<usize, usize>,
}

impl Mislabelled {
    /// Gives exactly `round(fraction * len)` samples, chosen uniformly by `seed`, a wrong class as the
    /// first target, uniform over the others.
    ///
    /// # Errors
    /// [`Error::Argument`] if `fraction` is NaN or outside `[0, 1]`, if the first target is not one
    /// class, and if labels are to change and there is no other class.
    pub fn new(inner: Arc<dyn Dataset>, fraction: f64, seed: u64) -> Result<Self> {
        let fields = inner.fields();
        if inner.classes() == 0 || fields.targets.iter().take(1).any(|of| !of.shape.is_empty()) {
            return Err(Error::argument("dataset", "one class as the first target", "others"));
        }
        let swaps = noise::swaps(inner.len(), inner.classes(), fraction, seed)?;
        let shifts = swaps.into_iter().map(|swap| (swap.index, swap.shift)).collect();
        Ok(Mislabelled { inner, shifts })
    }

    /// Number of samples with a wrong class.
    pub fn count(&self) -> usize {
        self.shifts.len()
    }
}

impl Dataset for Mislabelled {
    fn len(&self) -> usize {
        self.inner.len()
    }

    fn is_fixed(&self) -> bool {
        self.inner.is_fixed()
    }

    fn fields(&self) -> Fields {
        self.inner.fields()
    }

    fn read(&self, index: usize, pass: Pass, sample: &mut Sample<'_>) -> Result<()> {
        self.inner.read(index, pass, sample)?;
        let Some(shift) = self.shifts.get(&index) else { return Ok(()) };
        let classes = self.inner.classes();
        for label in sample.target(0).i32()? {
            // What is no class stays none, for the loader to find.
            if let Some(right) = usize::try_from(*label).ok().filter(|right| *right < classes) {
                *label = ((right + shift) % classes) as i32;
            }
        }
        Ok(())
    }

    fn length(&self, index: usize) -> usize {
        self.inner.length(index)
    }
}

impl fmt::Debug for Mislabelled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mislabelled")
            .field("len", &self.len())
            .field("wrong", &self.shifts.len())
            .finish_non_exhaustive()
    }
}
