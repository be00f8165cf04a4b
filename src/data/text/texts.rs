// SPDX-License-Identifier: MIT OR Apache-2.0
//! Texts as numbers of tokens.

use super::Vocabulary;
use crate::data::{noise, Dataset, Field, Fields, Pass, Sample};
use crate::{Error, Result};

/// Texts as numbers of a [vocabulary](Vocabulary)'s tokens. A sample is its tokens, whose number
/// varies, that number, and a class if there are classes: what
/// [`RnnClassifier`](crate::models::RnnClassifier) takes, and a loss.
///
/// ```
/// use kiln::data::{Batch, Pass, Texts, Unit, Vocabulary};
///
/// let known = Vocabulary::of(["abc"], Unit::Characters, 1)?;
/// let mut texts = Texts::new(&known, 0);
/// texts.add("bax", None);
/// texts.add("c", None);
/// let batch = Batch::read(&texts, &[0, 1], Pass::default())?;
/// assert_eq!(batch.inputs[0].integers()?, [3, 2, 1, 4, 0, 0]);
/// assert_eq!(batch.inputs[1].integers()?, [3, 1]);
/// assert_eq!(texts.unknown(), 1);
/// # Ok::<(), kiln::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Texts {
    vocabulary: Vocabulary,
    /// Tokens of all texts, one text behind the other.
    tokens: Vec<i32>,
    /// Where each text ends in them.
    ends: Vec<usize>,
    labels: Vec<i32>,
    /// 0 if the texts have no labels.
    classes: usize,
    longest: usize,
    unknown: usize,
}

/// Lengths that batches are padded to, at most: a network has a plan for each, and keeps 32 plans, for
/// whole and incomplete batches in training and in evaluation.
const LENGTHS: usize = 8;

impl Texts {
    /// No texts yet, of so many classes; 0 for texts without labels.
    pub fn new(vocabulary: &Vocabulary, classes: usize) -> Self {
        Texts {
            vocabulary: vocabulary.clone(),
            tokens: vec![],
            ends: vec![],
            labels: vec![],
            classes,
            longest: 1,
            unknown: 0,
        }
    }

    /// Adds a text with its class, where texts have classes; without one it is of class 0. Returns the
    /// number of its tokens; a text without any is not added.
    pub fn add(&mut self, text: &str, class: Option<i32>) -> usize {
        let before = self.tokens.len();
        self.tokens.extend(self.vocabulary.numbers(text));
        let added = &self.tokens[before..];
        if added.is_empty() {
            return 0;
        }
        self.longest = self.longest.max(added.len());
        self.unknown += added.iter().filter(|number| **number == Vocabulary::UNKNOWN).count();
        self.ends.push(self.tokens.len());
        self.labels.push(class.unwrap_or(0));
        self.tokens.len() - before
    }

    /// The tokens of a text, `None` past the end.
    pub fn tokens(&self, index: usize) -> Option<&[i32]> {
        let end = *self.ends.get(index)?;
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        Some(&self.tokens[start..end])
    }

    /// What the tokens are numbers of.
    pub fn vocabulary(&self) -> &Vocabulary {
        &self.vocabulary
    }

    /// Tokens of all texts.
    pub fn count(&self) -> usize {
        self.tokens.len()
    }

    /// Those of them that are not in the vocabulary.
    pub fn unknown(&self) -> usize {
        self.unknown
    }

    /// Tokens of the longest text.
    pub fn longest(&self) -> usize {
        self.longest
    }

    /// Gives exactly `round(fraction * len)` texts, chosen uniformly by `seed`, a wrong class, uniform
    /// over the others.
    ///
    /// # Errors
    /// [`Error::Argument`] if `fraction` is NaN or outside `[0, 1]`, or if classes are to change and
    /// there is no other.
    pub fn with_label_noise(mut self, fraction: f64, seed: u64) -> Result<Self> {
        for swap in noise::swaps(self.ends.len(), self.classes, fraction, seed)? {
            let label = &mut self.labels[swap.index];
            *label = ((*label as usize + swap.shift) % self.classes) as i32;
        }
        Ok(self)
    }
}

impl Dataset for Texts {
    fn len(&self) -> usize {
        self.ends.len()
    }

    fn fields(&self) -> Fields {
        let tokens = Field::i32([self.longest]).in_steps_of(self.longest.div_ceil(LENGTHS));
        let fields = Fields::of(tokens).input(Field::length_of(0));
        match self.classes {
            0 => fields,
            classes => fields.target(Field::class(classes)),
        }
    }

    fn read(&self, index: usize, _: Pass, sample: &mut Sample<'_>) -> Result<()> {
        let expected = || Error::argument("index", format!("below {}", self.len()), index);
        sample.input(0).write_i32(self.tokens(index).ok_or_else(expected)?)?;
        match self.classes {
            0 => Ok(()),
            _ => sample.set_label(self.labels[index]),
        }
    }

    fn length(&self, index: usize) -> usize {
        self.tokens(index).map_or(0, <[i32]>::len)
    }
}
