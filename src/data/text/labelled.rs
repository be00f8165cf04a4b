// SPDX-License-Identifier: MIT OR Apache-2.0
//! Texts with labels, not tokens yet.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use super::{Texts, Unit, Vocabulary};
use crate::data::random::{self, Purpose};
use crate::{Error, Result};

/// The words, a language in each line; see `data/words/README.md` for the source and the licence.
const WORDS: &str = include_str!("../../../data/words/words.txt");

/// Texts with a label each, as a file has them.
///
/// ```
/// use kiln::data::{Dataset, Labelled, Unit};
///
/// // Which language is a word from? 8,000 words to learn from and 4,088 to be asked about.
/// let (train, test) = Labelled::words().split(8000, 7)?;
/// let vocabulary = train.vocabulary(Unit::Characters, 1)?;
/// assert_eq!(vocabulary.len(), 2 + 33); // padding, the unknown, and letters
/// let labels = train.labels();
/// assert_eq!(labels, ["czech", "english", "french", "italian", "portuguese", "spanish"]);
/// let (train, test) = (train.texts(&vocabulary, &labels)?, test.texts(&vocabulary, &labels)?);
/// assert_eq!((train.len(), test.len(), test.unknown()), (8000, 4088, 0));
/// # Ok::<(), kiln::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Labelled {
    source: PathBuf,
    entries: Vec<LabelledText>,
}

/// A text with its label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelledText {
    /// What is to be told of the text.
    pub label: String,
    /// The text.
    pub text: String,
    /// The line of the file that it was read from, counted from 1.
    pub line: usize,
    /// Where in the file that line begins.
    pub(super) offset: u64,
}

impl Labelled {
    pub(super) fn of(source: &Path, entries: Vec<LabelledText>) -> Self {
        Labelled { source: source.into(), entries }
    }

    /// 12,088 words, each of one of six languages: the word lists of BIP-39 without the words that are
    /// in two of them. CC0 1.0.
    pub fn words() -> Self {
        let languages = || WORDS.lines().filter_map(|line| line.split_once('\t'));
        let mut lists: HashMap<&str, usize> = HashMap::new();
        for (_, words) in languages() {
            words.split(' ').for_each(|word| *lists.entry(word).or_default() += 1);
        }
        let mut entries = Vec::new();
        for (number, (language, words)) in languages().enumerate() {
            let of_one = words.split(' ').filter(|word| lists[word] == 1);
            entries.extend(of_one.map(|word| LabelledText {
                label: language.into(),
                text: word.into(),
                line: number + 1,
                offset: 0,
            }));
        }
        Labelled::of(Path::new("words.txt"), entries)
    }

    /// Texts and labels in the order of the source.
    pub fn entries(&self) -> &[LabelledText] {
        &self.entries
    }

    /// The labels that occur, in alphabetical order: a class each.
    pub fn labels(&self) -> Vec<String> {
        let labels: BTreeSet<&str> = self.entries.iter().map(|entry| &*entry.label).collect();
        labels.into_iter().map(String::from).collect()
    }

    /// Shuffles the texts by `seed` and gives the first `count` of them, and the rest. The same for ever
    /// for the same arguments.
    ///
    /// # Errors
    /// [`Error::Argument`] if there are fewer than `count`.
    pub fn split(&self, count: usize, seed: u64) -> Result<(Self, Self)> {
        let len = self.entries.len();
        if count > len {
            return Err(Error::argument("count", format!("at most {len} texts"), count));
        }
        let mut rng = random::stream(Purpose::ShuffledSet, seed, 0);
        let order = random::permutation(&mut rng, len);
        let part = |indices: &[usize]| {
            let entries = indices.iter().map(|&index| self.entries[index].clone());
            Labelled::of(&self.source, entries.collect())
        };
        Ok((part(&order[..count]), part(&order[count..])))
    }

    /// The first `count` texts, or all if there are fewer.
    pub fn take(&self, count: usize) -> Self {
        Labelled::of(&self.source, self.entries.iter().take(count).cloned().collect())
    }

    /// The vocabulary of these texts: the tokens that occur `least` times or more. Made of the texts to
    /// train on alone, it leaves others their unknown tokens.
    ///
    /// # Errors
    /// [`Error::Argument`] if no token occurs so often.
    pub fn vocabulary(&self, unit: Unit, least: usize) -> Result<Vocabulary> {
        Vocabulary::of(self.entries.iter().map(|entry| &*entry.text), unit, least)
    }

    /// The texts as tokens of a vocabulary, their labels as classes: the places of `labels`.
    ///
    /// # Errors
    /// [`Error::Data`], which names the line, for a label that is none of `labels` and for a text
    /// without tokens.
    pub fn texts(&self, vocabulary: &Vocabulary, labels: &[String]) -> Result<Texts> {
        let classes: HashMap<&str, i32> =
            labels.iter().enumerate().map(|(class, label)| (&**label, class as i32)).collect();
        let wrong = |entry: &LabelledText, expected: String, got: String| Error::Data {
            path: self.source.clone(),
            offset: entry.offset,
            expected: format!("{expected} in line {}", entry.line),
            got,
        };
        let mut texts = Texts::new(vocabulary, labels.len());
        for entry in &self.entries {
            let Some(&class) = classes.get(&*entry.label) else {
                let known = crate::error::list(labels, ", ");
                let expected = format!("one of the labels {known}");
                return Err(wrong(entry, expected, format!("{:?}", entry.label)));
            };
            if texts.add(&entry.text, Some(class)) == 0 {
                let expected = format!("a text of {}", vocabulary.unit().name());
                return Err(wrong(entry, expected, format!("{:?}", entry.text)));
            }
        }
        Ok(texts)
    }
}
