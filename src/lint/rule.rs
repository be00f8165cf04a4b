// SPDX-License-Identifier: MIT OR Apache-2.0
//! A rule: what is known about a code, and the function that finds it.

use super::report::Findings;
use super::sight::Sight;
use super::{Code, Severity};

/// What there is to know about a [`Code`].
#[derive(Debug)]
pub struct Rule {
    /// The code.
    pub code: Code,
    /// Its number, `"D101"`. The first digit is the family.
    pub id: &'static str,
    /// Its name, `"rate-high"`.
    pub name: &'static str,
    /// The mistake in a line.
    pub title: &'static str,
    /// Why it is one.
    pub why: &'static str,
    /// Its severities, each with where it holds.
    pub grades: &'static [(Severity, &'static str)],
    /// What to do instead.
    pub mend: &'static str,
    /// Where the rule comes from.
    pub source: &'static str,
    pub(super) check: fn(&Sight<'_>, &mut Findings),
}

/// The article that kiln grew out of.
pub(super) const ARTICLE: &str = "How to Implement Dropout in PyTorch";

impl Rule {
    /// All of it, as `kiln lint --explain` prints it.
    pub fn page(&self) -> String {
        let grades = self.grades.iter().map(|(severity, place)| format!("  {severity}: {place}\n"));
        format!(
            "{} {}: {}\n\n{}\n\nSeverity\n{}\nMend: {}\n\nSource: {}",
            self.id,
            self.name,
            self.title,
            self.why,
            grades.collect::<String>(),
            self.mend,
            self.source,
        )
    }
}
