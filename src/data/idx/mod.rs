// SPDX-License-Identifier: MIT OR Apache-2.0
//! IDX files, the format of MNIST and its relatives, plain or gzip.
//!
//! A file is recognised as gzip by its first bytes, whatever its name. A header is believed only as
//! far as the file can hold what it announces, so a corrupt file costs an error and never memory.
//! Every error in a file's contents is an [`Error::Data`](crate::Error::Data) with the file, the
//! offset, what the format asks for and what is there.
//!
//! ```no_run
//! use kiln::data::{idx, Dataset};
//!
//! let mnist = idx::mnist_dir("data/fashion-mnist")?;
//! assert_eq!(mnist.train.sample_shape(), [1, 28, 28]);
//!
//! let letters = idx::load_pair("emnist-images.gz", "emnist-labels.gz", 47)?;
//! # Ok::<(), kiln::Error>(())
//! ```

mod image_set;
mod mnist;
mod source;

use std::path::Path;

use crate::Result;
use source::Source;

pub use image_set::{load_pair, ImageSet};
pub use mnist::{mnist_dir, Mnist};

/// Two zero bytes, the element type (8: unsigned byte) and the number of dimensions.
const IMAGES_MAGIC: u32 = 0x0000_0803;
const LABELS_MAGIC: u32 = 0x0000_0801;

/// The contents of an images file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Images {
    /// Number of images.
    pub count: usize,
    /// Height of each image in pixels.
    pub rows: usize,
    /// Width of each image in pixels.
    pub cols: usize,
    /// `count * rows * cols` grey values, image by image, row-major.
    pub pixels: Vec<u8>,
}

/// Reads an images file (three dimensions of unsigned bytes).
///
/// # Errors
/// [`Error::Io`](crate::Error::Io) if the file cannot be read, [`Error::Data`](crate::Error::Data)
/// if it is not such a file from its first to its last byte.
///
/// ```
/// # let dir = std::env::temp_dir().join(format!("kiln-idx-doc-{}", std::process::id()));
/// # std::fs::create_dir_all(&dir).unwrap();
/// # let path = dir.join("images-idx3-ubyte");
/// // Two images of 1 x 3 pixels.
/// let bytes = [0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 3, 10, 20, 30, 40, 50, 60];
/// std::fs::write(&path, bytes).unwrap();
/// let images = kiln::data::idx::read_images(&path)?;
/// assert_eq!((images.count, images.rows, images.cols), (2, 1, 3));
/// assert_eq!(images.pixels, [10, 20, 30, 40, 50, 60]);
///
/// std::fs::write(&path, &bytes[..20]).unwrap();
/// let error = kiln::data::idx::read_images(&path).unwrap_err();
/// assert!(error.to_string().contains("at byte 20: expected 22 bytes in all"));
/// # std::fs::remove_dir_all(&dir).unwrap();
/// # Ok::<(), kiln::Error>(())
/// ```
pub fn read_images(path: impl AsRef<Path>) -> Result<Images> {
    let mut source = Source::open(path.as_ref())?;
    let [count, rows, cols] = source.header(IMAGES_MAGIC)?;
    let pixels = source.body([count, rows, cols])?;
    Ok(Images { count: count as usize, rows: rows as usize, cols: cols as usize, pixels })
}

/// Reads a labels file (one dimension of unsigned bytes).
///
/// # Errors
/// As [`read_images`].
pub fn read_labels(path: impl AsRef<Path>) -> Result<Vec<u8>> {
    let mut source = Source::open(path.as_ref())?;
    let dimensions: [u32; 1] = source.header(LABELS_MAGIC)?;
    source.body(dimensions)
}
