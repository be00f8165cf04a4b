// SPDX-License-Identifier: MIT OR Apache-2.0
//! How long the steps of a plan take, on a backend that is done with a step when it was launched.

use std::time::{Duration, Instant};

/// One step of one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The run, counted from 0.
    pub run: u64,
    /// The step's place in its plan.
    pub step: usize,
    /// When it began, since timing did.
    pub start: Duration,
    /// How long it took.
    pub length: Duration,
}

/// Times of a plan's steps, over several runs.
#[derive(Clone, Debug)]
pub(crate) struct Timing {
    /// When timing began.
    origin: Instant,
    /// When the run under way began.
    begun: Instant,
    /// Runs that count.
    pub(crate) runs: u64,
    /// Time of all runs.
    pub(crate) whole: Duration,
    /// Time of each step in all runs.
    pub(crate) steps: Vec<Duration>,
    /// The steps of the first runs.
    pub(crate) spans: Vec<Span>,
    state: State,
}

/// The first run touches memory for the first time: it counts only as long as there is no other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    New,
    RunOnce,
    Warm,
}

/// Runs of which each step is kept.
const KEPT_RUNS: u64 = 20;

impl Timing {
    pub(crate) fn new(origin: Instant, steps: usize) -> Self {
        Timing {
            origin,
            begun: origin,
            runs: 0,
            whole: Duration::ZERO,
            steps: vec![Duration::ZERO; steps],
            spans: Vec::new(),
            state: State::New,
        }
    }

    /// A run begins.
    pub(crate) fn begin(&mut self) {
        if self.state == State::RunOnce {
            *self = Timing::new(self.origin, self.steps.len());
            self.state = State::Warm;
        }
        self.begun = Instant::now();
    }

    /// A step is done that began at a time.
    pub(crate) fn add(&mut self, step: usize, begun: Instant) {
        let length = begun.elapsed();
        self.steps[step] += length;
        if self.runs < KEPT_RUNS {
            let start = begun.saturating_duration_since(self.origin);
            self.spans.push(Span { run: self.runs, step, start, length });
        }
    }

    /// All steps of a run are done.
    pub(crate) fn end(&mut self) {
        self.whole += self.begun.elapsed();
        self.runs += 1;
        if self.state == State::New {
            self.state = State::RunOnce;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_run_counts_as_long_as_there_is_no_other() {
        let mut timing = Timing::new(Instant::now(), 2);
        for run in 0..30 {
            timing.begin();
            for step in 0..2 {
                timing.add(step, Instant::now());
            }
            timing.end();
            assert_eq!(timing.runs, u64::max(run, 1));
        }
        assert_eq!((timing.spans.len() as u64, timing.spans[3].run), (2 * KEPT_RUNS, 1));
        assert!(timing.whole >= timing.steps.iter().sum());
    }
}
