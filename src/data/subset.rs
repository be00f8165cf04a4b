// SPDX-License-Identifier: MIT OR Apache-2.0
//! Some samples of a data set.

use std::fmt;
use std::sync::Arc;

use super::random::{self, Purpose};
use super::{Dataset, Fields, Pass, Sample};
use crate::{allocate, Error, Result};

/// Samples of another data set, in an order of their own, read where they are.
#[derive(Clone)]
pub struct Subset {
    inner: Arc<dyn Dataset>,
    indices: Vec<usize>,
}

impl Subset {
    /// The samples at `indices`, in that order; an index may occur more than once.
    ///
    /// # Errors
    /// [`Error::Argument`] for an index past the end.
    pub fn new(inner: Arc<dyn Dataset>, indices: Vec<usize>) -> Result<Self> {
        let len = inner.len();
        match indices.iter().find(|index| **index >= len) {
            None => Ok(Subset { inner, indices }),
            Some(index) => Err(Error::argument("indices", format!("below {len}"), index)),
        }
    }

    /// Shuffles the samples by `seed` and gives the first `count` of them, and the rest: a part to
    /// train on and one to test with. The same for ever for the same arguments.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use kiln::data::{Dataset, Digits, Subset};
    ///
    /// let (train, test) = Subset::split(Arc::new(Digits::load().to_8x8()), 1500, 7)?;
    /// assert_eq!((train.len(), test.len()), (1500, 297));
    /// # Ok::<(), kiln::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Argument`] if there are fewer than `count`; [`Error::Device`] if there is no memory
    /// for their order.
    pub fn split(inner: Arc<dyn Dataset>, count: usize, seed: u64) -> Result<(Self, Self)> {
        let len = inner.len();
        if count > len {
            return Err(Error::argument("count", format!("at most {len} samples"), count));
        }
        let mut front = allocate::room(len, "the order of samples")?;
        front.extend(0..len);
        random::choose_front(&mut random::stream(Purpose::ShuffledSet, seed, 0), &mut front, len);
        let rest = front.split_off(count);
        let part = |indices| Subset { inner: Arc::clone(&inner), indices };
        Ok((part(front), part(rest)))
    }

    /// The indices of the samples in the data set that they are of.
    pub fn indices(&self) -> &[usize] {
        &self.indices
    }
}

impl Dataset for Subset {
    fn len(&self) -> usize {
        self.indices.len()
    }

    fn is_fixed(&self) -> bool {
        self.inner.is_fixed()
    }

    fn fields(&self) -> Fields {
        self.inner.fields()
    }

    /// What is drawn at random depends on the index in the data set within.
    fn read(&self, index: usize, pass: Pass, sample: &mut Sample<'_>) -> Result<()> {
        self.check_index(index)?;
        self.inner.read(self.indices[index], pass, sample)
    }

    fn length(&self, index: usize) -> usize {
        self.indices.get(index).map_or(0, |&index| self.inner.length(index))
    }
}

impl fmt::Debug for Subset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subset")
            .field("len", &self.indices.len())
            .field("of", &self.inner.len())
            .finish()
    }
}
