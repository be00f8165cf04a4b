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

use super::{noise, Dataset, Fields, Pass, Sample};
use crate::Result;

const SIDE: usize = 32;
/// Bytes of an image: red, green and blue planes.
const PIXELS: usize = 3 * SIDE * SIDE;

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

/// Colour images of 32 x 32 and their labels, kept as bytes: a quarter of the memory of `f32`.
///
/// Samples are `[3, 32, 32]`, red, green and blue, with values `byte / 255`, as torchvision's
/// `ToTensor` gives them.
#[derive(Clone, PartialEq, Eq)]
pub struct ColourImages {
    pixels: Vec<u8>,
    labels: Vec<u8>,
    classes: usize,
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

impl ColourImages {
    /// The red, green and blue plane of each image, row-major.
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// The label of each image.
    pub fn labels(&self) -> &[u8] {
        &self.labels
    }

    /// Gives some images a wrong label, the same ones as
    /// [`MemoryDataset::with_label_noise`](crate::data::MemoryDataset::with_label_noise).
    ///
    /// # Errors
    /// As there.
    pub fn with_label_noise(mut self, fraction: f64, seed: u64) -> Result<Self> {
        for swap in noise::swaps(self.labels.len(), self.classes, fraction, seed)? {
            let label = &mut self.labels[swap.index];
            *label = ((usize::from(*label) + swap.shift) % self.classes) as u8;
        }
        Ok(self)
    }
}

impl Dataset for ColourImages {
    fn len(&self) -> usize {
        self.labels.len()
    }

    fn fields(&self) -> Fields {
        Fields::labelled([3, SIDE, SIDE], self.classes)
    }

    fn read(&self, index: usize, _: Pass, sample: &mut Sample<'_>) -> Result<()> {
        self.check_index(index)?;
        let pixels = &self.pixels[index * PIXELS..][..PIXELS];
        for (value, &pixel) in sample.input(0).f32()?.iter_mut().zip(pixels) {
            *value = f32::from(pixel) / 255.0;
        }
        sample.set_label(i32::from(self.labels[index]))
    }
}

impl std::fmt::Debug for ColourImages {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ColourImages")
            .field("len", &self.labels.len())
            .field("classes", &self.classes)
            .finish_non_exhaustive()
    }
}
