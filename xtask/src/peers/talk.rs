// SPDX-License-Identifier: MIT OR Apache-2.0
//! A process that is asked in lines of text and answers each with a line of JSON, in time or not at all.

use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use super::process::{Heard, Process};
use super::Result;

/// Most bytes of an answer that a message shows.
const SHOWN: usize = 200;
/// Seconds that a peer has for an answer by default, beside those that it is asked to work.
pub(crate) const PATIENCE: u64 = 120;
/// A peer has so many times what a turn is asked to last: its warm-up and its last step are no part of that.
const TURNS: u64 = 10;

/// A process that is ready for questions; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Talk {
    process: Process,
    /// How long an answer may take.
    patience: Duration,
    version: String,
}

impl Talk {
    /// Starts a program and waits until it is ready; `name` is what messages call it.
    pub(crate) fn start(command: &mut Command, name: &str, patience: Duration) -> Result<Self> {
        let process =
            Process::start(command).map_err(|error| format!("cannot start {name}: {error}"))?;
        let mut talk = Talk { process, patience, version: String::new() };
        let greeting = talk.answer(patience).and_then(|greeting| match &greeting["error"] {
            Value::Null => Ok(greeting["version"].as_str().map(str::to_owned)),
            why => Err(shown(why.as_str().unwrap_or("the peer cannot begin")).into()),
        });
        match greeting {
            Ok(Some(version)) => {
                talk.version = version;
                Ok(talk)
            }
            told => {
                talk.abandon();
                Err(told.err().unwrap_or_else(|| "the peer told no version".into()))
            }
        }
    }

    /// The version of its library.
    pub(crate) fn version(&self) -> &str {
        &self.version
    }

    /// Its number among the system's processes.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Ends a peer that may listen no more.
    pub(crate) fn abandon(mut self) {
        self.process.kill();
    }

    /// Asks for something that takes no time worth mentioning.
    pub(crate) fn ask(&mut self, question: &str) -> Result<Value> {
        self.ask_for(0, question)
    }

    /// Asks for something that is to last so many milliseconds.
    pub(crate) fn ask_for(&mut self, milliseconds: u64, question: &str) -> Result<Value> {
        self.process.say(question).map_err(|error| format!("the peer is gone: {error}"))?;
        let work = Duration::from_millis(milliseconds.saturating_mul(TURNS));
        let answer = self.answer(self.patience.saturating_add(work))?;
        match answer.get("error") {
            Some(error) => Err(format!("the peer cannot `{question}`: {error}").into()),
            None => Ok(answer),
        }
    }

    fn answer(&mut self, limit: Duration) -> Result<Value> {
        let line = match self.process.hear(limit)? {
            Heard::Line(line) => line,
            Heard::End => return Err(self.last_words()?.into()),
            Heard::Silence => {
                return Err(format!("no answer in {} s", limit.as_secs_f64().round()).into())
            }
        };
        let answer = serde_json::from_str(&line).ok().filter(Value::is_object);
        answer.ok_or_else(|| format!("the peer: expected JSON, got {}", shown(line.trim())).into())
    }

    /// How it ended, and the last line that it complained with.
    fn last_words(&mut self) -> Result<String> {
        let (status, last) = self.process.last_words()?;
        let why = last.map_or(String::new(), |line| format!(", {}", shown(line.trim())));
        Ok(format!("the peer ended before it answered: {status}{why}"))
    }
}

/// The number of this name, which says how long something takes.
pub(crate) fn positive(answer: &Value, key: &str) -> Result<f64> {
    let value = answer[key].as_f64().filter(|value| *value > 0.0);
    let expected = || format!("the peer: expected {key} above 0, got {}", shown(answer));
    value.ok_or_else(|| expected().into())
}

/// The beginning of something that may be long, on one line.
pub(crate) fn shown(what: impl ToString) -> String {
    let text = what.to_string().escape_debug().to_string();
    text.chars().take(SHOWN).collect()
}
