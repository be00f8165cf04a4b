// SPDX-License-Identifier: MIT OR Apache-2.0
//! The collections of images that come in the format of MNIST.

use std::path::Path;

use super::files::{self, Files, Part};
use super::ImageSet;
use crate::Result;

/// A training and a test set in the format of MNIST.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mnist {
    /// `train-images` and `train-labels`.
    pub train: ImageSet,
    /// `t10k-images` and `t10k-labels`.
    pub test: ImageSet,
}

/// A published collection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Collection {
    /// Handwritten digits.
    Mnist,
    /// Pieces of clothing.
    FashionMnist,
    /// Handwritten hiragana.
    Kmnist,
    /// Handwritten letters and digits. Their images are stored with rows and columns exchanged, and
    /// read as they are stored, as torchvision does.
    Emnist(Emnist),
}

/// A division of EMNIST into training and test set, and into classes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Emnist {
    /// 62 classes of digits and letters.
    ByClass,
    /// 47 classes: letters that look alike in both cases are merged.
    ByMerge,
    /// 47 classes, all of one size.
    Balanced,
    /// 26 letters, labelled from 1; class 0 has no images.
    Letters,
    /// Ten digits.
    Digits,
    /// Ten digits, as many as MNIST has.
    Mnist,
}

/// Reads MNIST, or another set of ten classes under MNIST's names, from a folder.
///
/// The four files are looked for as [`Collection::find`] says.
///
/// # Errors
/// [`Error::Io`](crate::Error::Io) naming each file that is missing, and the errors of
/// [`load_pair`](super::load_pair).
pub fn mnist_dir(dir: impl AsRef<Path>) -> Result<Mnist> {
    Collection::Mnist.find(dir)?.load()
}

impl Collection {
    /// Finds the four files in a folder, or in `MNIST/raw` under it, where torchvision puts them
    /// (`FashionMNIST`, `KMNIST` and `EMNIST` for the others).
    ///
    /// Each may be called `train-images-idx3-ubyte` or `train-images.idx3-ubyte`, in upper or lower
    /// case, plain or with `.gz`, and may lie in a folder of its own name. Names of EMNIST begin
    /// with its division, `emnist-letters-train-images-idx3-ubyte`; those of the others may begin
    /// with the collection's name.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io) naming each file that is missing.
    pub fn find(self, dir: impl AsRef<Path>) -> Result<Files> {
        files::find(self, dir.as_ref())
    }

    /// Number of classes; labels are below it.
    pub fn classes(self) -> usize {
        match self {
            Collection::Mnist | Collection::FashionMnist | Collection::Kmnist => 10,
            Collection::Emnist(division) => division.classes(),
        }
    }

    /// The folder in which torchvision keeps it.
    pub(super) fn folder(self) -> &'static str {
        match self {
            Collection::Mnist => "MNIST",
            Collection::FashionMnist => "FashionMNIST",
            Collection::Kmnist => "KMNIST",
            Collection::Emnist(_) => "EMNIST",
        }
    }

    /// How its files' names begin: `train`, `emnist-letters-test`.
    pub(super) fn name_of(self, part: Part) -> String {
        match (self, part) {
            (Collection::Emnist(division), Part::Train) => {
                format!("emnist-{}-train", division.name())
            }
            (Collection::Emnist(division), Part::Test) => {
                format!("emnist-{}-test", division.name())
            }
            (_, Part::Train) => "train".into(),
            (_, Part::Test) => "t10k".into(),
        }
    }

    /// Whether its files may go by a name that begins so, without hyphens.
    pub(super) fn goes_by(self, prefix: &str) -> bool {
        match self {
            Collection::Mnist => ["", "mnist"].contains(&prefix),
            Collection::FashionMnist => ["", "fashion", "fashionmnist"].contains(&prefix),
            Collection::Kmnist => ["", "kmnist"].contains(&prefix),
            Collection::Emnist(division) => {
                prefix.strip_prefix("emnist").is_some_and(|name| name == division.name())
            }
        }
    }
}

impl Emnist {
    fn name(self) -> &'static str {
        match self {
            Emnist::ByClass => "byclass",
            Emnist::ByMerge => "bymerge",
            Emnist::Balanced => "balanced",
            Emnist::Letters => "letters",
            Emnist::Digits => "digits",
            Emnist::Mnist => "mnist",
        }
    }

    fn classes(self) -> usize {
        match self {
            Emnist::ByClass => 62,
            Emnist::ByMerge | Emnist::Balanced => 47,
            Emnist::Letters => 27,
            Emnist::Digits | Emnist::Mnist => 10,
        }
    }
}
