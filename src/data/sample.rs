// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where a data set writes samples to.

use super::{Elements, Field, Fields};
use crate::{allocate, Error, Result};

/// The sample that a data set writes: a [slot](Slot) for each of its fields.
///
/// What a data set around another wants to change, it finds there when the other has written.
#[derive(Debug)]
pub struct Sample<'a> {
    fields: &'a Fields,
    parts: Vec<Part<'a>>,
    /// Samples before this one.
    place: usize,
}

/// The elements of one field in a sample.
#[derive(Debug)]
pub struct Slot<'s, 'a> {
    fields: &'s Fields,
    parts: &'s mut [Part<'a>],
    sample: usize,
    place: Place,
}

/// Where samples of one field are kept, one after another.
#[derive(Debug)]
pub(super) enum Part<'a> {
    F32(Room<'a, f32>),
    I32(Room<'a, i32>),
}

/// Memory for several samples of a field.
#[derive(Debug)]
pub(super) enum Room<'a, T> {
    Fixed { values: &'a mut [T], each: usize },
    Varying(Rows<T>),
}

/// Samples with first extents of their own.
#[derive(Debug)]
pub(super) struct Rows<T> {
    pub(super) values: Vec<T>,
    /// The first extent of each sample.
    pub(super) lengths: Vec<usize>,
    row: usize,
    most: usize,
}

#[derive(Debug, Clone, Copy)]
enum Place {
    Input(usize),
    Target(usize),
}

impl<'a> Sample<'a> {
    /// Before the first of the samples that the parts have room for, in the order of the fields.
    pub(super) fn new(fields: &'a Fields, parts: Vec<Part<'a>>) -> Self {
        Sample { fields, parts, place: 0 }
    }

    /// What the sample holds.
    pub fn fields(&self) -> &Fields {
        self.fields
    }

    /// The elements of an input. That there is none of this number is an error of what follows.
    pub fn input(&mut self, number: usize) -> Slot<'_, 'a> {
        self.slot(Place::Input(number))
    }

    /// The elements of a target. That there is none of this number is an error of what follows.
    pub fn target(&mut self, number: usize) -> Slot<'_, 'a> {
        self.slot(Place::Target(number))
    }

    /// Sets the first target to one integer: the class of the sample.
    ///
    /// # Errors
    /// [`Error::Argument`] unless the first target is one integer.
    pub fn set_label(&mut self, label: i32) -> Result<()> {
        self.target(0).write_i32(&[label])
    }

    fn slot(&mut self, place: Place) -> Slot<'_, 'a> {
        Slot { fields: self.fields, parts: &mut self.parts, sample: self.place, place }
    }

    /// Makes room for the sample of this number.
    pub(super) fn begin(&mut self, place: usize) {
        self.place = place;
        for part in &mut self.parts {
            match part {
                Part::F32(Room::Varying(rows)) => rows.lengths.push(0),
                Part::I32(Room::Varying(rows)) => rows.lengths.push(0),
                _ => {}
            }
        }
    }

    /// Checks and completes what was written as sample `index`.
    ///
    /// # Errors
    /// [`Error::Argument`] for a class that is none.
    pub(super) fn finish(&mut self, index: usize) -> Result<()> {
        let lengths: Vec<usize> = match self.fields.inputs.iter().any(|of| of.varying.is_some()) {
            true => self.parts[..self.fields.inputs.len()].iter().map(Part::length).collect(),
            false => vec![],
        };
        for (number, (part, field)) in self.parts.iter_mut().zip(self.fields.all()).enumerate() {
            let Part::I32(room) = part else { continue };
            let values = room.sample(self.place);
            match field.elements {
                Elements::Classes(classes) => {
                    let is_class = |label: i32| usize::try_from(label).is_ok_and(|l| l < classes);
                    if let Some(wrong) = values.iter().find(|label| !is_class(**label)) {
                        let what = format!("{} of sample {index}", self.fields.name(number));
                        return Err(Error::argument(what, format!("classes 0..{classes}"), wrong));
                    }
                }
                Elements::LengthOf(input) => values.fill(lengths[input] as i32),
                Elements::F32 | Elements::I32 => {}
            }
        }
        Ok(())
    }

    pub(super) fn into_parts(self) -> Vec<Part<'a>> {
        self.parts
    }
}

impl<'s, 'a> Slot<'s, 'a> {
    /// The floating-point numbers, row-major: what is there of them where the first extent varies,
    /// else all.
    ///
    /// # Errors
    /// [`Error::Argument`] if there is no such field or it is of integers.
    pub fn f32(self) -> Result<&'s mut [f32]> {
        let sample = self.sample;
        Ok(self.floats()?.sample(sample))
    }

    /// The integers, as [`f32`](Self::f32).
    ///
    /// # Errors
    /// [`Error::Argument`] if there is no such field or it is of floating-point numbers or a length,
    /// which the loader fills in.
    pub fn i32(self) -> Result<&'s mut [i32]> {
        let sample = self.sample;
        Ok(self.integers()?.sample(sample))
    }

    /// Makes the first extent `rows`, where it varies, and gives the floating-point numbers; new ones
    /// are 0.
    ///
    /// # Errors
    /// As [`f32`](Self::f32), and [`Error::Argument`] for more than the field allows or where it does
    /// not vary; [`Error::Device`] if there is no memory for them.
    pub fn f32_rows(self, rows: usize) -> Result<&'s mut [f32]> {
        let place = self.place;
        self.floats()?.resized(rows, place)
    }

    /// As [`f32_rows`](Self::f32_rows), of integers.
    ///
    /// # Errors
    /// As there.
    pub fn i32_rows(self, rows: usize) -> Result<&'s mut [i32]> {
        let place = self.place;
        self.integers()?.resized(rows, place)
    }

    /// Writes all floating-point numbers, row-major, and with them the first extent where it varies.
    ///
    /// # Errors
    /// As [`f32`](Self::f32), and [`Error::Argument`] for another number than the field has.
    pub fn write_f32(self, values: &[f32]) -> Result<()> {
        let (sample, place) = (self.sample, self.place);
        self.floats()?.write(sample, values, place)
    }

    /// Writes all integers, as [`write_f32`](Self::write_f32).
    ///
    /// # Errors
    /// As [`i32`](Self::i32), and [`Error::Argument`] for another number than the field has.
    pub fn write_i32(self, values: &[i32]) -> Result<()> {
        let (sample, place) = (self.sample, self.place);
        self.integers()?.write(sample, values, place)
    }

    fn floats(self) -> Result<&'s mut Room<'a, f32>> {
        let place = self.place;
        match self.part()? {
            (_, Part::F32(room)) => Ok(room),
            (field, Part::I32(_)) => Err(refusal(place, field, "f32")),
        }
    }

    fn integers(self) -> Result<&'s mut Room<'a, i32>> {
        let place = self.place;
        match self.part()? {
            (field, Part::I32(room)) if !matches!(field.elements, Elements::LengthOf(_)) => {
                Ok(room)
            }
            (field, _) => Err(refusal(place, field, "i32")),
        }
    }

    fn part(self) -> Result<(&'s Field, &'s mut Part<'a>)> {
        let Fields { inputs, targets } = self.fields;
        let (own, number, before) = match self.place {
            Place::Input(number) => (inputs, number, 0),
            Place::Target(number) => (targets, number, inputs.len()),
        };
        match (own.get(number), self.parts.get_mut(before.saturating_add(number))) {
            (Some(field), Some(part)) => Ok((field, part)),
            _ => Err(Error::argument(self.place.name(), format!("one of {}", own.len()), "none")),
        }
    }
}

fn refusal(place: Place, field: &Field, wanted: &str) -> Error {
    let expected = format!("{wanted} elements to write");
    Error::argument(place.name(), expected, format!("{:?}", field.elements))
}

impl Part<'_> {
    /// The first extent of the last sample, where it varies.
    fn length(&self) -> usize {
        match self {
            Part::F32(Room::Varying(rows)) => rows.length(),
            Part::I32(Room::Varying(rows)) => rows.length(),
            _ => 0,
        }
    }
}

impl<'a, T: Copy + Default> Room<'a, T> {
    /// Room for the samples of a field; `values` is of those that do not vary.
    pub(super) fn new(field: &Field, values: &'a mut [T]) -> Self {
        match field.varying {
            None => Room::Fixed { values, each: field.count() },
            Some(_) => {
                let (row, most) = (field.row(), field.shape[0]);
                Room::Varying(Rows { values: vec![], lengths: vec![], row, most })
            }
        }
    }

    fn sample(&mut self, place: usize) -> &mut [T] {
        match self {
            Room::Fixed { values, each } => &mut values[place * *each..][..*each],
            Room::Varying(rows) => rows.last(),
        }
    }

    fn resized(&mut self, length: usize, of: Place) -> Result<&mut [T]> {
        match self {
            Room::Varying(rows) => {
                if length > rows.most {
                    let expected = format!("a first extent of at most {}", rows.most);
                    return Err(Error::argument(of.name(), expected, length));
                }
                rows.resize(length)?;
                Ok(rows.last())
            }
            Room::Fixed { .. } => {
                Err(Error::argument(of.name(), "a first extent that varies", "one that is fixed"))
            }
        }
    }

    fn write(&mut self, place: usize, values: &[T], of: Place) -> Result<()> {
        let wrong = |expected: String| Err(Error::argument(of.name(), expected, values.len()));
        let room = match self {
            Room::Varying(Rows { row, .. }) if !values.len().is_multiple_of(*row) => {
                return wrong(format!("rows of {row} elements"));
            }
            Room::Varying(Rows { row, .. }) => {
                let length = values.len() / *row;
                self.resized(length, of)?
            }
            Room::Fixed { .. } => self.sample(place),
        };
        if room.len() != values.len() {
            return wrong(format!("{} elements, one sample", room.len()));
        }
        room.copy_from_slice(values);
        Ok(())
    }
}

impl<T: Copy + Default> Rows<T> {
    fn length(&self) -> usize {
        self.lengths.last().copied().unwrap_or(0)
    }

    fn last(&mut self) -> &mut [T] {
        let start = self.values.len() - self.length() * self.row;
        &mut self.values[start..]
    }

    fn resize(&mut self, length: usize) -> Result<()> {
        let start = self.values.len() - self.length() * self.row;
        let count = start.saturating_add(length.saturating_mul(self.row));
        let more = count.saturating_sub(self.values.len());
        self.values.try_reserve(more).map_err(|_| allocate::refused::<T>(count, "a batch"))?;
        self.values.resize(count, T::default());
        if let Some(last) = self.lengths.last_mut() {
            *last = length;
        }
        Ok(())
    }
}

impl Place {
    fn name(self) -> String {
        match self {
            Place::Input(number) => format!("input {number}"),
            Place::Target(number) => format!("target {number}"),
        }
    }
}
