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
    pub(super) error: Box<Error>,
    pub(super) advice: Option<String>,
}

impl Failure {
    pub(super) fn with_advice(error: Error, advice: String) -> Self {
        Failure { error: Box::new(error), advice: Some(advice) }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure { error: Box::new(error), advice: None }
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
