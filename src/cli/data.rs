// SPDX-License-Identifier: MIT OR Apache-2.0
//! The data sets that the program knows.

use std::fmt;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use kiln::data::{idx, Dataset, Digits, MemoryDataset};
use kiln::{Error, Result};
use serde::{Deserialize, Serialize};

/// The split and the wrong labels stay the same whatever `--seed` is, so that runs can be compared.
const SPLIT_SEED: u64 = 0;

/// Digits to train on unless told otherwise; the other 297 are for the test.
const DIGITS_FOR_TRAINING: usize = 1500;

/// Where samples come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(super) enum Source {
    Digits,
    Mnist(PathBuf),
    Fashion(PathBuf),
}

/// What to make of a source.
#[derive(Clone, Copy, Debug)]
pub(super) struct Choice {
    pub(super) train_samples: Option<NonZeroUsize>,
    pub(super) label_noise: f64,
}

/// A training and a test set.
#[derive(Clone)]
pub(super) struct Sets {
    pub(super) train: Arc<dyn Dataset>,
    pub(super) test: Arc<dyn Dataset>,
}

impl Source {
    /// A short name.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Source::Digits => "digits",
            Source::Mnist(_) => "mnist",
            Source::Fashion(_) => "fashion",
        }
    }

    /// Reads the data.
    pub(super) fn load(&self, choice: Choice) -> Result<Sets> {
        let (train, test): (Arc<dyn Dataset>, Arc<dyn Dataset>) = match self {
            Source::Digits => {
                let all = Digits::load();
                let count = choice.train_samples.map_or(DIGITS_FOR_TRAINING, NonZeroUsize::get);
                let most = all.labels().len() - 1;
                if count > most {
                    let expected = format!("at most {most}, to leave digits for the test");
                    return Err(Error::argument("train-samples", expected, count));
                }
                let (train, test) = all.split(count, SPLIT_SEED)?;
                return Ok(Sets { train: noisy(train, choice)?, test: Arc::new(test) });
            }
            Source::Mnist(directory) | Source::Fashion(directory) => {
                let sets = idx::mnist_dir(directory)?;
                (Arc::new(sets.train), Arc::new(sets.test))
            }
        };
        let train = match choice.train_samples {
            Some(count) => noisy(MemoryDataset::read_all(&*train)?.take(count.get())?, choice)?,
            None if choice.label_noise != 0.0 => noisy(MemoryDataset::read_all(&*train)?, choice)?,
            None => train,
        };
        Ok(Sets { train, test })
    }
}

impl Sets {
    /// Number of elements of a sample.
    pub(super) fn features(&self) -> usize {
        self.train.sample_shape().iter().product()
    }
}

fn noisy(set: MemoryDataset, choice: Choice) -> Result<Arc<dyn Dataset>> {
    Ok(Arc::new(set.with_label_noise(choice.label_noise, SPLIT_SEED)?))
}

impl FromStr for Source {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            None if text == "digits" => Ok(Source::Digits),
            Some(("mnist", path)) if !path.is_empty() => Ok(Source::Mnist(absolute(path))),
            Some(("fashion", path)) if !path.is_empty() => Ok(Source::Fashion(absolute(path))),
            _ => Err("expected digits, mnist:DIR or fashion:DIR".into()),
        }
    }
}

/// A run may be resumed from another folder, which must find the same data.
fn absolute(path: &str) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.into())
}

impl TryFrom<String> for Source {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Source> for String {
    fn from(source: Source) -> String {
        source.to_string()
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Digits => f.write_str("digits"),
            Source::Mnist(path) | Source::Fashion(path) => {
                write!(f, "{}:{}", self.name(), path.display())
            }
        }
    }
}
