// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tables of numbers in text files.

mod columns;
mod rows;

use std::path::{Path, PathBuf};

use super::{Array, Arrays};
use crate::{Error, Result};
use columns::Found;
use rows::Rows;

/// A file of comma-separated values, and which of its columns are what.
///
/// The first line names the columns, unless [`without_header`](CsvFile::without_header) says otherwise.
/// What nothing is said of is one input of `f32`; with targets alone, that is all other columns:
///
/// ```
/// use kiln::data::{Batch, CsvFile, Dataset, Pass};
///
/// # let path = std::env::temp_dir().join(format!("kiln-csv-doc-{}", std::process::id()));
/// std::fs::write(&path, "area,age,price\n71,3,3.1\n54,40,1.9\n").unwrap();
/// let houses = CsvFile::new(&path).target(["price"]).read()?;
/// let batch = Batch::read(&houses, &[0, 1], Pass::default())?;
/// assert_eq!(batch.inputs[0].values()?, [71.0, 3.0, 54.0, 40.0]);
/// assert_eq!(batch.targets[0].values()?, [3.1, 1.9]);
///
/// std::fs::write(&path, "area,age,price\n71,3,3.1\n54,old,1.9\n").unwrap();
/// let error = CsvFile::new(&path).target(["price"]).read().unwrap_err().to_string();
/// assert!(error.ends_with("line 3: expected a finite number in column age, got old"), "{error}");
/// # std::fs::remove_file(&path).unwrap();
/// # Ok::<(), kiln::Error>(())
/// ```
///
/// Inputs and targets come in the order in which they are told; columns are named, or counted from 0:
///
/// ```no_run
/// use kiln::data::CsvFile;
///
/// let species = ["setosa", "versicolor", "virginica"];
/// let irises = CsvFile::new("iris.csv").named_label("species", species).read()?;
/// let rides = CsvFile::new("rides.csv")
///     .without_header()
///     .delimiter(b';')
///     .input([2, 3, 4])
///     .integer_input([0])
///     .target([5])
///     .read()?;
/// # Ok::<(), kiln::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct CsvFile {
    path: PathBuf,
    header: Header,
    delimiter: u8,
    inputs: Vec<Wanted>,
    targets: Vec<Wanted>,
}

/// A column of a [`CsvFile`]: made from its name, or its number from 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column(Key);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Key {
    Name(String),
    Number(usize),
}

/// Whether the first line names the columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Header {
    FirstLine,
    None,
}

/// Columns that make one field.
#[derive(Debug, Clone)]
enum Wanted {
    Floats(Vec<Column>),
    Integers(Vec<Column>),
    Label(Column, usize),
    NamedLabel(Column, Vec<String>),
}

impl CsvFile {
    /// A file whose first line names its columns, which are separated by commas.
    pub fn new(path: impl AsRef<Path>) -> Self {
        CsvFile {
            path: path.as_ref().to_path_buf(),
            header: Header::FirstLine,
            delimiter: b',',
            inputs: vec![],
            targets: vec![],
        }
    }

    /// The same without names: the first line holds the first sample.
    #[must_use]
    pub fn without_header(self) -> Self {
        CsvFile { header: Header::None, ..self }
    }

    /// The same with columns that another byte separates, such as `b';'` or `b'\t'`.
    #[must_use]
    pub fn delimiter(self, delimiter: u8) -> Self {
        CsvFile { delimiter, ..self }
    }

    /// A further input: `f32 [columns]`, in this order.
    #[must_use]
    pub fn input(mut self, columns: impl IntoIterator<Item = impl Into<Column>>) -> Self {
        self.inputs.push(Wanted::Floats(all(columns)));
        self
    }

    /// A further input of integers: `i32 [columns]`.
    #[must_use]
    pub fn integer_input(mut self, columns: impl IntoIterator<Item = impl Into<Column>>) -> Self {
        self.inputs.push(Wanted::Integers(all(columns)));
        self
    }

    /// A further target: `f32 [columns]`.
    #[must_use]
    pub fn target(mut self, columns: impl IntoIterator<Item = impl Into<Column>>) -> Self {
        self.targets.push(Wanted::Floats(all(columns)));
        self
    }

    /// A further target of classes, which the column holds as numbers from 0 up.
    #[must_use]
    pub fn label(mut self, column: impl Into<Column>, classes: usize) -> Self {
        self.targets.push(Wanted::Label(column.into(), classes));
        self
    }

    /// A further target of classes, which the column holds by these names: the first is class 0.
    #[must_use]
    pub fn named_label(
        mut self,
        column: impl Into<Column>,
        names: impl IntoIterator<Item = impl Into<String>>,
    ) -> Self {
        let names = names.into_iter().map(Into::into).collect();
        self.targets.push(Wanted::NamedLabel(column.into(), names));
        self
    }

    /// Reads the whole file.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be read; [`Error::Text`] with the line for a file without samples, a
    /// column that is not there, a line with another number of columns than the first, and what is no
    /// finite number, no integer or no class; [`Error::Argument`] if no column is left for an input;
    /// [`Error::Device`] if there is no memory for so many numbers.
    pub fn read(&self) -> Result<Arrays> {
        let mut rows = Rows::open(&self.path, self.delimiter)?;
        let names = match self.header {
            Header::FirstLine => Some(rows.header()?),
            Header::None => None,
        };
        let first = rows.next()?.ok_or_else(|| rows.ended())?;
        let width = names.as_ref().map_or(first.fields.len(), Vec::len);
        let mut found = Found::of(self, names, width).map_err(|(expected, got)| Error::Text {
            path: self.path.clone(),
            line: 1,
            expected,
            got,
        })?;
        let mut row = Some(first);
        while let Some(this) = row {
            rows.check_width(&this, width)?;
            found.take(&this.fields).map_err(|refusal| rows.refuse(&this, refusal))?;
            row = rows.next()?;
        }
        found.into_arrays()
    }
}

impl From<&str> for Column {
    fn from(name: &str) -> Self {
        Column(Key::Name(name.into()))
    }
}

impl From<String> for Column {
    fn from(name: String) -> Self {
        Column(Key::Name(name))
    }
}

impl From<usize> for Column {
    fn from(number: usize) -> Self {
        Column(Key::Number(number))
    }
}

fn all(columns: impl IntoIterator<Item = impl Into<Column>>) -> Vec<Column> {
    columns.into_iter().map(Into::into).collect()
}
