// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the program prints: text for people or one object for machines, and a progress bar where
//! there is a terminal.

use std::io::{self, IsTerminal, Write};

use indicatif::{ProgressBar, ProgressStyle};
use kiln::{Error, Result};
use serde::Serialize;

use super::args::Common;

/// The standard output.
#[derive(Debug)]
pub(super) struct Output {
    format: Format,
    bar: ProgressBar,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Text,
    Quiet,
    Json,
}

impl Output {
    pub(super) fn new(common: &Common) -> Self {
        let format = match (common.json, common.quiet) {
            (true, _) => Format::Json,
            (false, true) => Format::Quiet,
            (false, false) => Format::Text,
        };
        Output { format, bar: ProgressBar::hidden() }
    }

    /// A line about what is going on.
    pub(super) fn note(&self, line: &str) -> Result<()> {
        match self.format {
            Format::Text => self.print(line),
            Format::Quiet | Format::Json => Ok(()),
        }
    }

    /// Lines of the result.
    pub(super) fn result(&self, lines: &str) -> Result<()> {
        match self.format {
            Format::Text | Format::Quiet => self.print(lines),
            Format::Json => Ok(()),
        }
    }

    /// The result as an object, printed instead of lines if the caller is a machine.
    pub(super) fn json(&self, object: &impl Serialize) -> Result<()> {
        if self.format != Format::Json {
            return Ok(());
        }
        let text = serde_json::to_string(object)
            .map_err(|error| Error::Internal { pass: "output", message: error.to_string() })?;
        self.print(&text)
    }

    /// Begins a progress bar over a number of batches.
    pub(super) fn start(&mut self, title: String, batches: usize) {
        if self.format != Format::Text || !io::stderr().is_terminal() {
            return;
        }
        let style = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} {eta}");
        self.bar = ProgressBar::new(batches as u64)
            .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
            .with_message(title);
    }

    /// One more batch is done.
    pub(super) fn advance(&self) {
        self.bar.inc(1);
    }

    /// Removes the progress bar.
    pub(super) fn finish(&mut self) {
        self.bar.finish_and_clear();
        self.bar = ProgressBar::hidden();
    }

    fn print(&self, text: &str) -> Result<()> {
        let mut stdout = io::stdout().lock();
        let written = writeln!(stdout, "{text}").and_then(|()| stdout.flush());
        written.map_err(Error::io("write", "standard output"))
    }
}
