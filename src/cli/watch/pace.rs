// SPDX-License-Identifier: MIT OR Apache-2.0
//! The line that a terminal shows during an epoch: loss, accuracy, samples per second, time left.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use kiln::{grouped, Result, StepLoss};

use crate::cli::metrics::{percent, Epoch};
use crate::cli::output::Output;

/// How an epoch goes.
pub(in crate::cli) struct Pace {
    title: String,
    /// Accuracy on the test set after the epoch before.
    accuracy: Option<f64>,
    batch: usize,
    ahead: Ahead,
    begun: Instant,
    shown: Option<Instant>,
    steps: u64,
    /// Losses that a device may be at work on.
    unread: VecDeque<StepLoss>,
    loss: Option<f64>,
}

/// What is left of a run when an epoch begins.
#[derive(Clone, Copy, Debug)]
pub(in crate::cli) struct Ahead {
    /// Steps of this and of later epochs.
    pub(in crate::cli) steps: u64,
    /// Epochs to be measured.
    pub(in crate::cli) epochs: u32,
    /// How long measuring took the last time.
    pub(in crate::cli) measuring: Duration,
}

/// How often the line changes.
const EVERY: Duration = Duration::from_millis(100);

/// Steps after which a loss is read: a GPU is done with it then.
const LATER: usize = 5;

/// What a loss counts beside those before it.
const WEIGHT: f64 = 0.1;

impl Pace {
    pub(in crate::cli) fn new(
        title: String,
        batch: usize,
        last: Option<&Epoch>,
        ahead: Ahead,
    ) -> Self {
        Pace {
            title,
            accuracy: last.map(|epoch| epoch.test_accuracy),
            batch,
            ahead,
            begun: Instant::now(),
            shown: None,
            steps: 0,
            unread: VecDeque::new(),
            loss: None,
        }
    }

    /// One more step is made. Costs next to nothing where there is no terminal.
    pub(in crate::cli) fn step(&mut self, loss: &StepLoss, output: &Output) -> Result<()> {
        output.advance();
        if !output.shows_progress() {
            return Ok(());
        }
        self.steps += 1;
        self.unread.push_back(loss.clone());
        if self.unread.len() > LATER {
            if let Some(loss) = self.unread.pop_front() {
                let loss = f64::from(loss.value()?);
                self.loss = Some(self.loss.map_or(loss, |mean| mean + WEIGHT * (loss - mean)));
            }
        }
        if self.shown.is_none_or(|shown| shown.elapsed() >= EVERY) {
            self.shown = Some(Instant::now());
            output.tell(self.line(), self.left());
        }
        Ok(())
    }

    fn line(&self) -> String {
        let mut line = self.title.clone();
        if let Some(loss) = self.loss {
            line += &format!("  loss {loss:.4}");
        }
        if let Some(accuracy) = self.accuracy {
            line += &format!("  test {}", percent(accuracy));
        }
        let seconds = self.begun.elapsed().as_secs_f64();
        let samples = self.steps as f64 * self.batch as f64;
        if seconds > 0.0 {
            line += &format!("  {} samples/s", grouped((samples / seconds) as usize));
        }
        line
    }

    /// Time until the run ends, if it goes on like this.
    fn left(&self) -> Duration {
        let each = self.begun.elapsed().as_secs_f64() / self.steps.max(1) as f64;
        let steps = self.ahead.steps.saturating_sub(self.steps) as f64;
        let measuring = self.ahead.measuring.as_secs_f64() * f64::from(self.ahead.epochs);
        Duration::try_from_secs_f64(each * steps + measuring).unwrap_or(Duration::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_left_counts_steps_and_measuring() {
        let ahead = Ahead { steps: 30, epochs: 3, measuring: Duration::from_secs(2) };
        let mut pace = Pace::new("epoch 1/3".into(), 64, None, ahead);
        pace.begun = Instant::now()
            .checked_sub(Duration::from_secs(10))
            .expect("a clock that has run for a while");
        pace.steps = 10;
        let left = pace.left().as_secs_f64();
        assert!((26.0..26.1).contains(&left), "{left}");
        pace.loss = Some(0.25);
        pace.accuracy = Some(0.5);
        let line = pace.line();
        assert!(line.starts_with("epoch 1/3  loss 0.2500  test 50.00 %  6"), "{line}");
        assert!(line.ends_with(" samples/s"), "{line}");
    }
}
