// SPDX-License-Identifier: MIT OR Apache-2.0
//! PyTorch's time of the same step.

use std::num::NonZeroUsize;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::axis::Axis;
use crate::clock::Clock;
use crate::measure::{Meter, Point};
use crate::process::{Heard, Process};
use crate::Result;

/// The variable that names the Python to use.
const PYTHON: &str = "TORCH_PYTHON";
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/peers/pytorch.py");
/// How long its answer may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// `benches/peers/pytorch.py`, which runs until this is dropped.
pub(crate) struct Torch(Process);

impl Torch {
    /// One for each number of threads; where there is none, that is said.
    pub(crate) fn of(threads: &[NonZeroUsize]) -> Vec<Option<Self>> {
        let Some(python) = std::env::var_os(PYTHON) else {
            println!("left out: PyTorch, because {PYTHON} names no Python with torch");
            return threads.iter().map(|_| None).collect();
        };
        let start = |threads: &NonZeroUsize| match Self::start(Path::new(&python), *threads) {
            Ok(torch) => Some(torch),
            Err(why) => {
                println!("left out: PyTorch with {threads} threads, because {why}");
                None
            }
        };
        threads.iter().map(start).collect()
    }

    fn start(python: &Path, threads: NonZeroUsize) -> Result<Self> {
        let mut command = Command::new(python);
        command.arg(SCRIPT).arg(threads.to_string());
        let process = Process::start(&mut command)
            .map_err(|error| format!("{} does not start: {error}", python.display()))?;
        let mut torch = Torch(process);
        let greeting = torch.answer()?;
        let version = greeting["version"].as_str().ok_or("it told no version")?;
        println!("PyTorch {version} with {threads} threads");
        Ok(torch)
    }

    /// Median milliseconds of the step of a point, by the clock of kiln's and for as long.
    pub(crate) fn ms(&mut self, axis: Axis, point: &Point, meter: &Meter) -> Result<f64> {
        let case = format!("grow-{}-{}", axis.name(), point.size);
        self.0.say(&format!("time {case} {}", meter.budget().as_millis()))?;
        let answer = self.answer()?;
        if answer["parameters"] != point.parameters {
            let trained = &answer["parameters"];
            return Err(
                format!("{case} trains {trained} numbers, kiln {}", point.parameters).into()
            );
        }
        let key = match meter.clock() {
            Clock::Worked => "processor_median_ms",
            Clock::Passed => "step_median_ms",
        };
        let ms = answer[key].as_f64().filter(|ms| *ms > 0.0);
        ms.ok_or_else(|| format!("{case}: expected {key}, got {answer}").into())
    }

    fn answer(&mut self) -> Result<Value> {
        let line = match self.0.hear(PATIENCE)? {
            Heard::Line(line) => line,
            Heard::End => {
                let (status, last) = self.0.last_words()?;
                return Err(format!("it ended, {status}, {}", last.unwrap_or_default()).into());
            }
            Heard::Silence => {
                self.0.kill();
                return Err(format!("no answer in {} s", PATIENCE.as_secs()).into());
            }
        };
        let answer: Value = serde_json::from_str(&line)?;
        match answer.get("error") {
            Some(error) => Err(error.to_string().into()),
            None => Ok(answer),
        }
    }
}
