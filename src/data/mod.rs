// SPDX-License-Identifier: MIT OR Apache-2.0
//! Data sets and the loader that feeds them to training in batches.
//!
//! A [`Dataset`] gives one sample at a time, a [`Loader`] makes batches of it:
//!
//! | | |
//! |---|---|
//! | [`Digits`] | 1797 handwritten digits shipped inside the crate |
//! | [`Emoji`] | 1906 emoji of nine groups in two drawing styles, shipped inside the crate |
//! | [`idx`] | MNIST, Fashion-MNIST, KMNIST, EMNIST and other IDX files, plain or gzip |
//! | [`cifar`] | CIFAR-10 and CIFAR-100, from their binary files |
//! | [`ImageFolder`] | PNG and JPEG files, one folder for each class |
//! | [`MemoryDataset`] | samples held as `f32` with a class each; with split, subset and label noise |
//! | [`Arrays`] | any inputs and targets, of `f32` and `i32`, in memory |
//! | [`CsvFile`] | tables of numbers in text files |
//! | [`Labelled`], [`Texts`] | texts with labels, of a file or the words of six languages shipped inside the crate; their tokens |
//! | [`Vowels`] | Japanese Vowels: sequences of frames of speech, from their files |
//! | [`Normalised`], [`Subset`] | a data set with its channels shifted and scaled; some of its samples |
//! | [`Augmented`], [`Mislabelled`] | a data set with images cropped, mirrored and cut at random; with wrong labels |
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
//!     assert_eq!(batch.inputs[0].shape().dims()[1..], [1, 28, 28]);
//!     assert_eq!(batch.labels()?.len(), batch.samples());
//! }
//! # Ok::<(), kiln::Error>(())
//! ```

mod arrays;
mod augment;
pub mod cifar;
mod colour_images;
mod csv_file;
mod dataset;
mod digits;
mod emoji;
mod fields;
mod folder;
pub mod idx;
mod loader;
mod memory;
mod mislabelled;
mod noise;
mod normalise;
mod pass;
mod random;
mod sample;
mod subset;
#[cfg(test)]
mod tests;
mod text;
mod vowels;

pub use arrays::{Array, Arrays};
pub use augment::{Augmentation, Augmented};
pub use colour_images::ColourImages;
pub use csv_file::{Column, CsvFile};
pub use dataset::Dataset;
pub use digits::Digits;
pub use emoji::Emoji;
pub use fields::{Elements, Field, Fields, Varying};
pub use folder::{BadPictures, Fit, ImageFolder, Pictures};
pub use loader::{
    Batch, Epoch, LastBatch, Loader, LoaderConfig, OnDevice, Position, Residence, SampleShape,
    Shuffle,
};
pub use memory::MemoryDataset;
pub use mislabelled::Mislabelled;
pub use normalise::{Normalisation, Normalised};
pub use pass::{Draws, Pass};
pub use sample::{Sample, Slot};
pub use subset::Subset;
pub use text::{Labelled, LabelledText, Texts, Unit, Vocabulary};
pub use vowels::Vowels;
