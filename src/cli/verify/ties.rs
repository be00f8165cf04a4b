// SPDX-License-Identifier: MIT OR Apache-2.0
//! What rounding decides: the slope of a ReLU whose input is nearly 0, and which of two nearly equal elements a pool
//! takes. Neither side is wrong there, so PyTorch's side is computed anew with kiln's decision, and all tensors are
//! held to their limits as everywhere else.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The ties that the script met, and those that it decides otherwise than PyTorch's own rounding would.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Ties {
    /// Elements within 2^-17 of the largest of a tie, to which a gradient comes.
    found: usize,
    /// How many were tried the other way, which the script does at most 64 times.
    tried: usize,
    otherwise: Vec<Tie>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Tie {
    kind: String,
    /// How far it is from a tie, as a share of the largest element.
    share: f64,
    /// Counted from 1, as calls of ReLUs and pools in a step are.
    step: usize,
    call: usize,
    element: usize,
}

impl Ties {
    /// For people: each that is decided otherwise; nothing where there is none.
    pub(super) fn describe(&self) -> Option<String> {
        let are = match self.otherwise.len() {
            0 => return None,
            1 => "is",
            _ => "are",
        };
        let lines = self.otherwise.iter().map(|tie| format!("\n  {tie}"));
        Some(format!(
            "rounding decides at {} elements; {} of them {are} decided as kiln does:{}",
            self.found,
            self.otherwise.len(),
            lines.collect::<String>(),
        ))
    }
}

impl fmt::Display for Tie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Tie { kind, share, step, call, element } = self;
        write!(f, "step {step}, call {call} of ReLUs and pools, a {kind}: ")?;
        write!(f, "element {element}, {share:.1e} of the largest from a tie")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_decision_is_named() {
        assert_eq!(Ties::default().describe(), None);
        let json = r#"{"found": 3, "tried": 2, "otherwise": [
            {"kind": "ReLU", "share": 1.2e-7, "step": 1, "call": 4, "element": 4711}]}"#;
        let ties: Ties = serde_json::from_str(json).expect("ties");
        let lines = [
            "rounding decides at 3 elements; 1 of them is decided as kiln does:",
            "  step 1, call 4 of ReLUs and pools, a ReLU: element 4711, 1.2e-7 of the largest from a tie",
        ];
        assert_eq!(ties.describe(), Some(lines.join("\n")));
    }
}
