// SPDX-License-Identifier: MIT OR Apache-2.0
//! What was launched, what was compared, and how far from the reference results were.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;

use crate::float::{Storage, F32_ROUNDING};

/// What an element of a result should be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Want {
    pub(crate) value: f64,
    /// Size of what was added up or cancelled on the way: errors of f32 are relative to it.
    pub(crate) magnitude: f64,
}

impl Want {
    /// A number that does not come from larger ones.
    pub(crate) fn plain(value: f64) -> Self {
        Want { value, magnitude: value.abs() }
    }
}

/// How exact a result must be: half a unit of the last place of its storage type, and this many
/// roundings of f32 on the way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Exactness {
    pub(crate) storage: Storage,
    pub(crate) roundings: f64,
}

impl Exactness {
    pub(crate) fn new(storage: Storage, roundings: f64) -> Self {
        Exactness { storage, roundings }
    }

    /// Largest error that is no mistake.
    pub(crate) fn tolerance(&self, want: &Want) -> f64 {
        let stored = self.storage.rounding() * want.value.abs() + self.storage.underflow();
        // A hair for the reference's own rounding.
        1.0001 * stored + self.roundings * F32_ROUNDING * want.magnitude
    }
}

/// Kernels that were launched and compared, and the worst error of each family.
#[derive(Debug)]
pub(crate) struct Ledger {
    names: BTreeSet<String>,
    launched: BTreeSet<String>,
    compared: BTreeSet<String>,
    worst: BTreeMap<String, f64>,
    numbers: usize,
}

impl Ledger {
    pub(crate) fn new(names: Vec<String>) -> Self {
        let (launched, compared) = Default::default();
        Ledger {
            names: names.into_iter().collect(),
            launched,
            compared,
            worst: BTreeMap::new(),
            numbers: 0,
        }
    }

    pub(crate) fn launched(&mut self, kernel: &str) {
        self.launched.insert(kernel.into());
    }

    /// Compares what a kernel computed with what it should have.
    pub(crate) fn compare(
        &mut self,
        kernel: &str,
        case: &str,
        got: &[f64],
        want: &[Want],
        exactness: Exactness,
    ) {
        assert!(self.launched.contains(kernel), "{kernel} was not launched");
        assert_eq!(got.len(), want.len(), "{kernel} {case}");
        assert!(!got.is_empty(), "{kernel} {case}: nothing to compare");
        let mut worst = 0f64;
        for (index, (&got, want)) in got.iter().zip(want).enumerate() {
            let share = share_of_tolerance(got, want, &exactness);
            assert!(share <= 1.0, "{kernel} {case} [{index}]: {got:e}, should be {want:?}: {share:.3} of the tolerance");
            worst = worst.max(share);
        }
        self.compared.insert(kernel.into());
        self.numbers += got.len();
        let entry = self.worst.entry(family(kernel)).or_default();
        *entry = entry.max(worst);
    }

    /// Compares what admits no error.
    pub(crate) fn compare_bytes(&mut self, kernel: &str, case: &str, got: &[u8], want: &[u8]) {
        assert!(self.launched.contains(kernel), "{kernel} was not launched");
        assert!(!got.is_empty() && got == want, "{kernel} {case}: not the same bytes");
        self.compared.insert(kernel.into());
        self.numbers += got.len();
        self.worst.entry(family(kernel)).or_default();
    }

    /// Fails if a kernel was left out; else prints what was found.
    pub(crate) fn finish(&self, by: &str) {
        let left_out: Vec<_> = self.names.difference(&self.compared).collect();
        assert!(left_out.is_empty(), "no test launches {left_out:?}");
        assert_eq!(self.launched, self.names);
        self.tell(by);
    }

    /// Prints what was found, past the capture of output; fails if that is nothing.
    pub(crate) fn tell(&self, by: &str) {
        assert!(!self.compared.is_empty(), "nothing was compared");
        let worst = self.worst.values().fold(0f64, |worst, &share| worst.max(share));
        let mut text = String::new();
        for (family, share) in &self.worst {
            text += &format!("  {family}: worst {:.1} % of the tolerance\n", 100.0 * share);
        }
        text += &format!(
            "kernels: {} of {} launched, worst {:.1} % of the tolerance ({by}, {} numbers)\n",
            self.compared.len(),
            self.names.len(),
            100.0 * worst,
            self.numbers,
        );
        std::io::stderr().write_all(text.as_bytes()).expect("stderr");
    }
}

/// 0 for the very number, 1 for the largest error that is no mistake.
fn share_of_tolerance(got: f64, want: &Want, exactness: &Exactness) -> f64 {
    match (got.is_nan(), want.value.is_nan()) {
        (true, true) => 0.0,
        (true, false) | (false, true) => f64::INFINITY,
        (false, false) if got == want.value => 0.0,
        (false, false) => (got - want.value).abs() / exactness.tolerance(want),
    }
}

/// A kernel's name without type and tile.
fn family(kernel: &str) -> String {
    let is_type = |word: &&str| ["f32", "bf16", "f16", "tf32"].contains(word);
    let words: Vec<&str> = kernel.split('_').take_while(|word| !is_type(word)).collect();
    words.join("_")
}
