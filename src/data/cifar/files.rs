// SPDX-License-Identifier: MIT OR Apache-2.0
//! Finding the files of a collection in the folders that they come in.

use std::io;
use std::path::{Path, PathBuf};

use super::{read, Cifar};
use crate::data::idx::Amount;
use crate::data::ColourImages;
use crate::{Error, Result};

/// The files of a collection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// Which labels are read.
    pub labels: Cifar,
    /// Those to train on, in their order.
    pub train: Vec<PathBuf>,
    /// Those to test with.
    pub test: Vec<PathBuf>,
}

impl Cifar {
    /// Finds the files in a folder, or in the folder under it that the published archive unpacks to:
    /// `data_batch_1.bin` to `data_batch_5.bin` and `test_batch.bin` in `cifar-10-batches-bin`,
    /// `train.bin` and `test.bin` in `cifar-100-binary`.
    ///
    /// # Errors
    /// [`Error::Io`] naming each file that is missing.
    pub fn find(self, dir: impl AsRef<Path>) -> Result<Files> {
        let (train, test) = self.names();
        let own = dir.as_ref().join(self.folder());
        let is_there = |at: &Path| train.iter().chain(test).any(|name| at.join(name).exists());
        let at = match is_there(&own) {
            true => own,
            false => dir.as_ref().to_path_buf(),
        };
        let paths = |names: &[&str]| names.iter().map(|name| at.join(name)).collect();
        let files = Files { labels: self, train: paths(train), test: paths(test) };
        let missing = files.train.iter().chain(&files.test).filter(|path| !path.exists());
        Error::check(missing.map(|path| self.missing(path)).collect())?;
        Ok(files)
    }

    /// The folder that the archive unpacks to.
    fn folder(self) -> &'static str {
        match self {
            Cifar::Ten => "cifar-10-batches-bin",
            Cifar::Hundred | Cifar::HundredCoarse => "cifar-100-binary",
        }
    }

    fn names(self) -> (&'static [&'static str], &'static [&'static str]) {
        match self {
            Cifar::Ten => (
                &[
                    "data_batch_1.bin",
                    "data_batch_2.bin",
                    "data_batch_3.bin",
                    "data_batch_4.bin",
                    "data_batch_5.bin",
                ],
                &["test_batch.bin"],
            ),
            Cifar::Hundred | Cifar::HundredCoarse => (&["train.bin"], &["test.bin"]),
        }
    }

    fn missing(self, path: &Path) -> Error {
        let reason = format!("it is neither there nor in {}", self.folder());
        Error::io("find", path)(io::Error::new(io::ErrorKind::NotFound, reason))
    }
}

impl Files {
    /// Reads the training images, or the first of them.
    ///
    /// # Errors
    /// [`Error::Io`] if a file cannot be read, [`Error::Data`] with the offset of the first byte that
    /// is not as published, [`Error::Argument`] if there are fewer images than are wanted,
    /// [`Error::Device`] if there is no memory for them.
    pub fn load_train(&self, amount: Amount) -> Result<ColourImages> {
        read::all(self.labels, &self.train, amount)
    }

    /// Reads the test images, as [`load_train`](Self::load_train).
    ///
    /// # Errors
    /// As there.
    pub fn load_test(&self, amount: Amount) -> Result<ColourImages> {
        read::all(self.labels, &self.test, amount)
    }
}
