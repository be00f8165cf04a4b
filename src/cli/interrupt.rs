// SPDX-License-Identifier: MIT OR Apache-2.0
//! Signals that ask the program to end: the first is noted, so that a training can be kept; a
//! second ends the program at once.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::Arc;

use kiln::{Error, Result};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

/// A request to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signal {
    /// SIGINT: Ctrl-C in a terminal.
    Interrupt,
    /// SIGTERM: `kill`, a batch system whose time is up, a machine that shuts down.
    Terminate,
}

/// Whether the program was asked to end.
#[derive(Clone, Debug, Default)]
pub(super) struct Interrupt {
    /// Number of the last signal; 0 if there was none.
    caught: Arc<AtomicUsize>,
}

impl Interrupt {
    /// Notes signals from now on. A second one ends the program with the exit code of a program
    /// that it killed.
    pub(super) fn watch(&self) -> Result<()> {
        let once = Arc::new(AtomicBool::new(false));
        for signal in [Signal::Interrupt, Signal::Terminate] {
            let number = signal.number();
            // They run in this order: at the first signal nothing is armed yet.
            flag::register_conditional_shutdown(number, signal.exit_code().into(), once.clone())
                .and_then(|_| flag::register(number, once.clone()))
                .and_then(|_| flag::register_usize(number, self.caught.clone(), number as usize))
                .map_err(Error::io("watch for", "signals"))?;
        }
        Ok(())
    }

    /// The signal that was caught.
    pub(super) fn caught(&self) -> Option<Signal> {
        match self.caught.load(Ordering::SeqCst) {
            0 => None,
            number if number == SIGINT as usize => Some(Signal::Interrupt),
            _ => Some(Signal::Terminate),
        }
    }
}

impl Signal {
    /// What shells say of a program that it killed.
    pub(super) fn exit_code(self) -> u8 {
        128 + self.number() as u8
    }

    /// What happened to the program, for people.
    pub(super) fn verb(self) -> &'static str {
        match self {
            Signal::Interrupt => "interrupted",
            Signal::Terminate => "terminated",
        }
    }

    fn number(self) -> i32 {
        match self {
            Signal::Interrupt => SIGINT,
            Signal::Terminate => SIGTERM,
        }
    }
}
