// SPDX-License-Identifier: MIT OR Apache-2.0
//! How long the steps of a plan take, summed up over its runs.

use std::time::{Duration, Instant};

use crate::backend::{StepClock, StepTime};

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
    /// What tells all these times.
    pub(crate) clock: StepClock,
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
            clock: StepClock::Host,
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

    /// How long the run under way has taken.
    pub(crate) fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }

    /// All steps of a run are done: when each of them ran, and how long the whole took.
    pub(crate) fn end(&mut self, clock: StepClock, times: &[StepTime], whole: Duration) {
        let begun = self.begun.saturating_duration_since(self.origin);
        for (step, &StepTime { start, length }) in times.iter().enumerate() {
            self.steps[step] += length;
            if self.runs < KEPT_RUNS {
                self.spans.push(Span { run: self.runs, step, start: begun + start, length });
            }
        }
        self.clock = clock;
        self.whole += whole;
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
            let second = Duration::from_secs(1);
            let times = [0, 1].map(|step| StepTime { start: step * second, length: second });
            timing.end(StepClock::Device, &times, 2 * second);
            assert_eq!(timing.runs, u64::max(run, 1));
        }
        assert_eq!((timing.spans.len() as u64, timing.spans[3].run), (2 * KEPT_RUNS, 1));
        assert_eq!((timing.steps[1].as_secs(), timing.whole.as_secs()), (29, 58));
        assert_eq!(timing.clock, StepClock::Device);
    }
}
