// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the samples of a data set hold.

use crate::{Error, Result, Shape};

/// What every sample of a data set holds: inputs, and targets if there are any.
///
/// ```
/// use kiln::data::{Field, Fields};
///
/// let images = Fields::labelled([1, 28, 28], 10);
/// assert_eq!(images, Fields::of(Field::f32([1, 28, 28])).target(Field::class(10)));
///
/// // Four measurements and two identities, to tell a price.
/// let prices = Fields::of(Field::f32([4])).input(Field::i32([2])).target(Field::f32([1]));
/// assert_eq!((prices.inputs.len(), prices.targets.len()), (2, 1));
///
/// // Up to 200 tokens and how many they are, to tell one of two classes.
/// let tokens = Field::i32([200]).varying();
/// let text = Fields::of(tokens).input(Field::length_of(0)).target(Field::class(2));
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Fields {
    /// What goes into a network.
    pub inputs: Vec<Field>,
    /// What its outputs are compared with.
    pub targets: Vec<Field>,
}

/// One input or target of a sample.
#[derive(Debug, Clone, PartialEq)]
pub struct Field {
    /// The shape in one sample, without a batch dimension: `[channels, height, width]` for images,
    /// `[]` for a number alone. Where the first extent varies, the most that it may be.
    pub shape: Vec<usize>,
    /// What its elements are.
    pub elements: Elements,
    /// Whether samples have first extents of their own, which a batch pads.
    pub varying: Option<Varying>,
}

/// What the elements of a field are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Elements {
    /// Floating-point numbers.
    F32,
    /// Integers of any size, such as the identities of tokens.
    I32,
    /// Integers from 0 up to this number, which the loader checks, since losses index with them.
    Classes(usize),
    /// The first extent of the input of this number in each sample, which the loader fills in.
    LengthOf(usize),
}

/// How a batch pads samples whose first extents differ: to the longest of them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Varying {
    /// The padded extent is rounded up to a multiple of this, at most to that of the field. Each
    /// extent that occurs has a plan of its own.
    pub step: usize,
    /// What stands in the place of elements that are not there.
    pub padding: f64,
}

impl Fields {
    /// One input of floating-point numbers and a class.
    pub fn labelled(shape: impl Into<Vec<usize>>, classes: usize) -> Self {
        Fields::of(Field::f32(shape)).target(Field::class(classes))
    }

    /// One input, and nothing to compare with.
    pub fn of(input: Field) -> Self {
        Fields { inputs: vec![input], targets: vec![] }
    }

    /// The same with a further input.
    #[must_use]
    pub fn input(mut self, field: Field) -> Self {
        self.inputs.push(field);
        self
    }

    /// The same with a further target.
    #[must_use]
    pub fn target(mut self, field: Field) -> Self {
        self.targets.push(field);
        self
    }

    /// The shape of the input and the number of classes, if these are all there is.
    pub(crate) fn as_labelled(&self) -> Option<(&[usize], usize)> {
        let ([input], [target]) = (&self.inputs[..], &self.targets[..]) else { return None };
        match target.elements {
            Elements::Classes(classes)
                if target.shape.is_empty()
                    && input.elements == Elements::F32
                    && input.varying.is_none() =>
            {
                Some((&input.shape, classes))
            }
            _ => None,
        }
    }

    /// Inputs, and then targets.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Field> {
        self.inputs.iter().chain(&self.targets)
    }

    /// Checks that samples and batches can have these fields.
    ///
    /// # Errors
    /// [`Error::Argument`] for each field that they cannot have.
    pub(crate) fn check(&self) -> Result<()> {
        if self.inputs.is_empty() {
            return Err(Error::argument("fields", "one input or more", "none"));
        }
        let name = |place| match self.as_labelled() {
            Some(_) if place == 0 => "sample_shape".to_string(),
            _ => format!("shape of {}", self.name(place)),
        };
        let wrong = |(place, field)| self.check_field(field, name(place)).err();
        Error::check(self.all().enumerate().filter_map(wrong).collect())
    }

    fn check_field(&self, field: &Field, name: String) -> Result<()> {
        named_elements(&field.shape, &name)?;
        if let Elements::LengthOf(input) = field.elements {
            let of = self.inputs.get(input).filter(|of| of.varying.is_some());
            if of.is_none() || !field.shape.is_empty() {
                let expected = "one number, the first extent of an input where it varies";
                return Err(Error::argument(name, expected, format!("that of input {input}")));
            }
        }
        let Some(Varying { step, padding }) = field.varying else { return Ok(()) };
        let is_integer = padding == f64::from(padding as i32);
        let fits = field.elements == Elements::F32 || is_integer;
        match !field.shape.is_empty() && step > 0 && fits {
            true => Ok(()),
            false => {
                let expected =
                    "a first extent, to vary in steps of 1 or more, with padding of its elements";
                let got = format!("{:?}, steps of {step}, {padding}", field.shape);
                Err(Error::argument(name, expected, got))
            }
        }
    }

    /// Elements of a sample that are there in every sample.
    pub(super) fn fixed_elements(&self) -> usize {
        let fixed = self.all().filter(|field| field.varying.is_none());
        fixed.fold(0, |sum, field| sum.saturating_add(field.count()))
    }

    /// What a field is called in errors.
    pub(super) fn name(&self, place: usize) -> String {
        match place.checked_sub(self.inputs.len()) {
            None => format!("input {place}"),
            Some(0) if self.as_labelled().is_some() => "label".into(),
            Some(place) => format!("target {place}"),
        }
    }
}

impl Field {
    /// Floating-point numbers.
    pub fn f32(shape: impl Into<Vec<usize>>) -> Self {
        Field { shape: shape.into(), elements: Elements::F32, varying: None }
    }

    /// Integers.
    pub fn i32(shape: impl Into<Vec<usize>>) -> Self {
        Field { shape: shape.into(), elements: Elements::I32, varying: None }
    }

    /// One of so many classes.
    pub fn class(classes: usize) -> Self {
        Field { shape: vec![], elements: Elements::Classes(classes), varying: None }
    }

    /// The length of an input whose first extent varies, as recurrent layers take it.
    pub fn length_of(input: usize) -> Self {
        Field { shape: vec![], elements: Elements::LengthOf(input), varying: None }
    }

    /// The same with a first extent that samples may have less of: a batch has that of its longest
    /// sample, and zeros in the others.
    #[must_use]
    pub fn varying(self) -> Self {
        Field { varying: Some(Varying { step: 1, padding: 0.0 }), ..self }
    }

    /// The same, varying, padded to multiples of so many: fewer shapes occur, and fewer plans.
    #[must_use]
    pub fn in_steps_of(self, step: usize) -> Self {
        let padding = self.varying.map_or(0.0, |varying| varying.padding);
        Field { varying: Some(Varying { step, padding }), ..self }
    }

    /// The same, varying, padded with this number.
    #[must_use]
    pub fn padded_with(self, padding: impl Into<f64>) -> Self {
        let step = self.varying.map_or(1, |varying| varying.step);
        Field { varying: Some(Varying { step, padding: padding.into() }), ..self }
    }

    /// Number of elements; where the first extent varies, at most.
    pub(crate) fn count(&self) -> usize {
        Shape::from(&self.shape[..]).elements()
    }

    /// Elements of each slice along the first extent.
    pub(super) fn row(&self) -> usize {
        Shape::from(self.shape.get(1..).unwrap_or(&[])).elements()
    }
}

/// The number of elements in a sample of `shape`; at least one.
pub(super) fn elements(shape: &[usize]) -> Result<usize> {
    named_elements(shape, "sample_shape")
}

fn named_elements(shape: &[usize], name: &str) -> Result<usize> {
    let shape = Shape::from(shape);
    match shape.elements() {
        all if all > 0 && shape.is_allowed() => Ok(all),
        _ => {
            let expected = "sizes above 0 whose product fits in memory";
            Err(Error::argument(name, expected, shape))
        }
    }
}
