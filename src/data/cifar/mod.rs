// SPDX-License-Identifier: MIT OR Apache-2.0
//! CIFAR-10 and CIFAR-100, from the binary files in which they are published.
//!
//! ```no_run
//! use kiln::data::cifar::Cifar;
//! use kiln::data::idx::Amount;
//! use kiln::data::Dataset;
//!
//! // In the folder itself or in `cifar-10-batches-bin` under it, as the archive unpacks.
//! let files = Cifar::Ten.find("data")?;
//! let (train, test) = (files.load_train(Amount::All)?, files.load_test(Amount::All)?);
//! assert_eq!((train.len(), test.len()), (50_000, 10_000));
//! assert_eq!(train.sample_shape(), [3, 32, 32]);
//! # Ok::<(), kiln::Error>(())
//! ```

mod files;
mod read;

pub use files::Files;

use super::colour_images::{ColourImages, PIXELS};

/// A collection, and which of its labels are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cifar {
    /// CIFAR-10.
    Ten,
    /// CIFAR-100 with its hundred classes.
    Hundred,
    /// CIFAR-100 with its twenty groups of classes.
    HundredCoarse,
}

impl Cifar {
    /// Number of classes; labels are below it.
    pub fn classes(self) -> usize {
        match self {
            Cifar::Ten => 10,
            Cifar::Hundred => 100,
            Cifar::HundredCoarse => 20,
        }
    }

    /// The mean of each channel over the training images, for
    /// [`Normalisation`](super::Normalisation).
    pub fn mean(self) -> [f32; 3] {
        match self {
            Cifar::Ten => [0.4914, 0.4822, 0.4465],
            Cifar::Hundred | Cifar::HundredCoarse => [0.5071, 0.4865, 0.4409],
        }
    }

    /// The standard deviation of each channel over the training images.
    pub fn std(self) -> [f32; 3] {
        match self {
            Cifar::Ten => [0.2470, 0.2435, 0.2616],
            Cifar::Hundred | Cifar::HundredCoarse => [0.2673, 0.2564, 0.2762],
        }
    }

    /// How many classes each label of an image tells apart, in the order of its bytes.
    fn label_bytes(self) -> &'static [usize] {
        match self {
            Cifar::Ten => &[10],
            Cifar::Hundred | Cifar::HundredCoarse => &[20, 100],
        }
    }

    /// Which of an image's labels is wanted.
    fn wanted_label(self) -> usize {
        match self {
            Cifar::Ten | Cifar::HundredCoarse => 0,
            Cifar::Hundred => 1,
        }
    }

    /// Bytes of an image with its labels.
    fn record(self) -> usize {
        self.label_bytes().len() + PIXELS
    }
}
