// SPDX-License-Identifier: MIT OR Apache-2.0
//! The data sets that the program knows.

use std::fmt;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use kiln::data::idx::{Amount, Collection, Emnist};
use kiln::data::{
    BadPictures, Dataset, Digits, Labelled, Mislabelled, Subset, Texts, Vocabulary, Vowels,
};
use kiln::{Error, Result};
use serde::{Deserialize, Serialize};

use super::args::AugmentName;
use super::images::{self, changed, Images};
use super::network::Sizes;
use super::settings::TokenSettings;

/// The split and the wrong labels stay the same whatever `--seed` is, so that runs can be compared.
pub(super) const SPLIT_SEED: u64 = 0;

/// Digits to train on unless told otherwise; the other 297 are for the test.
const DIGITS_FOR_TRAINING: usize = 1500;

/// Words to choose those from that are trained on; the other 4,088 are for the test.
const WORDS_FOR_CHOICE: usize = 8000;

/// Words to train on unless told otherwise.
const WORDS_FOR_TRAINING: usize = 2000;

/// Name of the frames of speech.
const VOWELS: &str = "vowels";

/// Where samples come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(super) enum Source {
    Digits,
    /// As colour images of 32 x 32.
    Digits32,
    Emoji,
    Files(Known, PathBuf),
    Images(Images, PathBuf),
    /// Words of six languages.
    Words,
    /// Labelled lines of a file.
    Text(PathBuf),
    /// Frames of speech in the files of a folder.
    Vowels(PathBuf),
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
#[derive(Clone, Debug, Default)]
pub(super) struct Choice {
    pub(super) train_samples: Option<NonZeroUsize>,
    pub(super) label_noise: f64,
    pub(super) tokens: TokenSettings,
    pub(super) bad_images: BadPictures,
    /// How images are changed at random.
    pub(super) augment: Vec<AugmentName>,
}

/// A training and a test set.
#[derive(Clone)]
pub(super) struct Sets {
    pub(super) train: Arc<dyn Dataset>,
    /// That to train on, without random changes.
    pub(super) measured: Arc<dyn Dataset>,
    pub(super) test: Arc<dyn Dataset>,
    /// What a network must know of texts.
    pub(super) texts: Option<TextClasses>,
    /// How much of the test is not in the vocabulary.
    pub(super) unknown: Option<Unknown>,
}

/// What a network must know of texts: their tokens, and what its classes are called.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct TextClasses {
    pub(super) vocabulary: Vocabulary,
    pub(super) labels: Vec<String>,
}

/// Tokens of texts that are not in the vocabulary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unknown {
    pub(super) tokens: usize,
    pub(super) of: usize,
}

impl Source {
    /// A short name.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Source::Digits => "digits",
            Source::Digits32 => "digits32",
            Source::Emoji => "emoji",
            Source::Files(known, _) => known.name(),
            Source::Images(images, _) => images.name(),
            Source::Words => "words",
            Source::Text(_) => "text",
            Source::Vowels(_) => VOWELS,
        }
    }

    pub(super) fn is_of_texts(&self) -> bool {
        matches!(self, Source::Words | Source::Text(_))
    }

    pub(super) fn is_of_sequences(&self) -> bool {
        self.is_of_texts() || matches!(self, Source::Vowels(_))
    }

    /// Sizes of a network for them, if no data say more.
    pub(super) fn sizes(&self) -> Sizes {
        match self {
            Source::Vowels(_) => Sizes::OF_VOWELS,
            _ => Sizes::OF_IMAGES,
        }
    }

    /// Reads the data, and of the training set only what is wanted. Texts are read as a network knows
    /// them, if there is one.
    pub(super) fn load(&self, choice: &Choice, known: Option<&TextClasses>) -> Result<Sets> {
        if self.is_of_sequences() && !choice.augment.is_empty() {
            return Err(Error::argument("augment", "images to change", self.name()));
        }
        match self {
            Source::Words => {
                let (some, test) = Labelled::words().split(WORDS_FOR_CHOICE, SPLIT_SEED)?;
                let count = choice.train_samples.map_or(WORDS_FOR_TRAINING, NonZeroUsize::get);
                if count > WORDS_FOR_CHOICE {
                    let expected = format!("at most {WORDS_FOR_CHOICE}");
                    return Err(Error::argument("train-samples", expected, count));
                }
                Sets::of_texts(&some.take(count), &test, choice, known)
            }
            Source::Text(file) => {
                let all = Labelled::read(file)?;
                let len = all.entries().len();
                // Four of five.
                let count = choice.train_samples.map_or((len * 4).div_ceil(5), NonZeroUsize::get);
                let most = len - 1;
                match choice.train_samples {
                    Some(given) if given.get() > most => {
                        let expected = format!("at most {most}, to leave texts for the test");
                        return Err(Error::argument("train-samples", expected, given));
                    }
                    None if most == 0 => {
                        let expected = "texts to train on and to test with";
                        return Err(Error::argument("data", expected, "one text"));
                    }
                    _ => {}
                }
                let (train, test) = all.split(count.min(most), SPLIT_SEED)?;
                let labels = all.labels();
                let own = match known {
                    Some(known) => known.clone(),
                    None => TextClasses::of(&train, labels, choice.tokens)?,
                };
                Sets::of_texts(&train, &test, choice, Some(&own))
            }
            Source::Vowels(folder) => {
                let (train, test) = (Arc::new(Vowels::train(folder)?), Vowels::test(folder)?);
                let most = train.len();
                let count = choice.train_samples.map_or(most, NonZeroUsize::get);
                if count > most {
                    let expected = format!("at most {most}");
                    return Err(Error::argument("train-samples", expected, count));
                }
                // Sorted by speaker, of which the first ones would be few.
                let (train, _) = Subset::split(train, count, SPLIT_SEED)?;
                let train = Mislabelled::new(Arc::new(train), choice.label_noise, SPLIT_SEED)?;
                let train: Arc<dyn Dataset> = Arc::new(train);
                let measured = Arc::clone(&train);
                Ok(Sets { train, measured, test: Arc::new(test), texts: None, unknown: None })
            }
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
                changed(Arc::new(train), Arc::new(test), None, &choice.augment)
            }
            Source::Emoji => images::emoji(choice),
            Source::Images(images, directory) => images.load(directory, choice),
            Source::Files(known, directory) => {
                let files = known.collection().find(directory)?;
                let amount = choice.train_samples.map(|count| Amount::First(count.get()));
                let train = files.train.load(amount.unwrap_or(Amount::All))?;
                let train = train.with_label_noise(choice.label_noise, SPLIT_SEED)?;
                let test = files.test.load(Amount::All)?;
                changed(Arc::new(train), Arc::new(test), None, &choice.augment)
            }
        }
    }
}

impl Sets {
    fn of_texts(
        train: &Labelled,
        test: &Labelled,
        choice: &Choice,
        known: Option<&TextClasses>,
    ) -> Result<Self> {
        let known = match known {
            Some(known) => known.clone(),
            None => TextClasses::of(train, train.labels(), choice.tokens)?,
        };
        let TextClasses { vocabulary, labels } = &known;
        let train = train.texts(vocabulary, labels)?;
        let train = train.with_label_noise(choice.label_noise, SPLIT_SEED)?;
        let test = test.texts(vocabulary, labels)?;
        let unknown = Some(Unknown::of(&test));
        let (train, test): (Arc<dyn Dataset>, Arc<dyn Dataset>) = (Arc::new(train), Arc::new(test));
        Ok(Sets { measured: Arc::clone(&train), train, test, texts: Some(known), unknown })
    }

    /// Sizes of a network for them.
    pub(super) fn sizes(&self) -> Sizes {
        match &self.texts {
            Some(texts) => texts.sizes(),
            None => {
                let features = match self.train.sample_shape()[..] {
                    [_, features] => features,
                    _ => 0,
                };
                Sizes { features, classes: self.train.classes(), ..Sizes::OF_IMAGES }
            }
        }
    }
}

impl TextClasses {
    fn of(train: &Labelled, labels: Vec<String>, tokens: TokenSettings) -> Result<Self> {
        if labels.len() < 2 {
            return Err(Error::argument("data", "texts of two labels or more", labels.len()));
        }
        let vocabulary = train.vocabulary(tokens.unit.unit(), tokens.min_count.get())?;
        Ok(TextClasses { vocabulary, labels })
    }

    /// Those of the words that the program trains on unless told otherwise.
    pub(super) fn of_words() -> Result<Self> {
        let words = Labelled::words();
        TextClasses::of(&words, words.labels(), TokenSettings::default())
    }

    /// Sizes of a network for them.
    pub(super) fn sizes(&self) -> Sizes {
        Sizes { tokens: self.vocabulary.len(), features: 0, classes: self.labels.len() }
    }

    /// For people.
    pub(super) fn describe(&self) -> String {
        let labels = match self.labels.len() {
            few @ 0..=10 => format!("{few} classes: {}", self.labels.join(", ")),
            many => format!("{many} classes"),
        };
        let known = self.vocabulary.tokens().len();
        format!("{known} known {}, {labels}", self.vocabulary.unit().name())
    }

    /// Compares with what a checkpoint knows.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] if it is of other tokens or labels.
    pub(super) fn check(&self, began: &TextClasses, path: &Path) -> Result<()> {
        let mut mismatches = Vec::new();
        if self.vocabulary != began.vocabulary {
            let show =
                |known: &Vocabulary| format!("{} {}", known.tokens().len(), known.unit().name());
            let (now, before) = (show(&self.vocabulary), show(&began.vocabulary));
            let expected = format!("vocabulary: expected that of the data, {now}");
            mismatches.push(format!("{expected}, got another, of {before}"));
        }
        if self.labels != began.labels {
            let (now, before) = (self.labels.join(", "), began.labels.join(", "));
            mismatches.push(format!("labels: expected {now}, got {before}"));
        }
        match mismatches.is_empty() {
            true => Ok(()),
            false => Err(Error::Checkpoint { path: path.into(), mismatches }),
        }
    }
}

impl Unknown {
    fn of(texts: &Texts) -> Self {
        Unknown { tokens: texts.unknown(), of: texts.count() }
    }

    /// For people; nothing where all is known.
    pub(super) fn describe(self) -> String {
        match self.tokens {
            0 => String::new(),
            tokens => format!(", {tokens} of {} tokens unknown", self.of),
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
        let images = |name| Images::ALL.into_iter().find(|images| images.name() == name);
        let parts = text.split_once(':').map(|(name, path)| (known(name), images(name), path));
        match parts {
            None if text == "digits" => Ok(Source::Digits),
            None if text == "digits32" => Ok(Source::Digits32),
            None if text == "emoji" => Ok(Source::Emoji),
            None if text == "words" => Ok(Source::Words),
            Some((None, None, path)) if text.starts_with("vowels:") && !path.is_empty() => {
                Ok(Source::Vowels(absolute(path)))
            }
            Some((None, None, path)) if text.starts_with("text:") && !path.is_empty() => {
                Ok(Source::Text(absolute(path)))
            }
            Some((Some(known), _, path)) if !path.is_empty() => {
                Ok(Source::Files(known, absolute(path)))
            }
            Some((_, Some(images), path)) if !path.is_empty() => {
                Ok(Source::Images(images, absolute(path)))
            }
            _ => {
                let known = Known::ALL.map(Known::name).into_iter();
                let names = known.chain(Images::ALL.map(Images::name)).chain([VOWELS]);
                let names: Vec<String> = names.map(|name| format!("{name}:DIR")).collect();
                Err(format!(
                    "expected digits, digits32, emoji, words, text:FILE or one of {}",
                    names.join(", ")
                ))
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
            Source::Digits | Source::Digits32 | Source::Emoji | Source::Words => {
                f.write_str(self.name())
            }
            Source::Text(path) => write!(f, "text:{}", path.display()),
            Source::Files(_, path) | Source::Images(_, path) | Source::Vowels(path) => {
                write!(f, "{}:{}", self.name(), path.display())
            }
        }
    }
}
