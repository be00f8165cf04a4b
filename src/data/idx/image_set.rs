// SPDX-License-Identifier: MIT OR Apache-2.0
//! Images and their labels, together a data set.

use std::path::Path;

use super::{read_images, read_labels, Images};
use crate::data::Dataset;
use crate::{Error, Result};

/// Offset of the first label in a labels file.
const LABELS_START: u64 = 8;
/// Offset of the number of labels in its header.
const COUNT_OFFSET: u64 = 4;

/// Grey images and their labels, kept as bytes: a quarter of the memory of `f32`.
///
/// Samples are `[1, rows, cols]` with values `byte / 255`, as torchvision's `ToTensor` gives them.
/// For subsets and label noise, take a copy with
/// [`MemoryDataset::read_all`](crate::data::MemoryDataset).
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
}

/// Reads an images file and its labels file.
///
/// # Errors
/// Those of [`read_images`] and [`read_labels`], both at once if both files are wrong, and
/// [`Error::Data`] if the files hold different counts or a label is not below `classes`.
pub fn load_pair(
    images: impl AsRef<Path>,
    labels: impl AsRef<Path>,
    classes: usize,
) -> Result<ImageSet> {
    let (images_path, labels_path) = (images.as_ref(), labels.as_ref());
    let (images, labels) = both(read_images(images_path), read_labels(labels_path))?;
    if images.count != labels.len() {
        return Err(Error::Data {
            path: labels_path.to_path_buf(),
            offset: COUNT_OFFSET,
            expected: format!("{} labels, as {} has images", images.count, images_path.display()),
            got: labels.len().to_string(),
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

    fn sample_shape(&self) -> &[usize] {
        &self.sample_shape
    }

    fn classes(&self) -> usize {
        self.classes
    }

    fn read(&self, index: usize, into: &mut [f32]) -> Result<i32> {
        self.check_read(index, into)?;
        let pixels = &self.images.pixels[index * into.len()..][..into.len()];
        for (value, &pixel) in into.iter_mut().zip(pixels) {
            *value = f32::from(pixel) / 255.0;
        }
        Ok(i32::from(self.labels[index]))
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
