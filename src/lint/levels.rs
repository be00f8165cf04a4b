// SPDX-License-Identifier: MIT OR Apache-2.0
//! What becomes of what is found: by code, by layer, as the user says.

use std::collections::BTreeMap;
use std::str::FromStr;

use super::{Code, Finding, Severity};
use crate::Error;

/// What becomes of a code wherever it is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Nothing is said of it.
    Allow,
    /// It is a warning.
    Warn,
    /// It fails.
    Deny,
}

/// What becomes of codes that are not left as their rules grade them; of some everywhere, of some in one
/// layer and those below it, which then counts.
///
/// ```
/// use kiln::lint::{Code, Level, Levels};
///
/// let levels = Levels::default()
///     .with(Code::RateLow, Level::Allow)
///     .with_layer("head.dropout", Code::RateHigh, Level::Allow);
/// let file = Levels::from_toml("[lint]\nrate-low = 'allow'\n[lint.layers.'head.dropout']\nD101 = 'allow'")?;
/// assert_eq!(file, levels);
/// # Ok::<(), kiln::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Levels {
    everywhere: BTreeMap<Code, Level>,
    layers: BTreeMap<(Code, String), Level>,
}

/// What layers say of themselves when they are made.
#[derive(Clone, Debug, Default)]
pub(crate) struct Remarks {
    /// Paths of layers where a code is allowed.
    pub(crate) allowed: Vec<(String, Code)>,
    /// What they see that a graph does not show.
    pub(crate) found: Vec<Finding>,
}

impl FromStr for Level {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "allow" => Ok(Level::Allow),
            "warn" => Ok(Level::Warn),
            "deny" => Ok(Level::Deny),
            _ => Err(Error::argument("level", "allow, warn or deny", text)),
        }
    }
}

impl Levels {
    /// The same with a level for a code everywhere.
    pub fn with(mut self, code: Code, level: Level) -> Self {
        self.everywhere.insert(code, level);
        self
    }

    /// The same with a level for a code in a layer, given by its path, and the layers below it.
    pub fn with_layer(mut self, path: &str, code: Code, level: Level) -> Self {
        self.layers.insert((code, path.into()), level);
        self
    }

    /// What a finding comes to; `None` if nothing is said of it.
    pub(super) fn grade(&self, code: Code, layer: &str, severity: Severity) -> Option<Severity> {
        let of_layer =
            self.layers.iter().filter(|((of, path), _)| *of == code && is_in(layer, path));
        let nearest = of_layer.max_by_key(|((_, path), _)| path.len()).map(|(_, level)| *level);
        match nearest.or_else(|| self.everywhere.get(&code).copied()) {
            None => Some(severity),
            Some(Level::Allow) => None,
            Some(Level::Warn) => Some(Severity::Warn),
            Some(Level::Deny) => Some(Severity::Deny),
        }
    }
}

impl Remarks {
    pub(super) fn allows(&self, code: Code, layer: &str) -> bool {
        self.allowed.iter().any(|(path, allowed)| *allowed == code && is_in(layer, path))
    }
}

/// Whether a layer is the one with this path, or below it.
fn is_in(layer: &str, path: &str) -> bool {
    match layer.strip_prefix(path) {
        Some(rest) => path.is_empty() || rest.is_empty() || rest.starts_with('.'),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_layer_decides() {
        let levels = Levels::default()
            .with(Code::RateLow, Level::Deny)
            .with_layer("encoder", Code::RateLow, Level::Allow)
            .with_layer("encoder.first", Code::RateLow, Level::Warn);
        let grade = |layer| levels.grade(Code::RateLow, layer, Severity::Note);
        assert_eq!(grade("decoder"), Some(Severity::Deny));
        assert_eq!(grade("encoder"), None);
        assert_eq!(grade("encoder.last"), None);
        assert_eq!(grade("encoder.first.dropout"), Some(Severity::Warn));
        assert_eq!(grade("encoders"), Some(Severity::Deny));
        assert_eq!(levels.grade(Code::RateHigh, "", Severity::Note), Some(Severity::Note));
    }
}
