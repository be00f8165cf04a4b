// SPDX-License-Identifier: MIT OR Apache-2.0
//! Finding mistakes with dropout before anything is trained.
//!
//! [`check`] looks at the graph that a network was traced into, and knows 24 mistakes by their
//! [`Code`]: each has a severity that depends on the place, a reason, a mend and the source of its rule.
//! What is common practice in some networks is a note there, never a warning. [`Net::lint`](crate::Net::lint)
//! and `kiln lint` call it.
//!
//! ```
//! use kiln::lint::Code;
//! use kiln::nn::{Dropout, Linear, Module};
//! use kiln::{op::TensorType, Device, Net, Seed, Var};
//!
//! struct Scores { fc: Linear, dropout: Dropout }
//!
//! impl Module for Scores {
//!     fn forward(&self, x: &Var) -> Var {
//!         self.dropout.forward(&self.fc.forward(x))
//!     }
//! }
//!
//! let net = Net::new(Device::cpu(), Seed(7), |p| Scores {
//!     fc: Linear::new(&p.at("fc"), 784, 10),
//!     dropout: Dropout::new(&p.at("dropout"), 0.5),
//! })?;
//! let report = net.lint(&[TensorType::f32([64, 784].into())])?;
//! let finding = &report.findings[0];
//! assert_eq!((finding.code, finding.layer.as_str()), (Code::DropoutOnOutput, "dropout"));
//! # Ok::<(), kiln::Error>(())
//! ```
//!
//! A layer of which one knows better takes part with a scope that [allows](crate::nn::Scope::allow) the
//! code: `Dropout::new(&p.at("dropout").allow(Code::DropoutOnOutput), 0.5)`.

mod activations;
mod case;
mod code;
mod config;
mod levels;
mod network;
mod norms;
mod part;
mod places;
mod rates;
mod report;
mod residual;
mod rule;
mod sequences;
mod sight;

pub use case::{Batches, Case, LastBatch, Use};
pub use code::Code;
pub use levels::{Level, Levels};
pub use report::{Finding, Report, Severity};
pub use rule::Rule;

use crate::graph::Graph;
use crate::Error;
pub(crate) use levels::Remarks;
use report::Findings;
use sight::Sight;

/// What is wrong with a network, as far as its graph shows: `graph` as it was traced, `eval` the same as
/// it runs in eval mode.
pub fn check(graph: &Graph, eval: &Graph, case: &Case) -> Report {
    checked(graph, eval, case, &Remarks::default())
}

/// As [`check`], with what the layers said when they were made.
pub(crate) fn checked(graph: &Graph, eval: &Graph, case: &Case, remarks: &Remarks) -> Report {
    let sight = Sight::new(graph, eval, case);
    let mut findings = Findings::default();
    for rule in Code::ALL.map(Code::rule) {
        findings.begin(rule);
        (rule.check)(&sight, &mut findings);
    }
    let mut found = findings.found;
    found.extend(remarks.found.iter().cloned());
    Report::new(found, remarks, &case.levels)
}

/// What lint makes of a network that cannot be traced, if all that is wrong with it is what lint knows.
pub(crate) fn refused(error: &Error, case: &Case, remarks: &Remarks) -> Option<Report> {
    places::refused(error).map(|found| Report::new(found, remarks, &case.levels))
}
