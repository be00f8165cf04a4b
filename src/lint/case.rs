// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a graph does not tell of what a network is for.

use super::Levels;

/// What a graph does not tell: what the network is used for, in which batches it is trained, and what is to
/// become of what is found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Case {
    /// What it is used for.
    pub used: Use,
    /// In which batches it is trained, if that is known.
    pub batches: Option<Batches>,
    /// What becomes of what is found.
    pub levels: Levels,
}

/// What a network is used for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Use {
    /// It is trained, and then predicts in eval mode.
    #[default]
    Training,
    /// It also predicts with dropout left on.
    MonteCarlo,
}

/// How a data set is divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batches {
    /// Samples of the data set.
    pub samples: usize,
    /// Samples in a batch.
    pub batch: usize,
    /// What becomes of those that are left.
    pub last: LastBatch,
}

/// What becomes of a last batch that is short.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LastBatch {
    /// It is trained, too.
    #[default]
    Kept,
    /// It is left out.
    Dropped,
}

impl Batches {
    /// Samples of the smallest batch.
    pub(super) fn smallest(self) -> usize {
        let Batches { samples, batch, last } = self;
        match samples.checked_rem(batch) {
            Some(rest) if rest > 0 && (last == LastBatch::Kept || samples < batch) => rest,
            _ => batch.min(samples),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_batch_is_the_last_unless_it_is_left_out() {
        let smallest = |samples, batch, last| Batches { samples, batch, last }.smallest();
        assert_eq!(smallest(65, 64, LastBatch::Kept), 1);
        assert_eq!(smallest(65, 64, LastBatch::Dropped), 64);
        assert_eq!(smallest(128, 64, LastBatch::Kept), 64);
        assert_eq!(smallest(3, 64, LastBatch::Kept), 3);
        assert_eq!(smallest(3, 0, LastBatch::Kept), 0);
    }
}
