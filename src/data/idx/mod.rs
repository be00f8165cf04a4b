// SPDX-License-Identifier: MIT OR Apache-2.0
//! IDX files, the format of MNIST and its relatives, plain or gzip.
//!
//! A file is recognised as gzip by its first bytes, whatever its name. A header is believed only as
//! far as the file can hold what it announces, and nothing is unpacked beyond what is asked for, so
//! a corrupt file costs an error and never memory. Every error in a file's contents is an
//! [`Error::Data`](crate::Error::Data) with the file, the offset, what the format asks for and what
//! is there.
//!
//! ```no_run
//! use kiln::data::idx::{self, Amount, Collection, Emnist};
//! use kiln::data::Dataset;
//!
//! let mnist = idx::mnist_dir("data/mnist")?;
//! assert_eq!(mnist.train.sample_shape(), [1, 28, 28]);
//!
//! // Found where torchvision puts them, under `data/EMNIST/raw`.
//! let letters = Collection::Emnist(Emnist::Letters).find("data")?;
//! let few = letters.train.load(Amount::First(1000))?;
//! assert_eq!(few.len(), 1000);
//! # Ok::<(), kiln::Error>(())
//! ```

mod collection;
mod files;
mod image_set;
pub(super) mod signature;
mod source;

use std::path::Path;

use crate::Result;
use source::Source;

pub use collection::{mnist_dir, Collection, Emnist, Mnist};
pub use files::{Files, Pair};
pub use image_set::{load_pair, ImageSet};

/// Two zero bytes, the element type (8: unsigned byte) and the number of dimensions.
const IMAGES_MAGIC: u32 = 0x0000_0803;
const LABELS_MAGIC: u32 = 0x0000_0801;

/// How much of a file is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Amount {
    /// Everything, and that the file ends there.
    #[default]
    All,
    /// So many items from the front; what lies behind them is not looked at.
    First(usize),
}

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
    images(path.as_ref(), Amount::All).map(|(images, _)| images)
}

/// Reads a labels file (one dimension of unsigned bytes).
///
/// # Errors
/// As [`read_images`].
pub fn read_labels(path: impl AsRef<Path>) -> Result<Vec<u8>> {
    labels(path.as_ref(), Amount::All).map(|(labels, _)| labels)
}

/// An images file's first images, or all, and how many the file holds.
fn images(path: &Path, amount: Amount) -> Result<(Images, usize)> {
    let mut source = Source::open(path)?;
    let sizes = source.header(IMAGES_MAGIC)?;
    let pixels = source.body(sizes, amount)?;
    let [stored, rows, cols] = sizes.map(|size| size as usize);
    let count = pixels.len() / (rows * cols);
    Ok((Images { count, rows, cols, pixels }, stored))
}

/// A labels file's first labels, or all, and how many the file holds.
fn labels(path: &Path, amount: Amount) -> Result<(Vec<u8>, usize)> {
    let mut source = Source::open(path)?;
    let [count] = source.header(LABELS_MAGIC)?;
    Ok((source.body([count], amount)?, count as usize))
}
