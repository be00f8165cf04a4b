// SPDX-License-Identifier: MIT OR Apache-2.0
//! Networks with one mistake each that lint must find, by code.

mod activations;
mod network;
mod norms;
mod places;
mod rates;
mod sequences;

use kiln::lint::{Code, Report, Severity};

/// A network with a mistake.
pub(crate) struct Mutant {
    pub(crate) code: Code,
    /// How bad it is in this place.
    pub(crate) severity: Severity,
    pub(crate) name: &'static str,
    pub(crate) look: Box<dyn Fn() -> Report>,
}

/// All of them.
pub(crate) fn mutants() -> Vec<Mutant> {
    let mut mutants = rates::mutants();
    mutants.extend(places::mutants());
    mutants.extend(norms::mutants());
    mutants.extend(activations::mutants());
    mutants.extend(sequences::mutants());
    mutants.extend(network::mutants());
    mutants
}

fn mutant(
    code: Code,
    severity: Severity,
    name: &'static str,
    look: impl Fn() -> Report + 'static,
) -> Mutant {
    Mutant { code, severity, name, look: Box::new(look) }
}
