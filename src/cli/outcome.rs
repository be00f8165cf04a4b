// SPDX-License-Identifier: MIT OR Apache-2.0
//! How a command ends.

use std::fmt;

use kiln::Error;

use super::interrupt::Signal;

/// What a command comes to.
pub(super) type Outcome = Result<Ending, Failure>;

/// An end that is no failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    Done,
    /// A signal came, and everything done so far is kept.
    Stopped(Signal),
}

/// A failure, and what the user can do about it.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) error: Error,
    pub(super) advice: Option<String>,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure { error, advice: None }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.advice {
            Some(advice) => write!(f, "{}; {advice}", self.error),
            None => self.error.fmt(f),
        }
    }
}
