// SPDX-License-Identifier: MIT OR Apache-2.0
//! Small colour images held in memory as bytes.

use super::{noise, Dataset, Fields, Pass, Sample};
use crate::Result;

/// Rows and columns of an image.
pub(super) const SIDE: usize = 32;
/// Bytes of an image: red, green and blue planes.
pub(super) const PIXELS: usize = 3 * SIDE * SIDE;

/// Colour images of 32 x 32 and their labels, kept as bytes: a quarter of the memory of `f32`.
///
/// Samples are `[3, 32, 32]`, red, green and blue, with values `byte / 255`, as torchvision's
/// `ToTensor` gives them.
#[derive(Clone, PartialEq, Eq)]
pub struct ColourImages {
    pub(super) pixels: Vec<u8>,
    pub(super) labels: Vec<u8>,
    pub(super) classes: usize,
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

    fn is_fixed(&self) -> bool {
        true
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
