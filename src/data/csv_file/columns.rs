// SPDX-License-Identifier: MIT OR Apache-2.0
//! The columns that make the fields of samples, and the numbers in them.

use csv::StringRecord;

use super::{Array, Arrays, Column, CsvFile, Key, Wanted};
use crate::{allocate, Error, Result};

/// What inputs and targets are made of.
pub(super) struct Found {
    /// Names of all columns, if the file has them.
    names: Option<Vec<String>>,
    fields: Vec<Gathered>,
    inputs: usize,
}

/// Why a row is refused.
pub(super) enum Refusal {
    /// What was expected, and what came.
    Content(String, String),
    Memory(Error),
}

/// One field of all samples.
struct Gathered {
    columns: Vec<usize>,
    values: Values,
}

enum Values {
    Floats(Vec<f32>),
    Integers(Vec<i32>),
    Classes { labels: Vec<i32>, classes: usize },
    Named { labels: Vec<i32>, names: Vec<String> },
}

/// What memory is wanted for.
const TABLE: &str = "the numbers of a table";

impl Found {
    /// The columns that a file of this width is asked for.
    ///
    /// # Errors
    /// What was expected and what came, if one is not there or none is left for an input.
    pub(super) fn of(
        file: &CsvFile,
        names: Option<Vec<String>>,
        width: usize,
    ) -> Result<Self, (String, String)> {
        let number = |column: &Column| number(column, names.as_deref(), width);
        let gathered = |wanted: &Wanted| -> Result<Gathered, (String, String)> {
            let (columns, values) = match wanted {
                Wanted::Floats(columns) => (&columns[..], Values::Floats(vec![])),
                Wanted::Integers(columns) => (&columns[..], Values::Integers(vec![])),
                Wanted::Label(column, classes) => (
                    std::slice::from_ref(column),
                    Values::Classes { labels: vec![], classes: *classes },
                ),
                Wanted::NamedLabel(column, names) => (
                    std::slice::from_ref(column),
                    Values::Named { labels: vec![], names: names.clone() },
                ),
            };
            let columns = columns.iter().map(number).collect::<Result<_, _>>()?;
            Ok(Gathered { columns, values })
        };
        let targets: Vec<Gathered> = file.targets.iter().map(gathered).collect::<Result<_, _>>()?;
        let mut fields: Vec<Gathered> = match &file.inputs[..] {
            [] => {
                let is_target = |column: &usize| targets.iter().any(|t| t.columns.contains(column));
                let columns = (0..width).filter(|column| !is_target(column)).collect();
                vec![Gathered { columns, values: Values::Floats(vec![]) }]
            }
            inputs => inputs.iter().map(gathered).collect::<Result<_, _>>()?,
        };
        let inputs = fields.len();
        fields.extend(targets);
        match fields.iter().any(|field| field.columns.is_empty()) {
            true => Err(("a column for each input and target".into(), "none".into())),
            false => Ok(Found { names, fields, inputs }),
        }
    }

    /// Adds a sample.
    pub(super) fn take(&mut self, row: &StringRecord) -> Result<(), Refusal> {
        for field in &mut self.fields {
            field.make_room().map_err(Refusal::Memory)?;
            for &column in &field.columns {
                let text = row.get(column).unwrap_or("");
                if let Err(expected) = field.values.push(text) {
                    let name = match &self.names {
                        Some(names) => names[column].clone(),
                        None => column.to_string(),
                    };
                    let got = if text.is_empty() { "nothing" } else { text };
                    return Err(Refusal::Content(
                        format!("{expected} in column {name}"),
                        got.into(),
                    ));
                }
            }
        }
        Ok(())
    }

    pub(super) fn into_arrays(mut self) -> Result<Arrays> {
        let targets = self.fields.split_off(self.inputs);
        Arrays::new(
            self.fields.into_iter().map(Gathered::into_array),
            targets.into_iter().map(Gathered::into_array),
        )
    }
}

impl Gathered {
    fn make_room(&mut self) -> Result<()> {
        let more = self.columns.len();
        match &mut self.values {
            Values::Floats(values) => reserve(values, more),
            Values::Integers(values)
            | Values::Classes { labels: values, .. }
            | Values::Named { labels: values, .. } => reserve(values, more),
        }
    }

    fn into_array(self) -> Array {
        let shape = [self.columns.len()];
        match self.values {
            Values::Floats(values) => Array::f32(values, &shape),
            Values::Integers(values) => Array::i32(values, &shape),
            Values::Classes { labels, classes } => Array::labels(labels, classes),
            Values::Named { labels, names } => Array::labels(labels, names.len()),
        }
    }
}

impl Values {
    /// Adds a number, or tells what is expected instead.
    fn push(&mut self, text: &str) -> Result<(), String> {
        match self {
            Values::Floats(values) => {
                let number = text.parse().ok().filter(|number: &f32| number.is_finite());
                values.push(number.ok_or("a finite number")?);
            }
            Values::Integers(values) => {
                values.push(text.parse().map_err(|_| "an integer of 32 bits")?);
            }
            Values::Classes { labels, classes } => {
                let label = text.parse().ok().filter(|label: &i32| is_class(*label, *classes));
                labels.push(label.ok_or_else(|| format!("a class of 0..{classes}"))?);
            }
            Values::Named { labels, names } => {
                let label = names.iter().position(|name| name == text);
                labels.push(label.ok_or_else(|| format!("one of {}", names.join(", ")))? as i32);
            }
        }
        Ok(())
    }
}

/// The number of a column.
fn number(
    column: &Column,
    names: Option<&[String]>,
    width: usize,
) -> Result<usize, (String, String)> {
    match (&column.0, names) {
        (Key::Number(number), _) if *number < width => Ok(*number),
        (Key::Number(number), _) => {
            Err((format!("a column {number}, counted from 0"), format!("{width} columns")))
        }
        (Key::Name(name), Some(names)) => {
            let mut places = names.iter().enumerate().filter(|(_, other)| *other == name);
            match (places.next(), places.next()) {
                (Some((place, _)), None) => Ok(place),
                (Some(_), Some(_)) => Err((format!("one column {name}"), "several".into())),
                (None, _) => Err((format!("a column {name}"), names.join(", "))),
            }
        }
        (Key::Name(name), None) => {
            Err((format!("a number for column {name}"), "a file without names".into()))
        }
    }
}

fn is_class(label: i32, classes: usize) -> bool {
    usize::try_from(label).is_ok_and(|label| label < classes)
}

fn reserve<T>(values: &mut Vec<T>, more: usize) -> Result<()> {
    let count = values.len().saturating_add(more);
    values.try_reserve(more).map_err(|_| allocate::refused::<T>(count, TABLE))
}
