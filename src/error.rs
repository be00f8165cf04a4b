// SPDX-License-Identifier: MIT OR Apache-2.0
//! The one error type of the crate.
//!
//! Every variant carries what a user needs to mend the cause: the layer's path, the operation, what
//! was expected and what came, or the file and the offset in it. What comes from files is shown with
//! its control characters escaped, and what is shown has a bound: long lists and texts are cut, the
//! fields hold all.

use std::borrow::Cow;
use std::fmt::Display;
use std::path::PathBuf;

use crate::{NonFiniteValue, Printable, PrintableLines};

/// A [`std::result::Result`] with kiln's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an operation cannot take its inputs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// What the operation takes.
    pub expected: String,
    /// What it was given.
    pub got: String,
}

impl Mismatch {
    /// A mismatch described in words.
    pub fn new(expected: impl Into<String>, got: impl ToString) -> Self {
        Mismatch { expected: expected.into(), got: got.to_string() }
    }
}

/// Everything that can go wrong in kiln.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Tensors of shapes or element types that an operation cannot take.
    #[error(
        "{}",
        Printable(format_args!(
            "{}{}: expected {}, got {}", at(.layer), short(.op), short(.expected), short(.got)
        ))
    )]
    Shape {
        /// Path of the layer that recorded the operation (`"fc1"`), empty outside any layer.
        layer: String,
        /// The operation, as named in the graph.
        op: String,
        /// What the operation takes.
        expected: String,
        /// What it was given.
        got: String,
    },

    /// A value outside the range that a constructor or a setting accepts.
    #[error(
        "{}",
        Printable(format_args!(
            "{}{}: expected {}, got {}", at(.layer), short(.what), short(.expected), short(.got)
        ))
    )]
    Argument {
        /// Path of the layer, empty where no layer is concerned.
        layer: String,
        /// The argument's name.
        what: String,
        /// The accepted values.
        expected: String,
        /// The value given.
        got: String,
    },

    /// A file whose contents are not what its format promises.
    #[error(
        "{}: at byte {offset}: expected {}, got {}",
        Printable(path.display()), Printable(short(.expected)), Printable(short(.got))
    )]
    Data {
        /// The file.
        path: PathBuf,
        /// Offset of the first offending byte (after decompression, for compressed files).
        offset: u64,
        /// What the format asks for there.
        expected: String,
        /// What was found.
        got: String,
    },

    /// A text file with a line that is not as it should be.
    #[error(
        "{}: line {line}: expected {}, got {}",
        Printable(path.display()), Printable(short(.expected)), Printable(short(.got))
    )]
    Text {
        /// The file.
        path: PathBuf,
        /// The number of the line, from 1.
        line: u64,
        /// What is asked for there.
        expected: String,
        /// What was found.
        got: String,
    },

    /// A checkpoint that does not fit the network; every mismatch is listed.
    #[error(
        "{}: does not fit this network: {}",
        Printable(path.display()),
        Printable(list(.mismatches.iter().map(|text| short(text)), "; "))
    )]
    Checkpoint {
        /// The checkpoint file.
        path: PathBuf,
        /// One entry per missing, unexpected or differently shaped tensor.
        mismatches: Vec<String>,
    },

    /// The operating system refused a file operation.
    #[error("cannot {action} {}: {}", Printable(path.display()), Printable(source))]
    Io {
        /// What was tried ("read", "create").
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },

    /// A device that is missing, out of memory or failing.
    #[error("{}: {}", Printable(device), PrintableLines(message))]
    Device {
        /// The device, as the user names it (`"cuda:0"`).
        device: String,
        /// What happened, with the driver's own words where there are any.
        message: String,
    },

    /// A training step that gave NaN or infinity.
    #[error("update {update}: {what} is {value}{}", first.as_deref().map_or(String::new(), |first| format!("; {first}")))]
    NonFinite {
        /// The number of the update that the step made, counted from 1.
        update: u64,
        /// What is not finite ("the loss").
        what: String,
        /// Its value.
        value: f32,
        /// The first value of the step that is not finite, if it was looked for.
        first: Option<Box<NonFiniteValue>>,
    },

    /// A graph or plan that breaks an invariant: a defect in kiln, not in the caller's program.
    #[error("internal: {pass}: {}", PrintableLines(message))]
    Internal {
        /// The pass or component that noticed.
        pass: &'static str,
        /// The broken invariant.
        message: String,
    },

    /// Several errors found in one go, each worth mending.
    #[error("{}", list(.0, "; "))]
    Many(Vec<Error>),
}

impl Error {
    /// Folds a list of errors into one: none is `Ok`, one stays itself, several become [`Error::Many`].
    ///
    /// # Errors
    /// The folded error, unless the list is empty.
    pub fn check(mut errors: Vec<Error>) -> Result<()> {
        match errors.len() {
            0 => Ok(()),
            1 => Err(errors.remove(0)),
            _ => Err(Error::Many(errors)),
        }
    }

    /// An [`Error::Argument`] outside any layer.
    pub fn argument(
        what: impl Into<String>,
        expected: impl Into<String>,
        got: impl ToString,
    ) -> Self {
        Error::Argument {
            layer: String::new(),
            what: what.into(),
            expected: expected.into(),
            got: got.to_string(),
        }
    }

    /// Wraps an I/O error with the action and the path it concerns; made for `map_err`.
    pub fn io(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> Error {
        let path = path.into();
        move |source| Error::Io { action, path, source }
    }
}

fn at(layer: &str) -> String {
    if layer.is_empty() {
        String::new()
    } else {
        format!("{}: ", short(layer))
    }
}

/// Most entries of a list that an error shows.
const LONGEST_LIST: usize = 20;

/// Most bytes of a text that an error shows.
const LONGEST_TEXT: usize = 1000;

/// A list as errors show it: its first entries, and how many more there are.
pub(crate) fn list<T: Display>(entries: impl IntoIterator<Item = T>, separator: &str) -> String {
    let mut entries = entries.into_iter();
    let mut shown: Vec<String> =
        entries.by_ref().take(LONGEST_LIST).map(|entry| entry.to_string()).collect();
    match entries.count() {
        0 => {}
        more => shown.push(format!("... and {more} more")),
    }
    shown.join(separator)
}

/// A text as errors show it: its beginning, and how long it is.
fn short(text: &str) -> Cow<'_, str> {
    if text.len() <= LONGEST_TEXT {
        return text.into();
    }
    let end = (0..=LONGEST_TEXT).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
    format!("{}... ({} bytes)", &text[..end], text.len()).into()
}
