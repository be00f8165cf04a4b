// SPDX-License-Identifier: MIT OR Apache-2.0
//! How a loader makes batches, and where in the data it stands.

use serde::{Deserialize, Serialize};

/// The order of the samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Shuffle {
    /// As the data set has them, every epoch.
    #[default]
    Sequential,
    /// A new permutation every epoch, which depends on this seed, the epoch's number and the length
    /// of the data set alone.
    Seeded(u64),
    /// As [`Shuffle::Seeded`], and then batches of samples of [like lengths](crate::data::Dataset::length),
    /// so that little is padded: stretches of 16 batches are sorted by length, and whole batches come in
    /// an order that is shuffled too. What is left over comes last.
    LikeLengths(u64),
}

/// What becomes of the samples left over when the batch size does not divide their number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LastBatch {
    /// They are the last batch of the epoch, a short one.
    #[default]
    Keep,
    /// They are left out of the epoch; with [`Shuffle::Seeded`], other ones each time.
    Drop,
}

/// The shape that samples have in a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SampleShape {
    /// As the data set has them: `[samples, channels, height, width]` for images.
    #[default]
    Own,
    /// Each input of floating-point numbers that does not vary as one row, as a linear layer takes it:
    /// `[samples, elements of one]`.
    Row,
}

/// Where samples lie while a GPU [takes batches](super::Loader::serve) of them. The batches are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnDevice {
    /// On the GPU, where they are [the same in each pass](crate::data::Dataset::is_fixed), do not vary in
    /// length and fit in a quarter of its free memory. What has at most 256 numbers in each channel, as
    /// pictures of bytes do however they are normalised, takes a byte for each there. A batch then goes up
    /// as the numbers of its samples, its integers and what has fewer than 16 elements.
    #[default]
    Auto,
    /// The same, however much memory they take; where they cannot lie there it is an error.
    Always,
    /// On the host.
    Never,
}

/// How a [`Loader`](super::Loader) makes batches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoaderConfig {
    /// Samples in a batch, at least 1.
    pub batch_size: usize,
    /// The order of the samples.
    pub shuffle: Shuffle,
    /// What becomes of an incomplete last batch.
    pub last_batch: LastBatch,
    /// What random choices of the data set depend on besides epoch and sample, such as augmentations:
    /// the seed of its [`Pass`](crate::data::Pass). The order has its own, in [`Shuffle`].
    pub seed: u64,
    /// The shape of samples in a batch.
    pub sample_shape: SampleShape,
    /// Batches prepared ahead on a thread, at most 1024; with 0 each is prepared when it is asked
    /// for. It changes when batches are ready, never what is in them.
    pub prefetch: usize,
    /// Where samples lie while a GPU takes batches of them.
    pub on_device: OnDevice,
}

impl Default for LoaderConfig {
    /// Batches of one sample in sequence, none dropped, as PyTorch's `DataLoader`; two batches
    /// ahead.
    fn default() -> Self {
        Self {
            batch_size: 1,
            shuffle: Shuffle::default(),
            last_batch: LastBatch::default(),
            seed: 0,
            sample_shape: SampleShape::default(),
            prefetch: 2,
            on_device: OnDevice::default(),
        }
    }
}

/// A batch's place in the run of a loader: store it with a checkpoint and give it to
/// [`Loader::seek`](super::Loader::seek) to continue with the same samples.
///
/// It counts batches, so it means the same only for the same data set and the same configuration;
/// `prefetch` and `on_device` may differ.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct Position {
    /// Epochs completed before.
    pub epoch: u64,
    /// Batches of this epoch completed before.
    pub batch: u64,
}
