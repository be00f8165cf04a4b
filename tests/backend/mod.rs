// SPDX-License-Identifier: MIT OR Apache-2.0
//! What holds on every backend.

mod broadcast;
mod chains;
mod channels;
mod elements;
mod empty;
mod fusion;
mod groups;
mod laws;
mod losses;
mod monte_carlo;
mod recurrent_options;
mod reductions;
mod steps;

use rayon::prelude::*;

use crate::common::summary;
use crate::common::targets::{targets, Target};
use crate::common::zoo::{layers, losses as all_losses, Layer};

/// A statement about one case on one backend: the share of its tolerance that was used, `None`
/// where it says nothing about the case, or what is wrong.
type Verdict = Result<Option<f64>, String>;

/// Tries every law on every layer or loss on every backend, and names all that fail. Layers are tried
/// side by side.
#[test]
fn every_law_holds() {
    let mut ledger = Ledger::default();
    for target in targets() {
        let of_layer = |layer: &Layer| -> Vec<(&'static str, Verdict)> {
            let laws = laws::LAWS.iter().chain(steps::LAWS);
            laws.map(|(name, law)| (*name, law(layer, &target))).collect()
        };
        let layers = layers();
        let verdicts: Vec<_> = layers.par_iter().map(of_layer).collect();
        for (layer, verdicts) in layers.iter().zip(verdicts) {
            for (name, verdict) in verdicts {
                ledger.enter(name, &layer.label(), &target, verdict);
            }
        }
        for loss in all_losses() {
            for (name, law) in losses::LAWS {
                ledger.enter(name, &loss.label(), &target, law(&loss, &target));
            }
        }
    }
    ledger.close();
}

#[derive(Default)]
struct Ledger {
    rows: Vec<Row>,
    failures: Vec<String>,
}

struct Row {
    name: &'static str,
    cases: usize,
    worst: f64,
    worst_case: String,
}

impl Ledger {
    fn enter(&mut self, name: &'static str, case: &str, target: &Target, verdict: Verdict) {
        let index = self.rows.iter().position(|row| row.name == name).unwrap_or_else(|| {
            self.rows.push(Row { name, cases: 0, worst: 0.0, worst_case: String::new() });
            self.rows.len() - 1
        });
        let row = &mut self.rows[index];
        match verdict {
            Ok(None) => {}
            Ok(Some(share)) => {
                row.cases += 1;
                if share > row.worst {
                    (row.worst, row.worst_case) = (share, case.into());
                }
            }
            Err(message) => {
                let target = &target.name;
                self.failures.push(format!("{name}: {case} on {target}: {message}"));
            }
        }
    }

    fn close(self) {
        let mut total = 0;
        for Row { name, cases, worst, worst_case } in self.rows {
            assert!(cases > 0, "no case for the law `{name}`");
            let worst = worst * 100.0;
            summary(&format!("  {name}: {cases} cases, worst {worst:.0} % ({worst_case})"));
            total += cases;
        }
        summary(&format!("laws: {total}"));
        let failures = self.failures;
        assert!(failures.is_empty(), "{} failed:\n{}", failures.len(), failures.join("\n"));
    }
}
