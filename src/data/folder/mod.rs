// SPDX-License-Identifier: MIT OR Apache-2.0
//! Pictures in folders, one folder for each class.

mod decode;
mod ending;
mod listing;

use std::fmt;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::{Dataset, Fields, Pass, Sample};
use crate::{Error, Result, Shape};
use listing::Listed;

/// PNG and JPEG files in folders, one folder for each class, in the order of their names.
///
/// Samples are `[3, height, width]`, red, green and blue, with values from 0 to 1; what is transparent
/// counts as opaque, and grey pictures have three equal channels. Files are decoded when they are
/// read, by the threads of the loader, and are not kept: a [`MemoryDataset`](super::MemoryDataset)
/// keeps them. Each class's files may lie in folders of its folder; names that begin with a dot are
/// passed over.
///
/// ```no_run
/// use kiln::data::{ImageFolder, Pictures};
///
/// let train = ImageFolder::open("flowers/train", Pictures::of(64, 64))?;
/// assert_eq!(train.classes()[0], "daisy");
/// let test = ImageFolder::open_with("flowers/test", train.classes(), Pictures::of(64, 64))?;
/// # Ok::<(), kiln::Error>(())
/// ```
#[derive(Clone)]
pub struct ImageFolder {
    classes: Vec<String>,
    files: Vec<Listed>,
    pictures: Pictures,
    skipped: Vec<(PathBuf, String)>,
}

/// What pictures become, and what of those that are none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pictures {
    /// Rows of a sample.
    pub height: usize,
    /// Columns of a sample.
    pub width: usize,
    /// What becomes of pictures of another size.
    pub fit: Fit,
    /// What becomes of files that are no such pictures.
    pub bad: BadPictures,
}

/// What becomes of pictures of another size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Fit {
    /// The largest piece of the right proportions in the middle is resized, averaging where it is
    /// made smaller.
    #[default]
    ResizeAndCrop,
    /// They are bad.
    Exact,
}

/// What becomes of files that are no pictures, or cut off, or of a wrong size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BadPictures {
    /// The first of them is an error that names it: of its name when the folder is opened, of its
    /// contents when it is read.
    #[default]
    Refuse,
    /// They are left out: all files are decoded once when the folder is opened, in threads.
    /// [`ImageFolder::skipped`] names them.
    Skip,
}

impl Pictures {
    /// Pictures of this size, others resized, bad ones refused.
    pub fn of(height: usize, width: usize) -> Self {
        Pictures { height, width, fit: Fit::default(), bad: BadPictures::default() }
    }
}

impl ImageFolder {
    /// Lists the pictures in the folders of `dir`.
    ///
    /// # Errors
    /// [`Error::Io`] for a folder that cannot be read, has no folders for classes, or one for a class
    /// in which there is no picture; unless they are skipped, [`Error::Data`] for each file whose
    /// name does not end in `.png`, `.jpg` or `.jpeg`; [`Error::Argument`] for a size of 0 or one
    /// that does not fit in memory.
    pub fn open(dir: impl AsRef<Path>, pictures: Pictures) -> Result<Self> {
        Self::opened(dir.as_ref(), None, pictures)
    }

    /// As [`open`](Self::open) with the classes of another folder: a test set may lack some, and has
    /// no others.
    ///
    /// # Errors
    /// As there, and [`Error::Io`] for a folder that is none of the classes.
    pub fn open_with(
        dir: impl AsRef<Path>,
        classes: &[String],
        pictures: Pictures,
    ) -> Result<Self> {
        Self::opened(dir.as_ref(), Some(classes), pictures)
    }

    fn opened(dir: &Path, classes: Option<&[String]>, pictures: Pictures) -> Result<Self> {
        let Pictures { height, width, bad, .. } = pictures;
        let shape = Shape::from([3, height, width]);
        if shape.elements() == 0 || !shape.is_allowed() || u32::try_from(height.max(width)).is_err()
        {
            let expected = "rows and columns above 0 that fit in memory";
            return Err(Error::argument("size", expected, format!("{height} x {width}")));
        }
        let listing = listing::of(dir, classes)?;
        let mut found = ImageFolder {
            classes: listing.classes,
            files: listing.files,
            pictures,
            skipped: Vec::new(),
        };
        match bad {
            BadPictures::Refuse => Error::check(listing.others)?,
            BadPictures::Skip => found.skip(listing.others),
        }
        Ok(found)
    }

    /// The names of the classes, in the order of their labels.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// The file of a sample, `None` past the end.
    pub fn path(&self, index: usize) -> Option<&Path> {
        self.files.get(index).map(|file| &*file.path)
    }

    /// The files that were left out, each with the reason, in the order of their names.
    pub fn skipped(&self) -> &[(PathBuf, String)] {
        &self.skipped
    }

    /// Leaves out what cannot be read.
    fn skip(&mut self, others: Vec<Error>) {
        let bad = |file: &Listed| decode::picture(&file.path, self.pictures).err();
        let found: Vec<Option<Error>> = self.files.par_iter().map(bad).collect();
        let mut reasons: Vec<Error> = others;
        let mut results = found.into_iter();
        self.files.retain(|_| match results.next().flatten() {
            None => true,
            Some(error) => {
                reasons.push(error);
                false
            }
        });
        let named = |error: Error| match &error {
            Error::Data { path, .. } | Error::Io { path, .. } => (path.clone(), error.to_string()),
            _ => (PathBuf::new(), error.to_string()),
        };
        self.skipped = reasons.into_iter().map(named).collect();
        self.skipped.sort();
    }
}

impl Dataset for ImageFolder {
    fn len(&self) -> usize {
        self.files.len()
    }

    fn fields(&self) -> Fields {
        let Pictures { height, width, .. } = self.pictures;
        Fields::labelled([3, height, width], self.classes.len())
    }

    /// # Errors
    /// [`Error::Data`] for a file that is no such picture, [`Error::Io`] for one that cannot be read.
    fn read(&self, index: usize, _: Pass, sample: &mut Sample<'_>) -> Result<()> {
        self.check_index(index)?;
        let file = &self.files[index];
        let picture = decode::picture(&file.path, self.pictures)?;
        let planes = sample.input(0).f32()?;
        let each = planes.len() / 3;
        for (channel, plane) in planes.chunks_exact_mut(each).enumerate() {
            let values = picture.iter().skip(channel).step_by(3);
            for (value, &byte) in plane.iter_mut().zip(values) {
                *value = f32::from(byte) / 255.0;
            }
        }
        sample.set_label(file.class)
    }
}

impl fmt::Debug for ImageFolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ImageFolder")
            .field("len", &self.files.len())
            .field("classes", &self.classes)
            .field("pictures", &self.pictures)
            .field("skipped", &self.skipped)
            .finish_non_exhaustive()
    }
}
