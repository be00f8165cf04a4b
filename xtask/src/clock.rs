// SPDX-License-Identifier: MIT OR Apache-2.0
//! What durations are measured by.

use std::num::NonZeroUsize;
use std::sync::LazyLock;
use std::time::Instant;

/// A clock; only differences of its readings mean something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Clock {
    /// Time that passes.
    Passed,
    /// Time that processors work for this process: on a machine that others use too, that of one thread
    /// does not count theirs.
    Worked,
}

impl Clock {
    /// The steadier one for work of so many threads.
    pub(crate) fn of(threads: NonZeroUsize) -> Self {
        match threads.get() {
            1 if cfg!(unix) => Clock::Worked,
            _ => Clock::Passed,
        }
    }

    /// Its reading in seconds.
    pub(crate) fn now(self) -> f64 {
        static START: LazyLock<Instant> = LazyLock::new(Instant::now);
        match self {
            Clock::Passed => START.elapsed().as_secs_f64(),
            Clock::Worked => worked(),
        }
    }

    /// The reading as people call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Clock::Passed => "time that passes",
            Clock::Worked => "processor time",
        }
    }
}

#[cfg(unix)]
fn worked() -> f64 {
    use rustix::time::{clock_gettime, ClockId};
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

#[cfg(not(unix))]
fn worked() -> f64 {
    Clock::Passed.now()
}
