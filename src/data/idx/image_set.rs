// SPDX-License-Identifier: MIT OR Apache-2.0
//! Images and their labels, together a data set.

use std::path::Path;

use super::{images, labels, Amount, Images};
use crate::data::{noise, Dataset, Fields, Pass, Sample};
use crate::{Error, Result};

/// Offset of the first label in a labels file.
const LABELS_START: u64 = 8;
/// Offset of the number of labels in its header.
const COUNT_OFFSET: u64 = 4;

/// Grey images and their labels, kept as bytes: a quarter of the memory of `f32`.
///
/// Samples are `[1, rows, cols]` with values `byte / 255`, as torchvision's `ToTensor` gives them.
/// For other subsets than the first images, take a copy with
/// [`MemoryDataset::read_all`](crate::data::MemoryDataset::read_all).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageSet {
    images: Images,
    labels: Vec<u8>,
    sample_shape: [usize; 3],
    classes: usize,
}

impl ImageSet {
    /// The images.
    pub fn images(&self) -> &Images {
        &self.images
    }

    /// The label of each image.
    pub fn labels(&self) -> &[u8] {
        &self.labels
    }

    /// Gives some images a wrong label, the same ones as
    /// [`MemoryDataset::with_label_noise`](crate::data::MemoryDataset::with_label_noise).
    ///
    /// # Errors
    /// As there; [`Error::Argument`] if there are more classes than a byte counts, too.
    pub fn with_label_noise(mut self, fraction: f64, seed: u64) -> Result<Self> {
        let swaps = noise::swaps(self.labels.len(), self.classes, fraction, seed)?;
        if !swaps.is_empty() && self.classes > 256 {
            return Err(Error::argument("classes", "at most 256, to swap labels", self.classes));
        }
        for swap in swaps {
            let label = &mut self.labels[swap.index];
            *label = ((usize::from(*label) + swap.shift) % self.classes) as u8;
        }
        Ok(self)
    }
}

/// Reads an images file and its labels file.
///
/// # Errors
/// Those of [`read_images`](super::read_images) and [`read_labels`](super::read_labels), both at
/// once if both files are wrong, and [`Error::Data`] if the files hold different counts or a label is not below `classes`.
pub fn load_pair(
    images: impl AsRef<Path>,
    labels: impl AsRef<Path>,
    classes: usize,
) -> Result<ImageSet> {
    load([images.as_ref(), labels.as_ref()], classes, Amount::All)
}

/// As [`load_pair`], for the first images alone or for all.
pub(super) fn load(
    [images_path, labels_path]: [&Path; 2],
    classes: usize,
    amount: Amount,
) -> Result<ImageSet> {
    let ((images, images_stored), (labels, labels_stored)) =
        both(images(images_path, amount), labels(labels_path, amount))?;
    if images_stored != labels_stored {
        return Err(Error::Data {
            path: labels_path.to_path_buf(),
            offset: COUNT_OFFSET,
            expected: format!("{images_stored} labels, as {} has images", images_path.display()),
            got: labels_stored.to_string(),
        });
    }
    if let Some(index) = labels.iter().position(|&label| usize::from(label) >= classes) {
        return Err(Error::Data {
            path: labels_path.to_path_buf(),
            offset: LABELS_START + index as u64,
            expected: format!("a label below {classes}"),
            got: labels[index].to_string(),
        });
    }
    let sample_shape = [1, images.rows, images.cols];
    Ok(ImageSet { images, labels, sample_shape, classes })
}

impl Dataset for ImageSet {
    fn len(&self) -> usize {
        self.labels.len()
    }

    fn is_fixed(&self) -> bool {
        true
    }

    fn fields(&self) -> Fields {
        Fields::labelled(self.sample_shape, self.classes)
    }

    fn read(&self, index: usize, _: Pass, sample: &mut Sample<'_>) -> Result<()> {
        self.check_index(index)?;
        let each = self.images.rows * self.images.cols;
        let pixels = &self.images.pixels[index * each..][..each];
        for (value, &pixel) in sample.input(0).f32()?.iter_mut().zip(pixels) {
            *value = f32::from(pixel) / 255.0;
        }
        sample.set_label(i32::from(self.labels[index]))
    }
}

/// Both results, or the errors of both.
pub(super) fn both<A, B>(a: Result<A>, b: Result<B>) -> Result<(A, B)> {
    match (a, b) {
        (Ok(a), Ok(b)) => Ok((a, b)),
        (Err(a), Err(b)) => Err(Error::Many(vec![a, b])),
        (Err(error), _) | (_, Err(error)) => Err(error),
    }
}
