// SPDX-License-Identifier: MIT OR Apache-2.0
//! Lines of a file or of the standard input.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use kiln::{Error, Result};

/// Name of the stream in error messages.
const STANDARD_INPUT: &str = "standard input";

/// Lines, read one after the other.
pub(super) struct Lines {
    from: Box<dyn BufRead>,
    path: PathBuf,
    /// Lines read so far.
    number: usize,
    /// Where the last of them begins, and where it ends.
    range: [u64; 2],
}

impl Lines {
    /// Those of a file; of the standard input if there is none.
    pub(super) fn open(path: Option<&Path>) -> Result<Self> {
        let from: Box<dyn BufRead> = match path {
            None => Box::new(io::stdin().lock()),
            Some(path) => {
                Box::new(BufReader::new(File::open(path).map_err(Error::io("open", path))?))
            }
        };
        let path = path.unwrap_or(Path::new(STANDARD_INPUT)).into();
        Ok(Lines { from, path, number: 0, range: [0; 2] })
    }

    /// The next line, without what ends it, and its number, counted from 1.
    ///
    /// # Errors
    /// [`Error::Data`] for a line that is no UTF-8 or holds nothing.
    pub(super) fn next(&mut self) -> Result<Option<(usize, String)>> {
        let mut bytes = Vec::new();
        let read = self.from.read_until(b'\n', &mut bytes);
        let read = read.map_err(Error::io("read", &self.path))?;
        if read == 0 {
            return Ok(None);
        }
        self.range = [self.range[1], self.range[1] + read as u64];
        self.number += 1;
        let line = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        match std::str::from_utf8(line) {
            Err(error) => {
                let byte = line.get(error.valid_up_to()).copied().unwrap_or_default();
                Err(self.wrong("UTF-8", format!("the byte {byte:#04x}")))
            }
            Ok(line) if line.trim().is_empty() => Err(self.wrong("a text", "an empty line")),
            Ok(line) => Ok(Some((self.number, line.into()))),
        }
    }

    /// What is wrong with the line read last.
    pub(super) fn wrong(&self, expected: &str, got: impl ToString) -> Error {
        Error::Data {
            path: self.path.clone(),
            offset: self.range[0],
            expected: format!("{expected} in line {}", self.number),
            got: got.to_string(),
        }
    }
}
