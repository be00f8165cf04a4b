// SPDX-License-Identifier: MIT OR Apache-2.0
//! The memory of a batch: strips of it that threads fill, and the tensors made of them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;

use rayon::prelude::*;

use crate::backend::cuda::{Depot, Lent};
use crate::data::sample::{Part, Room, Rows};
use crate::data::{Dataset, Elements, Field, Fields, Pass, Sample, Varying};
use crate::{allocate, Error, Result, Tensor};

/// Elements that are worth handing to another core: 64 KiB take about 10 µs to copy, a rayon task
/// about 1.
const ELEMENTS_PER_TASK: usize = 16 << 10;

/// Elements from which on it is worth it to spare a copy of 64 KiB.
const LEAST_LENT: usize = 16 << 10;

/// What memory is wanted for.
pub(super) const BATCH: &str = "a batch";

/// Inputs and targets of a batch.
pub(super) type Collated = (Vec<Tensor>, Vec<Tensor>);

/// Reads samples into tensors whose first extent counts them, in memory that a device lends where it is worth it.
///
/// # Errors
/// That of the first sample that fails; [`Error::Internal`] if it was stopped.
pub(super) fn collate(
    dataset: &dyn Dataset,
    fields: &Fields,
    indices: &[usize],
    pass: Pass,
    stop: &AtomicBool,
    lender: Option<&Depot>,
) -> Result<Collated> {
    let columns = fields.all().map(|field| Column::new(field, indices.len(), lender));
    let mut columns: Vec<Column> = columns.collect::<Result<_>>()?;
    let each = fields.fixed_elements().max(1);
    let mut strips = strips(&mut columns, fields, indices, ELEMENTS_PER_TASK.div_ceil(each));
    let read = |(sample, indices): &mut (Sample<'_>, &[usize])| {
        read(dataset, sample, indices, pass, stop).err()
    };
    let failed = match &mut strips[..] {
        [only] => read(only),
        several => several.par_iter_mut().find_map_first(read),
    };
    if let Some(error) = failed {
        return Err(error);
    }
    if stop.load(Ordering::Relaxed) {
        return Err(Error::Internal { pass: "loader", message: "stopped within a batch".into() });
    }
    // The rows of samples that vary lie in the strips.
    let mut varying: Vec<Vec<Gathered>> = fields.all().map(|_| vec![]).collect();
    for (sample, _) in strips {
        for (gathered, part) in varying.iter_mut().zip(sample.into_parts()) {
            match part {
                Part::F32(Room::Varying(rows)) => gathered.push(Gathered::F32(rows)),
                Part::I32(Room::Varying(rows)) => gathered.push(Gathered::I32(rows)),
                _ => {}
            }
        }
    }
    let mut tensors = Vec::with_capacity(columns.len());
    for ((column, field), gathered) in columns.into_iter().zip(fields.all()).zip(varying) {
        tensors.push(column.into_tensor(field, indices.len(), gathered)?);
    }
    let targets = tensors.split_off(fields.inputs.len());
    Ok((tensors, targets))
}

/// Samples of one field that does not vary; empty for one that does.
enum Column {
    F32(Vec<f32>),
    Lent(Lent),
    I32(Vec<i32>),
}

/// Samples of one field that varies, of one strip.
enum Gathered {
    F32(Rows<f32>),
    I32(Rows<i32>),
}

impl Column {
    fn new(field: &Field, samples: usize, lender: Option<&Depot>) -> Result<Self> {
        let elements = match field.varying {
            None => field.count().saturating_mul(samples),
            Some(_) => 0,
        };
        // Such memory is scarce, and none is needed.
        let lent = lender.filter(|_| elements >= LEAST_LENT).and_then(|of| of.lend(elements).ok());
        match field.elements {
            Elements::F32 if lent.is_some() => Ok(lent.map_or(Column::F32(vec![]), Column::Lent)),
            Elements::F32 => Ok(Column::F32(allocate::zeros(elements, BATCH)?)),
            _ => Ok(Column::I32(allocate::zeros(elements, BATCH)?)),
        }
    }

    fn into_tensor(self, field: &Field, samples: usize, of: Vec<Gathered>) -> Result<Tensor> {
        let mut dims = vec![samples];
        dims.extend_from_slice(&field.shape);
        let Some(varying) = field.varying else {
            return match self {
                Column::F32(values) => Tensor::new(dims, values),
                Column::Lent(values) => Ok(Tensor::from_elsewhere(dims, Arc::new(values))),
                Column::I32(values) => Tensor::labels(dims, values),
            };
        };
        match self {
            Column::F32(_) | Column::Lent(_) => {
                let rows = of.into_iter().filter_map(|of| match of {
                    Gathered::F32(rows) => Some(rows),
                    Gathered::I32(_) => None,
                });
                let rows: Vec<Rows<f32>> = rows.collect();
                dims[1] = extent(&rows, field.shape[0], varying);
                let padded = padded(&rows, dims[1], field.row(), varying.padding as f32)?;
                Tensor::new(dims, padded)
            }
            Column::I32(_) => {
                let rows = of.into_iter().filter_map(|of| match of {
                    Gathered::I32(rows) => Some(rows),
                    Gathered::F32(_) => None,
                });
                let rows: Vec<Rows<i32>> = rows.collect();
                dims[1] = extent(&rows, field.shape[0], varying);
                let padded = padded(&rows, dims[1], field.row(), varying.padding as i32)?;
                Tensor::labels(dims, padded)
            }
        }
    }
}

/// The first extent that all samples are padded to; 1 if all are empty.
fn extent<T>(rows: &[Rows<T>], most: usize, varying: Varying) -> usize {
    let longest = rows.iter().flat_map(|rows| &rows.lengths).copied().max().unwrap_or(0).max(1);
    longest.checked_next_multiple_of(varying.step).map_or(most, |extent| extent.min(most))
}

fn padded<T: Copy>(rows: &[Rows<T>], extent: usize, row: usize, padding: T) -> Result<Vec<T>> {
    let samples: usize = rows.iter().map(|rows| rows.lengths.len()).sum();
    let each = extent.saturating_mul(row);
    let mut all = allocate::room(samples.saturating_mul(each), BATCH)?;
    for rows in rows {
        let mut rest = &rows.values[..];
        for length in &rows.lengths {
            let (sample, behind) = rest.split_at(length * row);
            let end = all.len() + each;
            all.extend_from_slice(sample);
            all.resize(end, padding);
            rest = behind;
        }
    }
    Ok(all)
}

/// The samples of a batch in strips of so many, in order.
fn strips<'a>(
    columns: &'a mut [Column],
    fields: &'a Fields,
    indices: &'a [usize],
    samples: usize,
) -> Vec<(Sample<'a>, &'a [usize])> {
    let mut rests: Vec<(&Field, Rest<'a>)> =
        fields.all().zip(columns.iter_mut().map(Rest::of)).collect();
    let strip = |indices: &'a [usize]| {
        let parts = rests.iter_mut().map(|(field, rest)| rest.take(field, indices.len()));
        (Sample::new(fields, parts.collect()), indices)
    };
    indices.chunks(samples.max(1)).map(strip).collect()
}

/// What of a column is not handed out yet.
enum Rest<'a> {
    F32(&'a mut [f32]),
    I32(&'a mut [i32]),
}

impl<'a> Rest<'a> {
    fn of(column: &'a mut Column) -> Self {
        match column {
            Column::F32(values) => Rest::F32(values),
            Column::Lent(values) => Rest::F32(values.values_mut()),
            Column::I32(values) => Rest::I32(values),
        }
    }

    fn take(&mut self, field: &Field, samples: usize) -> Part<'a> {
        let elements = if field.varying.is_some() { 0 } else { samples * field.count() };
        match self {
            Rest::F32(rest) => Part::F32(Room::new(field, front(rest, elements))),
            Rest::I32(rest) => Part::I32(Room::new(field, front(rest, elements))),
        }
    }
}

fn front<'a, T>(rest: &mut &'a mut [T], elements: usize) -> &'a mut [T] {
    let (front, behind) = std::mem::take(rest).split_at_mut(elements);
    *rest = behind;
    front
}

/// Reads the samples of a strip, unless it is to stop.
fn read(
    dataset: &dyn Dataset,
    sample: &mut Sample<'_>,
    indices: &[usize],
    pass: Pass,
    stop: &AtomicBool,
) -> Result<()> {
    for (place, &index) in indices.iter().enumerate() {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        sample.begin(place);
        dataset.read(index, pass, sample)?;
        sample.finish(index)?;
    }
    Ok(())
}
