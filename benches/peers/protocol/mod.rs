// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the Rust peers share: lines come in, each is answered by one line of JSON. `../README.md` has the commands.

pub mod case;
pub mod files;

use std::collections::HashMap;
use std::io::{BufRead, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use case::Case;
use serde_json::{Value, json};

pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Steps before the first that is timed: a library's caches fill, and its memory comes from the system.
const WARM_UP_FIRST: usize = 3;
const WARM_UP_AGAIN: usize = 1;

/// Something to time.
pub trait Work {
    /// Does it once, to the end.
    fn step(&mut self) -> Result<()>;
}

/// A library that takes part.
pub trait Library {
    const NAME: &'static str;
    const VERSION: &'static str;

    /// The work of a case, on random inputs.
    fn work(&self, case: &Case) -> Result<Box<dyn Work>>;

    /// A case's step from the state in a directory under the masks there: its loss. What came of it is left in
    /// `after.safetensors`.
    fn check(&self, case: &Case, directory: &Path) -> Result<f64>;
}

/// Answers the commands for a processor.
pub fn serve<L: Library>(library: &L) -> Result<()> {
    let threads = std::env::var("RAYON_NUM_THREADS").unwrap_or_default();
    let mut works = HashMap::new();
    let greeting =
        json!({"ready": true, "peer": L::NAME, "version": L::VERSION, "threads": threads});
    listen(&greeting, |words| run(library, &mut works, words))
}

/// Answers commands until `quit` or the end of the input.
pub fn listen(greeting: &Value, mut run: impl FnMut(&[&str]) -> Result<Value>) -> Result<()> {
    answer(greeting)?;
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            [] => continue,
            ["quit"] => break,
            _ => {}
        }
        let done = run(&words);
        answer(&done.unwrap_or_else(|error| json!({"error": error.to_string(), "command": line})))?;
    }
    Ok(())
}

/// Says a line.
pub fn answer(message: &Value) -> Result<()> {
    let mut output = std::io::stdout().lock();
    writeln!(output, "{message}")?;
    Ok(output.flush()?)
}

type Works = HashMap<String, Box<dyn Work>>;

fn run<L: Library>(library: &L, works: &mut Works, words: &[&str]) -> Result<Value> {
    match *words {
        ["time", name, milliseconds] => {
            let warm_up = if works.contains_key(name) { WARM_UP_AGAIN } else { WARM_UP_FIRST };
            let work = kept(library, works, name)?;
            let budget = Duration::from_secs_f64(milliseconds.parse::<f64>()? / 1e3);
            let begin = Instant::now();
            for _ in 0..warm_up {
                work.step()?;
                // A step of seconds is warm after one.
                if begin.elapsed() > budget {
                    break;
                }
            }
            time(work, budget)
        }
        ["steps", name, count] => {
            let work = kept(library, works, name)?;
            (0..count.parse::<usize>()?).try_for_each(|_| work.step())?;
            Ok(json!({"case": name}))
        }
        ["check", name, directory] => {
            let loss = library.check(&Case::parse(name)?, Path::new(directory))?;
            Ok(json!({"case": name, "loss": loss, "masks": "given"}))
        }
        _ => Err("expected `time CASE MILLISECONDS`, `steps CASE COUNT`, `check CASE DIRECTORY` or `quit`".into()),
    }
}

fn kept<'a, L: Library>(library: &L, works: &'a mut Works, name: &str) -> Result<&'a mut dyn Work> {
    if !works.contains_key(name) {
        works.insert(name.to_owned(), library.work(&Case::parse(name)?)?);
    }
    let work = works.get_mut(name).ok_or("the work of the case is gone")?;
    Ok(work.as_mut())
}

fn time(work: &mut dyn Work, budget: Duration) -> Result<Value> {
    let begin = Instant::now();
    let mut durations = Vec::new();
    while durations.is_empty() || begin.elapsed() < budget {
        let start = Instant::now();
        work.step()?;
        durations.push(start.elapsed().as_secs_f64() * 1e3);
    }
    durations.sort_by(f64::total_cmp);
    let last = durations.len() - 1;
    Ok(json!({
        "n": durations.len(),
        "step_median_ms": (durations[last / 2] + durations[last - last / 2]) / 2.0,
        "step_min_ms": durations[0],
        "step_p99_ms": durations[(last * 99).div_ceil(100)],
    }))
}
