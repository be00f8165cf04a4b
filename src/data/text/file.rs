// SPDX-License-Identifier: MIT OR Apache-2.0
//! Files of labelled texts: a label, a tab and a text in each line.

use std::io::Read;
use std::path::Path;

use super::{Labelled, LabelledText};
use crate::{allocate, files::regular, Error, Result};

/// The mark of UTF-8 that some editors put at the beginning of a file.
const MARK: &str = "\u{feff}";

impl Labelled {
    /// Reads a file of lines `LABEL<TAB>TEXT` in UTF-8. What follows the first tab is the text, other
    /// tabs included.
    ///
    /// ```
    /// use kiln::data::Labelled;
    ///
    /// # let dir = std::env::temp_dir().join(format!("kiln-text-doc-{}", std::process::id()));
    /// # std::fs::create_dir_all(&dir).unwrap();
    /// let file = dir.join("mail.txt");
    /// std::fs::write(&file, "spam\twin a prize\nham\tsee you at noon\n").unwrap();
    /// let mail = Labelled::read(&file)?;
    /// assert_eq!(mail.labels(), ["ham", "spam"]);
    /// assert_eq!(mail.entries()[1].text, "see you at noon");
    /// # std::fs::remove_dir_all(&dir).unwrap();
    /// # Ok::<(), kiln::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Data`], which names the line, for one that is no UTF-8, is empty, or lacks the tab, the
    /// label or the text, and for a file without lines; [`Error::Io`] if it cannot be read.
    pub fn read(path: &Path) -> Result<Self> {
        Labelled::parse(path, &bytes(path, "a file of texts")?)
    }

    /// The texts in the bytes of a file; the path is for errors.
    pub(crate) fn parse(path: &Path, bytes: &[u8]) -> Result<Self> {
        let mut entries = Vec::new();
        for line in lines(bytes) {
            let text = line.text(path)?;
            let Some((label, text)) = text.split_once('\t') else {
                let expected = "a label, a tab and a text";
                return Err(match text {
                    "" => line.wrong(path, expected, "an empty line"),
                    text => line.wrong(path, expected, format!("no tab in {text:?}")),
                });
            };
            if label.trim().is_empty() {
                return Err(line.wrong(path, "a label before the tab", "none"));
            }
            if text.trim().is_empty() {
                let got = format!("the label {label:?} without text");
                return Err(line.wrong(path, "a text behind the tab", got));
            }
            entries.push(LabelledText {
                label: label.into(),
                text: text.into(),
                line: line.number,
                offset: line.offset,
            });
        }
        if entries.is_empty() {
            return Err(Error::Data {
                path: path.into(),
                offset: 0,
                expected: "lines of a label, a tab and a text".into(),
                got: "an empty file".into(),
            });
        }
        Ok(Labelled::of(path, entries))
    }
}

/// What is in a file, which is called `what` where there is too little memory for it.
pub(in crate::data) fn bytes(path: &Path, what: &'static str) -> Result<Vec<u8>> {
    let (mut file, len) = regular::open(path)?;
    let len = usize::try_from(len).unwrap_or(usize::MAX);
    let mut bytes = allocate::room(len, what)?;
    file.by_ref().take(len as u64).read_to_end(&mut bytes).map_err(Error::io("read", path))?;
    Ok(bytes)
}

/// A line of a file.
pub(in crate::data) struct Line<'a> {
    /// Counted from 1.
    number: usize,
    offset: u64,
    bytes: &'a [u8],
}

/// The lines of a file, without what ends them: that of Windows too.
pub(in crate::data) fn lines(bytes: &[u8]) -> impl Iterator<Item = Line<'_>> {
    let mut offset = 0;
    bytes.split_inclusive(|byte| *byte == b'\n').enumerate().map(move |(index, whole)| {
        let line = whole.strip_suffix(b"\n").unwrap_or(whole);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let line = Line { number: index + 1, offset, bytes: line };
        offset += whole.len() as u64;
        line
    })
}

impl<'a> Line<'a> {
    pub(in crate::data) fn text(&self, path: &Path) -> Result<&'a str> {
        let text = std::str::from_utf8(self.bytes).map_err(|error| Error::Data {
            path: path.into(),
            offset: self.offset + error.valid_up_to() as u64,
            expected: format!("UTF-8 in line {}", self.number),
            got: match self.bytes.get(error.valid_up_to()) {
                Some(byte) => format!("the byte {byte:#04x}"),
                None => "half a character".into(),
            },
        })?;
        Ok(text.strip_prefix(MARK).filter(|_| self.number == 1).unwrap_or(text))
    }

    /// An error that names the line.
    pub(in crate::data) fn wrong(&self, path: &Path, expected: &str, got: impl ToString) -> Error {
        Error::Data {
            path: path.into(),
            offset: self.offset,
            expected: format!("{expected} in line {}", self.number),
            got: got.to_string(),
        }
    }
}
