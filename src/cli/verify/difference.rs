// SPDX-License-Identifier: MIT OR Apache-2.0
//! How far tensors of kiln are from those of PyTorch.

use std::collections::BTreeMap;

use kiln::Result;
use serde::Serialize;

use super::files::{values, Found, Named};

/// Largest difference after one step, as a share of the largest element.
const LIMIT: f64 = 1e-5;
/// After several.
const LIMIT_OF_SEVERAL: f64 = 1e-4;
/// Of initial values, which are drawn and not computed.
const LIMIT_OF_DRAWS: f64 = 1e-6;

/// A gradient this much smaller than the largest of all is 0 but for rounding, as that of a bias before a batch
/// norm is: it is measured by the largest of all.
pub(super) const ROUNDING: f64 = 1e-6;

/// What a tensor is of a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// A parameter as it was drawn.
    Initial,
    /// Loss and scores of the first step.
    Forward,
    /// A gradient of the first step.
    Gradient,
    /// Parameters and state after so many steps, and the losses of all of them.
    After(usize),
}

/// How far a tensor is from PyTorch's.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Difference {
    pub(super) stage: String,
    pub(super) tensor: String,
    pub(super) elements: usize,
    /// PyTorch's largest element.
    pub(super) largest: f64,
    /// The largest difference of an element, as a share of the largest element.
    pub(super) difference: f64,
    /// That of PyTorch in f32, where it was compared with more digits.
    pub(super) pytorch_f32: Option<f64>,
    pub(super) limit: f64,
    pub(super) within: bool,
}

impl Stage {
    /// What names of this stage begin with.
    pub(super) fn prefix(self) -> String {
        match self {
            Stage::Initial => "initial.".into(),
            Stage::Forward => "forward.".into(),
            Stage::Gradient => "gradient.".into(),
            Stage::After(steps) => format!("step{steps}."),
        }
    }

    /// Of differences, as shares of the largest element.
    pub(super) fn limit(self) -> f64 {
        match self {
            Stage::Initial => LIMIT_OF_DRAWS,
            Stage::Forward | Stage::Gradient | Stage::After(1) => LIMIT,
            Stage::After(_) => LIMIT_OF_SEVERAL,
        }
    }

    fn describe(self) -> String {
        match self {
            Stage::Initial => "initial".into(),
            Stage::Forward => "forward".into(),
            Stage::Gradient => "gradient".into(),
            Stage::After(1) => "after 1 step".into(),
            Stage::After(steps) => format!("after {steps} steps"),
        }
    }
}

/// Compares all tensors of a stage with those that Python found, or says what it found in the place of one.
pub(super) fn compare(
    stage: Stage,
    ours: &Named,
    theirs: &BTreeMap<String, Found>,
) -> Result<std::result::Result<Vec<Difference>, String>> {
    let of_stage = stage.prefix();
    let mut pairs = Vec::new();
    for (name, tensor) in ours {
        let Some(bare) = name.strip_prefix(&of_stage) else { continue };
        let Some(found) = theirs.get(name) else {
            return Ok(Err(format!("left out {name}")));
        };
        if found.dims != tensor.shape().dims() {
            let (found, own) = (&found.dims, tensor.shape());
            return Ok(Err(format!("left {name} of shape {found:?} where kiln has {own}")));
        }
        let beside = |what: &str| theirs.get(&format!("{what}.{name}"));
        let beside = [beside("f32"), beside("exact")];
        pairs.push((bare, values(tensor)?, found, beside));
    }
    let largest = |values: &[f64]| values.iter().fold(0.0, |most: f64, x| most.max(x.abs()));
    let of_all = pairs.iter().map(|(_, _, found, _)| largest(&found.values)).fold(0.0, f64::max);
    let rounding = if stage == Stage::Gradient { ROUNDING * of_all } else { 0.0 };
    let differences = pairs.into_iter().map(|(tensor, own, found, [in_f32, exact])| {
        let own_largest = largest(&found.values);
        let without_rounding = exact.map_or(own_largest, |exact| largest(&exact.values));
        let measure = if without_rounding <= rounding { of_all } else { own_largest };
        let difference = apart(&own, &found.values, measure);
        let limit = stage.limit();
        Difference {
            stage: stage.describe(),
            tensor: tensor.into(),
            elements: own.len(),
            largest: own_largest,
            difference,
            pytorch_f32: in_f32.map(|other| apart(&other.values, &found.values, measure)),
            limit,
            within: difference <= limit,
        }
    });
    Ok(Ok(differences.collect()))
}

/// The largest difference as a share of a measure; infinite where something is not finite on one side.
fn apart(ours: &[f64], theirs: &[f64], measure: f64) -> f64 {
    let mut most: f64 = 0.0;
    for (a, b) in ours.iter().zip(theirs) {
        let difference = (a - b).abs();
        match difference.is_finite() {
            true => most = most.max(difference),
            false => return f64::INFINITY,
        }
    }
    match most {
        0.0 => 0.0,
        most => most / measure,
    }
}

/// The differences as a table.
pub(super) fn table(differences: &[Difference]) -> String {
    let headings = ["", "tensor", "largest", "kiln", "PyTorch f32", "limit", ""];
    let mut rows = vec![headings.map(String::from)];
    let mut last = "";
    for row in differences {
        let stage: &str = if last == row.stage { "" } else { &row.stage };
        last = &row.stage;
        let share = |share: f64| format!("{share:.1e}");
        rows.push([
            stage.into(),
            row.tensor.clone(),
            format!("{:.2e}", row.largest),
            share(row.difference),
            row.pytorch_f32.map(share).unwrap_or_default(),
            format!("{:.0e}", row.limit),
            if row.within { "" } else { "BEYOND" }.into(),
        ]);
    }
    if differences.iter().all(|row| row.pytorch_f32.is_none()) {
        rows[0][4].clear();
    }
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: Vec<usize> = (0..headings.len()).map(|column| width(column).unwrap_or(0)).collect();
    let mut lines = Vec::new();
    for row in &rows {
        let mut line = String::new();
        for (column, (cell, &width)) in
            row.iter().zip(&widths).enumerate().filter(|(_, (_, w))| **w > 0)
        {
            line += &match column {
                0 | 1 => format!("{cell:<width$}  "),
                _ => format!("{cell:>width$}  "),
            };
        }
        lines.push(line.trim_end().to_owned());
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use kiln::Tensor;

    use super::*;

    fn ours(tensors: &[(&str, &[f32])]) -> Named {
        let tensor = |values: &[f32]| Tensor::new([values.len()], values.to_vec()).expect("a row");
        tensors.iter().map(|(name, values)| (name.to_string(), tensor(values))).collect()
    }

    fn theirs(tensors: &[(&str, &[f64])]) -> BTreeMap<String, Found> {
        let found = |values: &[f64]| Found { dims: vec![values.len()], values: values.to_vec() };
        tensors.iter().map(|(name, values)| (name.to_string(), found(values))).collect()
    }

    fn shares(stage: Stage, a: &Named, b: &BTreeMap<String, Found>) -> Vec<(f64, bool)> {
        let found = compare(stage, a, b).expect("numbers").expect("all of them");
        found.iter().map(|row| (row.difference, row.within)).collect()
    }

    #[test]
    fn differences_are_shares_of_the_largest_element() {
        let a = ours(&[("forward.scores", &[1.0, -4.0, 0.5]), ("step1.x", &[1.0])]);
        let b = theirs(&[
            ("forward.scores", &[1.0, -4.0, 0.5 + 3e-5]),
            ("f32.forward.scores", &[1.0, -4.0 - 4e-5, 0.5]),
        ]);
        let found = compare(Stage::Forward, &a, &b).unwrap().unwrap();
        assert_eq!(found.len(), 1, "of this stage alone");
        assert!((found[0].difference - 7.5e-6).abs() < 1e-12 && found[0].within);
        assert!((found[0].pytorch_f32.unwrap() - 1e-5).abs() < 1e-12);

        let beyond = theirs(&[("forward.scores", &[1.0, -4.0, 0.5 + 5e-5])]);
        assert!(!compare(Stage::Forward, &a, &beyond).unwrap().unwrap()[0].within);
    }

    /// Ties are decided before tensors are compared, and nothing widens a limit.
    #[test]
    fn nothing_that_python_says_of_rounding_excuses_a_difference() {
        let a = ours(&[("gradient.x", &[1.0, 0.5])]);
        let b = theirs(&[("gradient.x", &[1.0, 0.5 + 1e-3]), ("undecided.gradient.x", &[0.5])]);
        assert!(!shares(Stage::Gradient, &a, &b)[0].1);
    }

    #[test]
    fn later_steps_may_differ_more() {
        for (steps, within) in [(1, false), (20, true)] {
            let name = format!("step{steps}.x");
            let (a, b) = (ours(&[(&name, &[1.0])]), theirs(&[(&name, &[1.0 + 5e-5])]));
            assert_eq!(shares(Stage::After(steps), &a, &b)[0].1, within);
        }
    }

    #[test]
    fn a_gradient_of_rounding_is_measured_by_the_others() {
        let a = ours(&[("gradient.a", &[0.5]), ("gradient.b", &[2e-9]), ("gradient.c", &[0.0])]);
        let b =
            theirs(&[("gradient.a", &[0.5]), ("gradient.b", &[-1e-17]), ("gradient.c", &[0.0])]);
        let found = shares(Stage::Gradient, &a, &b);
        assert!(found.iter().all(|(_, within)| *within), "{found:?}");
        // PyTorch's may be rounding too, which shows beside more digits.
        let in_f32 = [("gradient.a", &[0.5][..]), ("gradient.b", &[1e-6]), ("gradient.c", &[0.0])];
        let exact = [("exact.gradient.b", &[1e-17][..])];
        let found = shares(Stage::Gradient, &a, &theirs(&[&in_f32[..], &exact].concat()));
        assert!(found.iter().all(|(_, within)| *within), "{found:?}");
        // But not that of one which is merely small.
        let b = theirs(&[("gradient.a", &[0.5]), ("gradient.b", &[1e-6]), ("gradient.c", &[0.0])]);
        assert!(!shares(Stage::Gradient, &a, &b)[1].1);
    }

    #[test]
    fn what_is_not_finite_or_not_there_is_no_agreement() {
        let a = ours(&[("forward.x", &[1.0, f32::NAN])]);
        let b = theirs(&[("forward.x", &[1.0, f64::NAN])]);
        assert_eq!(shares(Stage::Forward, &a, &b), [(f64::INFINITY, false)]);

        let a = ours(&[("forward.x", &[1.0, 2.0])]);
        for (b, expected) in [
            (theirs(&[("forward.y", &[1.0, 2.0])]), "left out forward.x"),
            (theirs(&[("forward.x", &[1.0])]), "left forward.x of shape [1] where kiln has [2]"),
        ] {
            assert_eq!(compare(Stage::Forward, &a, &b).unwrap().unwrap_err(), expected);
        }
    }

    #[test]
    fn a_table_names_each_stage_once() {
        let row = |stage: &str, tensor: &str, within| Difference {
            stage: stage.into(),
            tensor: tensor.into(),
            elements: 2,
            largest: 0.5,
            difference: 3.21e-6,
            pytorch_f32: None,
            limit: 1e-5,
            within,
        };
        let rows = [row("forward", "loss", true), row("forward", "scores", false)];
        let lines = [
            "         tensor  largest    kiln  limit",
            "forward  loss    5.00e-1  3.2e-6   1e-5",
            "         scores  5.00e-1  3.2e-6   1e-5  BEYOND",
        ];
        assert_eq!(table(&rows), lines.join("\n"));
    }
}
