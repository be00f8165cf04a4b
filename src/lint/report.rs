// SPDX-License-Identifier: MIT OR Apache-2.0
//! What lint found.

use std::cmp::Reverse;
use std::fmt;

use super::levels::Remarks;
use super::rule::Rule;
use super::{Code, Levels};

/// How sure lint is that something is a mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Worth knowing; common practice in some networks.
    Note,
    /// A mistake, nearly always.
    Warn,
    /// It cannot do what it is there for.
    Deny,
}

/// A mistake in a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The mistake.
    pub code: Code,
    /// How bad it is here.
    pub severity: Severity,
    /// Path of the layer, empty for the network itself.
    pub layer: String,
    /// What was seen there.
    pub reason: String,
}

/// All that was found in a network, the worst first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// What was found.
    pub findings: Vec<Finding>,
}

/// What rules find.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) found: Vec<Finding>,
    code: Option<Code>,
}

impl Severity {
    /// Its name: `note`, `warn` or `deny`.
    pub fn name(self) -> &'static str {
        match self {
            Severity::Note => "note",
            Severity::Warn => "warn",
            Severity::Deny => "deny",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl Findings {
    /// What is found from now on is this rule's.
    pub(super) fn begin(&mut self, rule: &Rule) {
        self.code = Some(rule.code);
    }

    /// Adds a finding, unless the same was found at the same layer: one that is called twice.
    pub(super) fn add(&mut self, severity: Severity, layer: &str, reason: impl Into<String>) {
        let Some(code) = self.code else { return };
        let finding = Finding { code, severity, layer: layer.into(), reason: reason.into() };
        if !self.found.contains(&finding) {
            self.found.push(finding);
        }
    }
}

impl Report {
    pub(super) fn new(found: Vec<Finding>, remarks: &Remarks, levels: &Levels) -> Self {
        let graded = found.into_iter().filter_map(|finding| {
            let severity = match remarks.allows(finding.code, &finding.layer) {
                true => None,
                false => levels.grade(finding.code, &finding.layer, finding.severity),
            };
            severity.map(|severity| Finding { severity, ..finding })
        });
        let mut findings: Vec<Finding> = graded.collect();
        // Stable: of one severity, families come in their order and layers in that of the graph.
        findings.sort_by_key(|finding| Reverse(finding.severity));
        Report { findings }
    }

    /// Number of findings of a severity.
    pub fn count(&self, severity: Severity) -> usize {
        self.findings.iter().filter(|finding| finding.severity == severity).count()
    }

    /// The worst severity, if there is a finding.
    pub fn worst(&self) -> Option<Severity> {
        self.findings.iter().map(|finding| finding.severity).max()
    }
}

impl fmt::Display for Finding {
    /// `warn[D204] dropout2: what was seen there`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let layer = if self.layer.is_empty() { "(network)" } else { &self.layer };
        write!(f, "{}[{}] {layer}: {}", self.severity, self.code, self.reason)
    }
}

impl fmt::Display for Report {
    /// Two lines per finding, the second with its mend, and a line that counts them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in &self.findings {
            writeln!(f, "{finding}\n  mend: {}", finding.code.rule().mend)?;
        }
        let [denied, warnings, notes] =
            [Severity::Deny, Severity::Warn, Severity::Note].map(|severity| self.count(severity));
        let plural = |count: usize, one: &str| match count {
            1 => format!("1 {one}"),
            _ => format!("{count} {one}s"),
        };
        write!(f, "{denied} denied, {}, {}", plural(warnings, "warning"), plural(notes, "note"))
    }
}
