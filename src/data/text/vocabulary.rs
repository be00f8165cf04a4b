// SPDX-License-Identifier: MIT OR Apache-2.0
//! The tokens that a network knows, by number.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Tokens with a number each: 0 is padding, 1 whatever is not known, the others follow in the order of
/// how often they occurred.
///
/// ```
/// use kiln::data::{Unit, Vocabulary};
///
/// let known = Vocabulary::of(["the cat sat", "The dog sat."], Unit::Words, 2)?;
/// assert_eq!(known.tokens(), ["sat", "the"]);
/// assert_eq!(known.numbers("the cat, the dog").collect::<Vec<_>>(), [3, 1, 3, 1]);
/// # Ok::<(), kiln::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Saved", into = "Saved")]
pub struct Vocabulary {
    unit: Unit,
    tokens: Vec<String>,
    numbers: HashMap<String, i32>,
}

/// What a token is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unit {
    /// A character: a scalar value of Unicode, spaces and signs included.
    #[default]
    Characters,
    /// A run of letters, digits and apostrophes, in lower case; what is between them is left out.
    Words,
}

/// A vocabulary as it is saved.
#[derive(Serialize, Deserialize)]
struct Saved {
    unit: Unit,
    tokens: Vec<String>,
}

impl Vocabulary {
    /// The number of what fills texts up in a batch.
    pub const PADDING: i32 = 0;

    /// The number of every token that is not in the vocabulary.
    pub const UNKNOWN: i32 = 1;

    /// Numbers before that of the first token.
    const BEFORE: usize = 2;

    /// The tokens that occur `least` times or more in these texts; those that occur equally often are
    /// in alphabetical order.
    ///
    /// # Errors
    /// [`Error::Argument`] if no token occurs so often.
    pub fn of<'a>(
        texts: impl IntoIterator<Item = &'a str>,
        unit: Unit,
        least: usize,
    ) -> Result<Self> {
        let mut counts: HashMap<String, usize> = HashMap::new();
        for text in texts {
            unit.each(text, |token| match counts.get_mut(token) {
                Some(count) => *count += 1,
                None => drop(counts.insert(token.into(), 1)),
            });
        }
        let most = counts.values().copied().max().unwrap_or(0);
        let mut kept: Vec<(String, usize)> =
            counts.into_iter().filter(|(_, count)| *count >= least).collect();
        if kept.is_empty() {
            let expected = format!("at most {most}, as often as a token occurs");
            return Err(Error::argument("least", expected, least));
        }
        kept.sort_by(|(a, often), (b, less)| less.cmp(often).then_with(|| a.cmp(b)));
        let tokens = kept.into_iter().map(|(token, _)| token).collect();
        Vocabulary::try_from(Saved { unit, tokens })
            .map_err(|message| Error::Internal { pass: "vocabulary", message })
    }

    /// What a token is.
    pub fn unit(&self) -> Unit {
        self.unit
    }

    /// The tokens, from number 2 up.
    pub fn tokens(&self) -> &[String] {
        &self.tokens
    }

    /// Numbers that there are, those of padding and of the unknown included: the rows of an embedding.
    #[expect(clippy::len_without_is_empty, reason = "a vocabulary is never empty")]
    pub fn len(&self) -> usize {
        Self::BEFORE + self.tokens.len()
    }

    /// The number of a token.
    pub fn number(&self, token: &str) -> i32 {
        self.numbers.get(token).copied().unwrap_or(Self::UNKNOWN)
    }

    /// The numbers of a text's tokens, in order.
    pub fn numbers(&self, text: &str) -> impl Iterator<Item = i32> {
        let mut numbers = Vec::new();
        self.unit.each(text, |token| numbers.push(self.number(token)));
        numbers.into_iter()
    }
}

impl Unit {
    /// The name, in the plural.
    pub fn name(self) -> &'static str {
        match self {
            Unit::Characters => "characters",
            Unit::Words => "words",
        }
    }

    /// Calls with each token of a text, in order.
    fn each(self, text: &str, mut take: impl FnMut(&str)) {
        match self {
            Unit::Characters => {
                let mut bytes = [0; 4];
                text.chars().for_each(|character| take(character.encode_utf8(&mut bytes)));
            }
            Unit::Words => {
                let is_between = |c: char| !c.is_alphanumeric() && c != '\'' && c != '’';
                let words = text.split(is_between).filter(|word| !word.is_empty());
                words.for_each(|word| take(&word.to_lowercase()));
            }
        }
    }
}

impl TryFrom<Saved> for Vocabulary {
    type Error = String;

    fn try_from(Saved { unit, tokens }: Saved) -> Result<Self, String> {
        let mut numbers = HashMap::with_capacity(tokens.len());
        for (place, token) in tokens.iter().enumerate() {
            let number = i32::try_from(Self::BEFORE + place).map_err(|error| error.to_string())?;
            if numbers.insert(token.clone(), number).is_some() {
                return Err(format!("the token {token:?} is in a vocabulary twice"));
            }
        }
        match tokens.is_empty() {
            true => Err("a vocabulary without tokens".into()),
            false => Ok(Vocabulary { unit, tokens, numbers }),
        }
    }
}

impl From<Vocabulary> for Saved {
    fn from(Vocabulary { unit, tokens, .. }: Vocabulary) -> Self {
        Saved { unit, tokens }
    }
}
