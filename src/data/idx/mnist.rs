// SPDX-License-Identifier: MIT OR Apache-2.0
//! Finding the four files of MNIST under the names that they go by.

use std::io;
use std::path::{Path, PathBuf};

use super::image_set::both;
use super::{load_pair, ImageSet};
use crate::{Error, Result};

const CLASSES: usize = 10;
const IMAGES: &str = "images-idx3-ubyte";
const LABELS: &str = "labels-idx1-ubyte";

/// A training and a test set in the format of MNIST.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mnist {
    /// `train-images` and `train-labels`.
    pub train: ImageSet,
    /// `t10k-images` and `t10k-labels`.
    pub test: ImageSet,
}

/// Reads MNIST, Fashion-MNIST or another set of ten classes from the directory that holds its four
/// files.
///
/// Each is looked for as `train-images-idx3-ubyte` and, as some archives unpack it,
/// `train-images.idx3-ubyte`, each plain first and then with `.gz`.
///
/// # Errors
/// [`Error::Io`] naming each file that is missing, and the errors of [`load_pair`].
pub fn mnist_dir(dir: impl AsRef<Path>) -> Result<Mnist> {
    let dir = dir.as_ref();
    let (train, test) = both(files(dir, "train"), files(dir, "t10k"))?;
    Ok(Mnist {
        train: load_pair(train.0, train.1, CLASSES)?,
        test: load_pair(test.0, test.1, CLASSES)?,
    })
}

/// The images file and the labels file of one part.
fn files(dir: &Path, part: &str) -> Result<(PathBuf, PathBuf)> {
    both(find(dir, part, IMAGES), find(dir, part, LABELS))
}

fn find(dir: &Path, part: &str, kind: &str) -> Result<PathBuf> {
    let (hyphen, dot) =
        (format!("{part}-{kind}"), format!("{part}-{}", kind.replacen('-', ".", 1)));
    let names = [hyphen.clone(), format!("{hyphen}.gz"), dot.clone(), format!("{dot}.gz")];
    let found = names.iter().map(|name| dir.join(name)).find(|path| path.is_file());
    found.ok_or_else(|| {
        let reason = format!("none of {} is there", names.join(", "));
        Error::io("find", dir.join(hyphen))(io::Error::new(io::ErrorKind::NotFound, reason))
    })
}
