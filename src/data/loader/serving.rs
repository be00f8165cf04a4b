// SPDX-License-Identifier: MIT OR Apache-2.0
//! How batches reach the device that takes them: samples that lie there already, of which numbers go up, or
//! memory from which the device copies by itself.

use std::fmt;
use std::sync::Arc;

use super::batch::Batch;
use super::collate::Collated;
use super::config::OnDevice;
use super::prepare::Plan;
use crate::backend::cuda::{Depot, Packing, Pushed, Reader, Table, TableBuilder, TableShape};
use crate::data::{Elements, Field, Pass};
use crate::{allocate, grouped, Device, Error, Result, Tensor};

/// Where the samples of a loader lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Residence {
    /// On the host.
    Host {
        /// Why they do.
        why: String,
    },
    /// On the device.
    Device {
        /// Bytes that they take there.
        bytes: usize,
    },
}

impl fmt::Display for Residence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Residence::Host { why } => write!(f, "on the host: {why}"),
            Residence::Device { bytes } => write!(f, "on the device, {} bytes", grouped(*bytes)),
        }
    }
}

/// How batches are made for a device.
#[derive(Clone)]
pub(super) struct Serving {
    /// For which.
    pub(super) device: Option<Device>,
    pub(super) residence: Residence,
    pub(super) way: Way,
}

/// How batches are made.
#[derive(Clone)]
pub(super) enum Way {
    /// Samples are read into the host's memory.
    Read,
    /// They are read into memory from which a device copies by itself.
    ReadTo(Depot),
    /// They were read.
    Kept(Arc<Vec<Column>>),
}

/// A field of all samples.
pub(super) enum Column {
    /// On a device.
    Table(Arc<Table>),
    /// What is no larger than a few numbers, and integers, which the host looks at: they go up as they are.
    F32(Vec<f32>),
    I32(Vec<i32>),
}

/// Elements of a sample from which on a field is worth a table.
const LEAST: usize = 16;

impl Default for Serving {
    fn default() -> Self {
        let residence = Residence::Host { why: "no device was told".into() };
        Serving { device: None, residence, way: Way::Read }
    }
}

impl Serving {
    /// How batches of a plan are made for a device.
    ///
    /// # Errors
    /// Those of the device; if samples are to lie there in any case, also [`Error::Argument`] if they cannot,
    /// and what the data set reports.
    pub(super) fn of(plan: &Plan, device: &Device) -> Result<Self> {
        let on_host = |why: String, way| {
            let residence = Residence::Host { why };
            Serving { device: Some(device.clone()), residence, way }
        };
        let Some(depot) = device.depot()? else {
            return Ok(on_host(format!("that is where {device} reads them"), Way::Read));
        };
        match (kept(plan, &depot), plan.config.on_device) {
            (Ok((columns, bytes)), _) => {
                let (residence, way) = (Residence::Device { bytes }, Way::Kept(columns.into()));
                Ok(Serving { device: Some(device.clone()), residence, way })
            }
            (Err(Refusal::Error(error)), OnDevice::Always) => Err(error),
            (Err(Refusal::Why(why)), OnDevice::Always) => {
                Err(Error::argument("on_device", "samples that can lie on a device", why))
            }
            (Err(Refusal::Error(error)), _) => Ok(on_host(error.to_string(), Way::ReadTo(depot))),
            (Err(Refusal::Why(why)), _) => Ok(on_host(why, Way::ReadTo(depot))),
        }
    }
}

/// Why samples cannot lie on a device.
enum Refusal {
    Why(String),
    Error(Error),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Refusal::Error(error)
    }
}

/// Brings all samples to a device, and tells the bytes that they take there.
fn kept(plan: &Plan, depot: &Depot) -> Result<(Vec<Column>, usize), Refusal> {
    let why = |why: &str| Err(Refusal::Why(why.into()));
    let (fields, samples) = (&plan.fields, plan.len);
    match plan.config.on_device {
        OnDevice::Never => return why("the loader is told to leave them there"),
        OnDevice::Auto | OnDevice::Always => {}
    }
    if !plan.dataset.is_fixed() {
        return why("they may be others in each epoch, as augmented ones are");
    }
    if fields.all().any(|field| field.varying.is_some()) {
        return why("they differ in length");
    }
    if i32::try_from(samples).is_err() {
        return why("there are more than 2^31");
    }
    let shapes = || fields.all().map(|field| table_shape(field, samples));
    if shapes().all(|shape| shape.is_none()) {
        return why("they are so small that they go up as they are");
    }
    let room = match plan.config.on_device {
        OnDevice::Always => usize::MAX,
        OnDevice::Auto | OnDevice::Never => depot.room_for_samples()?,
    };
    let mut packings: Vec<Packing> =
        shapes().map(|shape| shape.map_or(Packing::Words, TableShape::packing)).collect();
    loop {
        let sizes =
            shapes().zip(&packings).map(|(shape, packing)| shape.map_or(0, |s| s.bytes(*packing)));
        let bytes = sizes.fold(0, usize::saturating_add);
        if bytes > room {
            let (bytes, room) = (grouped(bytes), grouped(room));
            return why(&format!("{bytes} bytes are more than {room}, a quarter of what is free"));
        }
        match read_all(plan, depot, &packings)? {
            Ok(columns) => return Ok((columns, bytes)),
            Err(field) => packings[field] = Packing::Words,
        }
    }
}

/// The table that a field is worth.
fn table_shape(field: &Field, rows: usize) -> Option<TableShape> {
    let elements = field.count();
    if field.elements != Elements::F32 || elements < LEAST {
        return None;
    }
    // A lone extent is one of elements.
    let channels = if field.shape.len() > 1 { field.shape[0] } else { 1 };
    Some(TableShape { rows, channels, plane: elements / channels })
}

/// A field that is being read.
enum Builder {
    Table(TableBuilder),
    F32(Vec<f32>),
    I32(Vec<i32>),
}

/// Reads all samples; the inner error is the field that needs another packing.
fn read_all(
    plan: &Plan,
    depot: &Depot,
    packings: &[Packing],
) -> Result<Result<Vec<Column>, usize>> {
    const ALL: &str = "all samples";
    let mut builders = Vec::with_capacity(packings.len());
    for (field, packing) in plan.fields.all().zip(packings) {
        let elements = field.count().saturating_mul(plan.len);
        builders.push(match (table_shape(field, plan.len), field.elements) {
            (Some(shape), _) => Builder::Table(TableBuilder::new(depot, shape, *packing)?),
            (None, Elements::F32) => Builder::F32(allocate::room(elements, ALL)?),
            (None, _) => Builder::I32(allocate::room(elements, ALL)?),
        });
    }
    for batch in Batch::read_in_turn(&*plan.dataset, Pass::default()) {
        let batch = batch?;
        let tensors = batch.inputs.iter().chain(&batch.targets);
        for (place, (tensor, builder)) in tensors.zip(&mut builders).enumerate() {
            match builder {
                Builder::Table(table) => {
                    if table.push(tensor.values()?)? == Pushed::TooManyColours {
                        return Ok(Err(place));
                    }
                }
                Builder::F32(all) => all.extend_from_slice(tensor.values()?),
                Builder::I32(all) => all.extend_from_slice(tensor.integers()?),
            }
        }
    }
    let column = |(place, builder): (usize, Builder)| {
        Ok(match builder {
            Builder::Table(table) => Column::Table(table.finish(reader(plan, place))?.into()),
            Builder::F32(all) => Column::F32(all),
            Builder::I32(all) => Column::I32(all),
        })
    };
    builders.into_iter().enumerate().map(column).collect::<Result<_>>().map(Ok)
}

/// Reads a field's samples where the host is asked for them after all.
fn reader(plan: &Plan, place: usize) -> Reader {
    let dataset = Arc::clone(&plan.dataset);
    Box::new(move |numbers: &[i32]| {
        let indices: Vec<usize> = numbers.iter().map(|&number| number as usize).collect();
        let batch = Batch::read(&*dataset, &indices, Pass::default())?;
        match batch.inputs.iter().chain(&batch.targets).nth(place) {
            Some(tensor) => Ok(tensor.values()?.to_vec()),
            None => Err(Error::Internal { pass: "loader", message: "a field is gone".into() }),
        }
    })
}

/// Some of the samples that were read.
///
/// # Errors
/// [`Error::Device`] if there is no memory for them.
pub(super) fn taken(plan: &Plan, columns: &[Column], indices: &[usize]) -> Result<Collated> {
    let mut tensors = Vec::with_capacity(columns.len());
    for (field, column) in plan.fields.all().zip(columns) {
        let mut shape = vec![indices.len()];
        shape.extend_from_slice(&field.shape);
        tensors.push(match column {
            Column::Table(table) => {
                let numbers = indices.iter().map(|&index| index as i32).collect();
                Tensor::from_elsewhere(shape, Arc::new(table.rows(numbers)))
            }
            Column::F32(all) => Tensor::new(shape, picked(all, field.count(), indices)?)?,
            Column::I32(all) => Tensor::labels(shape, picked(all, field.count(), indices)?)?,
        });
    }
    let targets = tensors.split_off(plan.fields.inputs.len());
    Ok((tensors, targets))
}

fn picked<T: Copy>(all: &[T], each: usize, indices: &[usize]) -> Result<Vec<T>> {
    let mut picked = allocate::room(indices.len() * each, super::collate::BATCH)?;
    for index in indices {
        picked.extend_from_slice(&all[index * each..][..each]);
    }
    Ok(picked)
}
