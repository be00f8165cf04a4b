// SPDX-License-Identifier: MIT OR Apache-2.0
//! Levels from `kiln.toml`.

use std::io::Read;
use std::ops::Range;
use std::path::Path;

use toml::de::{DeTable, DeValue};
use toml::Spanned;

use super::{Code, Level, Levels};
use crate::files::regular;
use crate::{Error, Result};

/// Most bytes of a file of settings.
const LARGEST: u64 = 1 << 20;

impl Levels {
    /// Levels from a file of settings in TOML:
    ///
    /// ```toml
    /// [lint]
    /// rate-low = "allow"                # by name or by number; allow, warn or deny
    ///
    /// [lint.layers."head.dropout"]      # in one layer and those below it
    /// D101 = "warn"
    /// ```
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be read, [`Error::Data`] with the place of what is not as it should be.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let (file, length) = regular::open(path)?;
        let too_long = || Error::Data {
            path: path.into(),
            offset: LARGEST,
            expected: "the end of the file".into(),
            got: "more".into(),
        };
        if length > LARGEST {
            return Err(too_long());
        }
        let mut bytes = Vec::new();
        file.take(LARGEST + 1).read_to_end(&mut bytes).map_err(Error::io("read", path))?;
        if bytes.len() as u64 > LARGEST {
            return Err(too_long());
        }
        let text = String::from_utf8(bytes).map_err(|error| Error::Data {
            path: path.into(),
            offset: error.utf8_error().valid_up_to() as u64,
            expected: "UTF-8 text".into(),
            got: "another byte".into(),
        })?;
        parse(&text, path)
    }

    /// As [`from_file`](Levels::from_file), from the text itself.
    ///
    /// # Errors
    /// [`Error::Data`] with the place of what is not as it should be.
    pub fn from_toml(text: &str) -> Result<Self> {
        parse(text, Path::new("kiln.toml"))
    }
}

fn parse(text: &str, path: &Path) -> Result<Levels> {
    let at = At { path };
    let table = DeTable::parse(text).map_err(|error| {
        let place = error.span().unwrap_or(0..0);
        at.expected(&place, "TOML", error.message())
    })?;
    let mut levels = Levels::default();
    for (section, value) in table.get_ref() {
        match section.get_ref().as_ref() {
            "lint" => at.lint(at.table(value)?, &mut levels)?,
            other => return Err(at.expected(&section.span(), "the section lint", other)),
        }
    }
    Ok(levels)
}

/// The file that is read.
struct At<'a> {
    path: &'a Path,
}

impl At<'_> {
    fn lint(&self, table: &DeTable<'_>, levels: &mut Levels) -> Result<()> {
        for (key, value) in table {
            if key.get_ref() != "layers" {
                let (code, level) = self.entry(key, value)?;
                *levels = std::mem::take(levels).with(code, level);
                continue;
            }
            for (layer, codes) in self.table(value)? {
                for (key, value) in self.table(codes)? {
                    let (code, level) = self.entry(key, value)?;
                    *levels = std::mem::take(levels).with_layer(layer.get_ref(), code, level);
                }
            }
        }
        Ok(())
    }

    fn entry(
        &self,
        key: &Spanned<std::borrow::Cow<'_, str>>,
        value: &Spanned<DeValue<'_>>,
    ) -> Result<(Code, Level)> {
        let code: Code = key.get_ref().parse().map_err(|error| self.placed(&key.span(), error))?;
        let level = value.get_ref().as_str().unwrap_or(value.get_ref().type_str());
        Ok((code, level.parse().map_err(|error| self.placed(&value.span(), error))?))
    }

    fn table<'v, 'i>(&self, value: &'v Spanned<DeValue<'i>>) -> Result<&'v DeTable<'i>> {
        let value_of = value.get_ref();
        value_of
            .as_table()
            .ok_or_else(|| self.expected(&value.span(), "a table", value_of.type_str()))
    }

    /// An error about a name, with its place.
    fn placed(&self, place: &Range<usize>, error: Error) -> Error {
        match error {
            Error::Argument { expected, got, .. } => self.expected(place, expected, got),
            error => error,
        }
    }

    fn expected(
        &self,
        place: &Range<usize>,
        expected: impl Into<String>,
        got: impl Into<String>,
    ) -> Error {
        let (expected, got) = (expected.into(), got.into());
        Error::Data { path: self.path.into(), offset: place.start as u64, expected, got }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistake_is_named_with_its_place() {
        for (text, offset, told) in [
            ("[lint]\nD999 = 'allow'", 7, "rate-high"),
            ("[lint]\nD101 = 'forbid'", 14, "allow, warn or deny"),
            ("[lint]\nD101 = 3", 14, "integer"),
            ("[lint.layers]\nfc1 = 'allow'", 20, "a table"),
            ("[lind]", 1, "the section lint"),
            ("[lint", 5, "TOML"),
        ] {
            let error = Levels::from_toml(text).unwrap_err();
            let Error::Data { offset: at, .. } = error else { panic!("{error}") };
            assert_eq!(at, offset, "{text}: {error}");
            assert!(error.to_string().contains(told), "{text}: {error}");
        }
        assert_eq!(Levels::from_toml("").unwrap(), Levels::default());
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named() {
        let directory = tempfile::TempDir::new().unwrap();
        let path = directory.path().join("kiln.toml");
        assert!(matches!(Levels::from_file(&path), Err(Error::Io { .. })));
        std::fs::write(&path, b"[lint]\n# \xff").unwrap();
        let error = Levels::from_file(&path).unwrap_err();
        assert!(matches!(error, Error::Data { offset: 9, .. }), "{error}");
        std::fs::write(&path, "#".repeat(LARGEST as usize + 1)).unwrap();
        assert!(matches!(Levels::from_file(&path), Err(Error::Data { offset: LARGEST, .. })));
    }
}
