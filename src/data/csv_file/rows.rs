// SPDX-License-Identifier: MIT OR Apache-2.0
//! The lines of a file, each with its number.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use csv::{ErrorKind, Reader, ReaderBuilder, StringRecord, Trim};

use super::columns::Refusal;
use crate::files::regular;
use crate::{Error, Result};

/// A file that is read line by line.
pub(super) struct Rows {
    path: PathBuf,
    reader: Reader<File>,
}

/// One line, or several where quotes hold line breaks.
pub(super) struct Row {
    pub(super) fields: StringRecord,
    /// Offset of its first byte, or of a line break before it.
    offset: u64,
}

impl Rows {
    pub(super) fn open(path: &Path, delimiter: u8) -> Result<Self> {
        let (file, _) = regular::open(path)?;
        let mut builder = ReaderBuilder::new();
        // Whether all lines are of one length is checked here, with the number of the line.
        builder.has_headers(false).flexible(true).trim(Trim::All).delimiter(delimiter);
        Ok(Rows { path: path.to_path_buf(), reader: builder.from_reader(file) })
    }

    /// The names of the columns.
    pub(super) fn header(&mut self) -> Result<Vec<String>> {
        match self.next()? {
            Some(row) => Ok(row.fields.iter().map(String::from).collect()),
            None => Err(self.text(1, "a line with the names of the columns", "an empty file")),
        }
    }

    /// The next line that is not empty.
    pub(super) fn next(&mut self) -> Result<Option<Row>> {
        let offset = self.reader.position().byte();
        let mut fields = StringRecord::new();
        match self.reader.read_record(&mut fields) {
            Ok(true) => Ok(Some(Row { fields, offset })),
            Ok(false) => Ok(None),
            Err(error) => Err(self.unreadable(error, offset)),
        }
    }

    /// Why there is no further line.
    pub(super) fn ended(&self) -> Error {
        let line = self.line(self.reader.position().byte());
        self.text(line, "a sample", "the end of the file")
    }

    pub(super) fn check_width(&self, row: &Row, width: usize) -> Result<()> {
        match row.fields.len() {
            got if got == width => Ok(()),
            got => {
                let expected = format!("{width} columns, as in the first line");
                Err(self.text(self.line(row.offset), &expected, &got.to_string()))
            }
        }
    }

    pub(super) fn refuse(&self, row: &Row, refusal: Refusal) -> Error {
        match refusal {
            Refusal::Content(expected, got) => self.text(self.line(row.offset), &expected, &got),
            Refusal::Memory(error) => error,
        }
    }

    fn unreadable(&self, error: csv::Error, offset: u64) -> Error {
        match error.into_kind() {
            ErrorKind::Io(error) => Error::io("read", &self.path)(error),
            ErrorKind::Utf8 { .. } => self.text(self.line(offset), "text in UTF-8", "other bytes"),
            other => self.text(self.line(offset), "comma-separated values", &format!("{other:?}")),
        }
    }

    fn text(&self, line: u64, expected: &str, got: &str) -> Error {
        let path = self.path.clone();
        Error::Text { path, line, expected: expected.into(), got: got.into() }
    }

    /// The number of the line that begins at an offset or behind the line breaks there. It is counted
    /// when it is asked for: the reader's own count is behind where lines are empty.
    fn line(&self, offset: u64) -> u64 {
        let counted = regular::open(&self.path).and_then(|(file, _)| {
            count(BufReader::new(file), offset).map_err(Error::io("read", &self.path))
        });
        counted.unwrap_or_else(|_| self.reader.position().line())
    }
}

/// Line breaks up to the first byte at or behind an offset that is none, and one more: `\n`, `\r` or
/// both together.
fn count(file: impl BufRead, offset: u64) -> std::io::Result<u64> {
    let (mut line, mut before) = (1, 0);
    for (place, byte) in (0_u64..).zip(file.bytes()) {
        match byte? {
            b'\n' if before == b'\r' => before = b'\n',
            byte @ (b'\n' | b'\r') => {
                line += 1;
                before = byte;
            }
            _ if place >= offset => break,
            byte => before = byte,
        }
    }
    Ok(line)
}
