// SPDX-License-Identifier: MIT OR Apache-2.0
//! All tensors of a run, and which of them are what.

use super::{flat, Flat, Form, Values};
use crate::op::TensorType;
use crate::{DType, Error, Result, Shape, Tensor};

/// What a run is given: inputs, then targets, then what the loss brings along, then gradients of
/// results.
#[derive(Clone, Debug)]
pub(crate) struct Given {
    tensors: Vec<Tensor>,
    /// Lengths of the lists among inputs and targets.
    lists: Vec<usize>,
    inputs: usize,
    targets: usize,
}

impl Given {
    pub(crate) fn inputs<I: Values>(inputs: I::Of<Tensor>) -> Self {
        let Flat { leaves: tensors, lists } = Flat::of::<I>(inputs);
        let inputs = tensors.len();
        Given { tensors, lists, inputs, targets: 0 }
    }

    pub(crate) fn with_targets<T: Values>(mut self, targets: T::Of<Tensor>) -> Self {
        let Flat { leaves, lists } = Flat::of::<T>(targets);
        self.targets += leaves.len();
        self.tensors.extend(leaves);
        self.lists.extend(lists);
        self
    }

    pub(crate) fn with(mut self, more: impl IntoIterator<Item = Tensor>) -> Self {
        self.tensors.extend(more);
        self
    }

    pub(crate) fn tensors(&self) -> &[Tensor] {
        &self.tensors
    }

    /// The inputs alone.
    pub(crate) fn of_network(&self) -> &[Tensor] {
        &self.tensors[..self.inputs]
    }

    /// Whether integers are among the inputs.
    pub(crate) fn has_integers(&self) -> bool {
        self.of_network().iter().any(|input| input.dtype() == DType::I32)
    }

    /// Samples of the batch: those of the first input.
    pub(crate) fn samples(&self) -> usize {
        self.tensors.first().map_or(0, |first| first.shape().samples())
    }

    pub(crate) fn lists(&self) -> &[usize] {
        &self.lists
    }

    pub(crate) fn form<I: Values, O: Values, T: Values>(&self) -> Form<'_> {
        Form::of::<I, O, T>(&self.lists)
    }

    /// The targets in their structure.
    ///
    /// # Errors
    /// [`Error::Internal`] if they are not of it.
    pub(crate) fn targets<I: Values, T: Values>(&self) -> Result<T::Of<Tensor>> {
        let mut tensors = self.tensors[self.inputs..].iter().cloned();
        let mut lists = self.lists[I::LISTS..].iter().copied();
        flat::join::<T, _>(&mut tensors, &mut lists).ok_or_else(lost)
    }

    /// The types of inputs and targets, in their structures.
    ///
    /// # Errors
    /// [`Error::Internal`] if they are not of those.
    pub(crate) fn types_of<I: Values, T: Values>(
        &self,
    ) -> Result<(I::Of<TensorType>, T::Of<TensorType>)> {
        let mut types = self.tensors.iter().map(Tensor::ty);
        let mut lists = self.lists.iter().copied();
        let inputs = flat::join::<I, _>(&mut types, &mut lists).ok_or_else(lost)?;
        Ok((inputs, flat::join::<T, _>(&mut types, &mut lists).ok_or_else(lost)?))
    }

    /// Samples `start..end` of inputs and targets.
    ///
    /// # Errors
    /// [`Error::Shape`] for samples that are not there.
    pub(crate) fn part(&self, start: usize, end: usize) -> Result<Self> {
        let divided = self.inputs + self.targets;
        let of = |(place, whole): (usize, &Tensor)| match place >= divided
            || end - start == whole.shape().samples()
        {
            true => Ok(whole.clone()),
            false => whole.samples(start, end),
        };
        let tensors: Result<Vec<Tensor>> = self.tensors.iter().enumerate().map(of).collect();
        Ok(Given { tensors: tensors?, lists: self.lists.clone(), ..*self })
    }

    /// Checks that networks can take the tensors: that there are inputs, of element types that
    /// networks compute with, and, where there are several, with one sample for each of the first
    /// input's.
    ///
    /// # Errors
    /// [`Error::Shape`] that names the input or target.
    pub(crate) fn check(&self, op: &str) -> Result<()> {
        if self.inputs == 0 {
            return Err(wrong(op, "one input or more".into(), "none"));
        }
        for (place, tensor) in self.tensors[..self.inputs + self.targets].iter().enumerate() {
            if !matches!(tensor.dtype(), DType::F32 | DType::I32) {
                let expected = format!("f32 or i32 elements in {}", self.name(place));
                return Err(wrong(op, expected, tensor.dtype()));
            }
        }
        match (self.inputs, self.targets) {
            (1, 0 | 1) => Ok(()),
            _ => self.check_samples(op),
        }
    }

    /// Checks that all inputs and targets have as many samples as the first input.
    ///
    /// # Errors
    /// [`Error::Shape`] that names the one that has another number.
    pub(crate) fn check_samples(&self, op: &str) -> Result<()> {
        let all = &self.tensors[..self.inputs + self.targets];
        let first = self.tensors[0].shape();
        let fits = |shape: &Shape| shape.rank() > 0 && shape.samples() == first.samples();
        let Some(place) = all.iter().position(|tensor| !fits(tensor.shape())) else {
            return Ok(());
        };
        // A pair of input and target is wrong as a pair.
        if (self.inputs, self.targets) == (1, 1) {
            let expected = format!("targets for {} samples, as in {first}", first.samples());
            return Err(wrong(op, expected, all[1].shape()));
        }
        let expected = match place {
            0 => format!("an extent of samples in {}", self.name(0)),
            _ => {
                let (samples, name) = (first.samples(), self.name(place));
                format!("{samples} samples in {name}, as in {} of shape {first}", self.name(0))
            }
        };
        Err(wrong(op, expected, all[place].shape()))
    }

    /// What a tensor is called in errors.
    fn name(&self, place: usize) -> String {
        let name = |noun: &str, place: usize, count: usize| match count {
            1 => format!("the {noun}"),
            _ => format!("{noun} {place}"),
        };
        match place.checked_sub(self.inputs) {
            None => name("input", place, self.inputs),
            Some(place) => name("target", place, self.targets),
        }
    }
}

fn lost() -> Error {
    Error::Internal { pass: "values", message: "what was given is not there".into() }
}

fn wrong(op: &str, expected: String, got: impl ToString) -> Error {
    Error::Shape { layer: String::new(), op: op.into(), expected, got: got.to_string() }
}
