// SPDX-License-Identifier: MIT OR Apache-2.0
//! The records of the binary files: labels, and then the planes of an image.

use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use super::{Cifar, ColourImages, PIXELS};
use crate::data::idx::{signature, Amount};
use crate::files::regular;
use crate::{allocate, Error, Result};

/// Reads the images of several files, one after another, straight to where they stay.
pub(super) fn all(labels: Cifar, paths: &[PathBuf], amount: Amount) -> Result<ColourImages> {
    let mut files = Vec::with_capacity(paths.len());
    for path in paths {
        files.push(Records::open(labels, path)?);
    }
    let there: usize = files.iter().map(|file| file.count).sum();
    let wanted = match amount {
        Amount::All => there,
        Amount::First(count) if count <= there => count,
        Amount::First(count) => {
            let first = paths.first().map(|path| path.display().to_string()).unwrap_or_default();
            let expected = format!("at most {there}, all of {first} and the files beside it");
            return Err(Error::argument("count", expected, count));
        }
    };
    let what = "images of CIFAR";
    let mut images = ColourImages {
        pixels: allocate::zeros(wanted.saturating_mul(PIXELS), what)?,
        labels: allocate::room(wanted, what)?,
        classes: labels.classes(),
    };
    let mut rest = images.pixels.chunks_exact_mut(PIXELS);
    for mut file in files {
        for planes in rest.by_ref().take(file.count) {
            images.labels.push(file.read(planes)?);
        }
    }
    Ok(images)
}

/// The images of a file.
struct Records<'a> {
    path: &'a Path,
    labels: Cifar,
    reader: BufReader<std::fs::File>,
    count: usize,
    offset: u64,
}

impl<'a> Records<'a> {
    fn open(labels: Cifar, path: &'a Path) -> Result<Self> {
        let (file, length) = regular::open(path)?;
        let mut reader = BufReader::new(file);
        let each = labels.record() as u64;
        let wrong = |offset, expected, got| {
            Err(Error::Data { path: path.to_path_buf(), offset, expected, got })
        };
        let start = reader.fill_buf().map_err(Error::io("read", path))?;
        // A label is no first byte of any of these.
        if let Some(known) = name(start) {
            return wrong(0, format!("images with labels, {each} bytes each"), known.into());
        }
        if length == 0 || length % each != 0 {
            let whole = length.div_ceil(each).max(1).saturating_mul(each);
            let expected = format!("{whole} bytes in all, images with labels of {each} bytes each");
            return wrong(length, expected, "the end of the file".into());
        }
        let count = usize::try_from(length / each).unwrap_or(usize::MAX);
        Ok(Records { path, labels, reader, count, offset: 0 })
    }

    /// Reads the next image and gives its label.
    fn read(&mut self, planes: &mut [u8]) -> Result<u8> {
        let mut bytes = [0; 2];
        let kinds = self.labels.label_bytes();
        let labels = &mut bytes[..kinds.len()];
        self.fill(labels)?;
        for (place, (label, classes)) in labels.iter().zip(kinds).enumerate() {
            if usize::from(*label) >= *classes {
                let offset = self.offset - (kinds.len() - place) as u64;
                let expected = format!("a label below {classes}");
                return Err(self.wrong(offset, expected, label.to_string()));
            }
        }
        self.fill(planes)?;
        Ok(bytes[self.labels.wanted_label()])
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<()> {
        self.reader.read_exact(bytes).map_err(|error| match error.kind() {
            // It was longer when it was opened.
            io::ErrorKind::UnexpectedEof => {
                let expected = format!("{} images", self.count);
                self.wrong(self.offset, expected, "a file that is cut while it is read".into())
            }
            _ => Error::io("read", self.path)(error),
        })?;
        self.offset += bytes.len() as u64;
        Ok(())
    }

    fn wrong(&self, offset: u64, expected: String, got: String) -> Error {
        Error::Data { path: self.path.to_path_buf(), offset, expected, got }
    }
}

/// What the file is instead, if that is known.
fn name(start: &[u8]) -> Option<&'static str> {
    match start {
        [0x80, 2..=5, b'}' | b'c' | b'q' | 0x95, ..] => {
            Some("a Python pickle: what is wanted is the binary version")
        }
        [0x1f, 0x8b, ..] => Some("a gzip file, which has to be unpacked first"),
        _ => signature::name(start),
    }
}
