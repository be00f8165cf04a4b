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
    pub(super) fault: Fault,
}

/// What a failure is owed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// What was done.
    OfWork,
    /// What was asked for, or what was found here to do it with.
    OfUse,
}

impl Failure {
    /// That something was asked for that cannot be had.
    pub(super) fn of_use(error: Error) -> Self {
        Failure { fault: Fault::OfUse, ..error.into() }
    }

    pub(super) fn with_advice(error: Error, advice: String) -> Self {
        Failure { error: Box::new(error), advice: Some(advice), fault: Fault::OfWork }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure { error: Box::new(error), advice: None, fault: Fault::OfWork }
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
