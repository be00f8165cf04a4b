// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the program prints: text for people or one object for machines, and a progress bar where
//! there is a terminal.

use std::io::{self, ErrorKind, IsTerminal, Write};
use std::time::Duration;

use indicatif::{FormattedDuration, ProgressBar, ProgressStyle};
use kiln::{Error, Printable, Result};
use serde::Serialize;
use tracing::level_filters::LevelFilter;

use super::args::Common;

/// Name of the stream in error messages.
pub(super) const STANDARD_OUTPUT: &str = "standard output";

/// The standard output.
#[derive(Debug)]
pub(super) struct Output {
    format: Format,
    purpose: Purpose,
    progress: Progress,
    bar: ProgressBar,
    /// Why nothing more can be printed.
    broken: Option<io::Error>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Text,
    Quiet,
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Bar,
    /// There is no terminal, nobody asked, or logs tell of it.
    Untold,
}

/// What a command is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To print: it ends where nothing more can be printed.
    Printing,
    /// To write files: it goes on, whoever listens.
    Files,
}

impl Output {
    pub(super) fn new(common: &Common, purpose: Purpose) -> Self {
        let format = match (common.json, common.quiet) {
            (true, _) => Format::Json,
            (false, true) => Format::Quiet,
            (false, false) => Format::Text,
        };
        let logged = common.log.filter() > LevelFilter::WARN;
        let progress = match format == Format::Text && !logged && io::stderr().is_terminal() {
            true => Progress::Bar,
            false => Progress::Untold,
        };
        Output { format, purpose, progress, bar: ProgressBar::hidden(), broken: None }
    }

    /// A line about what is going on.
    pub(super) fn note(&mut self, line: &str) -> Result<()> {
        match self.format {
            Format::Text => self.print(line),
            Format::Quiet | Format::Json => Ok(()),
        }
    }

    /// Lines of the result.
    pub(super) fn result(&mut self, lines: &str) -> Result<()> {
        match self.format {
            Format::Text | Format::Quiet => self.print(lines),
            Format::Json => Ok(()),
        }
    }

    /// The result as an object, printed instead of lines if the caller is a machine.
    pub(super) fn json(&mut self, object: &impl Serialize) -> Result<()> {
        if self.format != Format::Json {
            return Ok(());
        }
        let text = serde_json::to_string(object)
            .map_err(|error| Error::Internal { pass: "output", message: error.to_string() })?;
        self.print(&text)
    }

    /// Begins a progress bar over a number of batches, of which some are done.
    pub(super) fn start(&mut self, title: String, batches: usize, done: u64) {
        if self.progress == Progress::Untold {
            return;
        }
        let style = ProgressStyle::with_template("{msg}  {wide_bar} {pos}/{len} {prefix}");
        self.bar = ProgressBar::new(batches as u64)
            .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
            .with_position(done)
            .with_message(title);
    }

    /// One more batch is done.
    pub(super) fn advance(&self) {
        self.bar.inc(1);
    }

    /// Whether there is a progress bar.
    pub(super) fn shows_progress(&self) -> bool {
        self.progress == Progress::Bar
    }

    /// Changes what stands before and behind the progress bar.
    pub(super) fn tell(&self, line: String, left: Duration) {
        self.bar.set_message(line);
        self.bar.set_prefix(format!("eta {}", FormattedDuration(left)));
    }

    /// Removes the progress bar.
    pub(super) fn finish(&mut self) {
        self.bar.finish_and_clear();
        self.bar = ProgressBar::hidden();
    }

    /// Whether everything was printed that should have been. A reader who has seen enough is no
    /// failure.
    pub(super) fn end(mut self) -> Result<()> {
        self.finish();
        match self.broken {
            Some(error) if error.kind() != ErrorKind::BrokenPipe => {
                Err(Error::io("write", STANDARD_OUTPUT)(error))
            }
            _ => Ok(()),
        }
    }

    fn print(&mut self, text: &str) -> Result<()> {
        if self.broken.is_some() {
            return Ok(());
        }
        let written = self.bar.suspend(|| {
            let mut stdout = io::stdout().lock();
            writeln!(stdout, "{text}").and_then(|()| stdout.flush())
        });
        match (written, self.purpose) {
            (Ok(()), _) => Ok(()),
            (Err(error), Purpose::Printing) => Err(Error::io("write", STANDARD_OUTPUT)(error)),
            (Err(error), Purpose::Files) => {
                tracing::debug!(%error, "nothing more can be printed; the work goes on");
                self.broken = Some(error);
                Ok(())
            }
        }
    }
}

/// A line on the standard error. Whoever cannot be told there is told by the exit code.
pub(super) fn to_stderr(line: &str) {
    let _ = writeln!(io::stderr(), "{}", Printable(line));
}
