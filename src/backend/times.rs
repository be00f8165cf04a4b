// SPDX-License-Identifier: MIT OR Apache-2.0
//! Times of a plan's steps.

use std::time::Duration;

/// By which clock steps are timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepClock {
    /// The host's: a step is done when the call that launches it returns.
    Host,
    /// The device's own, by events before and behind each step. Steps on several lanes may run at once.
    Device,
    /// That of a simulated device, which says nothing of a real one.
    Simulated,
}

/// When a step ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepTime {
    /// Since its run began.
    pub start: Duration,
    /// How long it took.
    pub length: Duration,
}
