// SPDX-License-Identifier: MIT OR Apache-2.0
//! The data sets that the program knows.

use std::fmt;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use kiln::data::idx::{Amount, Collection, Emnist};
use kiln::data::{Dataset, Digits};
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
    /// As colour images of 32 x 32.
    Digits32,
    Files(Known, PathBuf),
}

/// A collection of files that the program's networks fit: ten classes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    Mnist,
    Fashion,
    Kmnist,
    EmnistDigits,
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
            Source::Digits32 => "digits32",
            Source::Files(known, _) => known.name(),
        }
    }

    /// Reads the data, and of the training set only what is wanted.
    pub(super) fn load(&self, choice: Choice) -> Result<Sets> {
        match self {
            Source::Digits | Source::Digits32 => {
                let all = Digits::load();
                let count = choice.train_samples.map_or(DIGITS_FOR_TRAINING, NonZeroUsize::get);
                let most = all.labels().len() - 1;
                if count > most {
                    let expected = format!("at most {most}, to leave digits for the test");
                    return Err(Error::argument("train-samples", expected, count));
                }
                let (train, test) = match self {
                    Source::Digits32 => all.to_32x32_rgb().shuffled(SPLIT_SEED).split(count)?,
                    _ => all.split(count, SPLIT_SEED)?,
                };
                let train = train.with_label_noise(choice.label_noise, SPLIT_SEED)?;
                Ok(Sets { train: Arc::new(train), test: Arc::new(test) })
            }
            Source::Files(known, directory) => {
                let files = known.collection().find(directory)?;
                let amount = choice.train_samples.map(|count| Amount::First(count.get()));
                let train = files.train.load(amount.unwrap_or(Amount::All))?;
                let train = train.with_label_noise(choice.label_noise, SPLIT_SEED)?;
                let test = files.test.load(Amount::All)?;
                Ok(Sets { train: Arc::new(train), test: Arc::new(test) })
            }
        }
    }
}

impl Known {
    const ALL: [Known; 4] = [Known::Mnist, Known::Fashion, Known::Kmnist, Known::EmnistDigits];

    fn name(self) -> &'static str {
        match self {
            Known::Mnist => "mnist",
            Known::Fashion => "fashion",
            Known::Kmnist => "kmnist",
            Known::EmnistDigits => "emnist-digits",
        }
    }

    fn collection(self) -> Collection {
        match self {
            Known::Mnist => Collection::Mnist,
            Known::Fashion => Collection::FashionMnist,
            Known::Kmnist => Collection::Kmnist,
            Known::EmnistDigits => Collection::Emnist(Emnist::Digits),
        }
    }
}

impl FromStr for Source {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = |name| Known::ALL.into_iter().find(|known| known.name() == name);
        match text.split_once(':').map(|(name, path)| (known(name), path)) {
            None if text == "digits" => Ok(Source::Digits),
            None if text == "digits32" => Ok(Source::Digits32),
            Some((Some(known), path)) if !path.is_empty() => {
                Ok(Source::Files(known, absolute(path)))
            }
            _ => {
                let names = Known::ALL.map(|known| format!("{}:DIR", known.name()));
                Err(format!("expected digits, digits32 or one of {}", names.join(", ")))
            }
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
            Source::Digits | Source::Digits32 => f.write_str(self.name()),
            Source::Files(known, path) => write!(f, "{}:{}", known.name(), path.display()),
        }
    }
}
