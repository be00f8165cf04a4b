// SPDX-License-Identifier: MIT OR Apache-2.0
//! Data sets and the loader that feeds them to training in batches.
//!
//! A [`Dataset`] gives one sample at a time, a [`Loader`] makes batches of it:
//!
//! | | |
//! |---|---|
//! | [`Digits`] | 1797 handwritten digits shipped inside the crate |
//! | [`idx`] | MNIST, Fashion-MNIST, KMNIST, EMNIST and other IDX files, plain or gzip |
//! | [`MemoryDataset`] | any samples held as `f32`, with split, subset and label noise |
//! | [`Normalised`] | a data set with its channels shifted and scaled |
//!
//! Every random choice takes a seed and depends on nothing else, so that an experiment can be run
//! again and a stopped run resumed, sample for sample.
//!
//! ```
//! use std::sync::Arc;
//! use kiln::data::{Digits, Loader, LoaderConfig, Shuffle};
//!
//! let (train, _test) = Digits::load().split(1500, 7)?;
//! let shuffle = Shuffle::Seeded(7);
//! let config = LoaderConfig { batch_size: 64, shuffle, ..LoaderConfig::default() };
//! let mut loader = Loader::new(Arc::new(train), config)?;
//! for batch in loader.epoch() {
//!     let batch = batch?;
//!     assert_eq!(batch.shape[1..], [1, 28, 28]);
//!     assert_eq!(batch.labels.len(), batch.shape[0]);
//! }
//! # Ok::<(), kiln::Error>(())
//! ```

mod dataset;
mod digits;
pub mod idx;
mod loader;
mod memory;
mod noise;
mod normalise;
mod random;
#[cfg(test)]
mod tests;

pub use dataset::Dataset;
pub use digits::Digits;
pub use loader::{Batch, Epoch, LastBatch, Loader, LoaderConfig, Position, Shuffle};
pub use memory::MemoryDataset;
pub use normalise::{Normalisation, Normalised};
