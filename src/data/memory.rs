// SPDX-License-Identifier: MIT OR Apache-2.0
//! Samples held in memory, with the helpers that shape an experiment.

use super::fields::elements;
use super::random::{self, Purpose};
use super::{noise, Batch, Dataset, Fields, Pass, Sample};
use crate::{allocate, Error, Result, Shape};

/// Samples held as `f32` in one row-major array.
///
/// ```
/// use kiln::data::{Dataset, MemoryDataset};
///
/// // The four points of XOR.
/// let xor = MemoryDataset::new(vec![0., 0., 0., 1., 1., 0., 1., 1.], &[2], vec![0, 1, 1, 0], 2)?;
/// assert_eq!(xor.len(), 4);
/// assert_eq!(xor.sample(2), Some((&[1.0, 0.0][..], 1)));
///
/// let (train, test) = xor.shuffled(7).split(3)?;
/// assert_eq!((train.len(), test.len()), (3, 1));
/// # Ok::<(), kiln::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct MemoryDataset {
    inputs: Vec<f32>,
    sample_shape: Vec<usize>,
    labels: Vec<i32>,
    classes: usize,
}

impl MemoryDataset {
    /// Takes `labels.len()` samples of `sample_shape`, one after the other in `inputs`.
    ///
    /// # Errors
    /// [`Error::Argument`] for a sample shape without elements, for `inputs` of another length than
    /// the labels and the shape ask for, and for a label outside `0..classes`; all of them at once.
    pub fn new(
        inputs: Vec<f32>,
        sample_shape: &[usize],
        labels: Vec<i32>,
        classes: usize,
    ) -> Result<Self> {
        let mut errors = Vec::new();
        match elements(sample_shape) {
            Err(error) => errors.push(error),
            Ok(each) if labels.len().checked_mul(each) != Some(inputs.len()) => {
                let expected = format!("{} samples of {each} elements", labels.len());
                errors.push(Error::argument("inputs", expected, inputs.len()));
            }
            Ok(_) => {}
        }
        errors.extend(check_labels(&labels, classes).err());
        Error::check(errors)?;
        Ok(Self { inputs, sample_shape: sample_shape.to_vec(), labels, classes })
    }

    /// Reads every sample of another data set into memory, as its first pass reads them.
    ///
    /// # Errors
    /// The first error of `dataset`, those of [`new`](Self::new), [`Error::Argument`] unless its
    /// samples are one input of `f32` and a class, and [`Error::Device`] if there is no memory for as
    /// many samples.
    pub fn read_all(dataset: &dyn Dataset) -> Result<Self> {
        let fields = dataset.fields();
        let Some((shape, classes)) = fields.as_labelled() else {
            let (expected, got) = ("one input of f32 and a class", format!("{fields:?}"));
            return Err(Error::argument("dataset", expected, got));
        };
        let (each, len) = (elements(shape)?, dataset.len());
        let mut inputs = allocate::room(Shape::from([len, each]).elements(), SAMPLES)?;
        let mut labels = allocate::room(len, SAMPLES)?;
        for batch in Batch::read_in_turn(dataset, Pass::default()) {
            let batch = batch?;
            inputs.extend_from_slice(batch.inputs[0].values()?);
            labels.extend_from_slice(batch.labels()?);
        }
        Self::new(inputs, shape, labels, classes)
    }

    /// All samples, one after the other, row-major.
    pub fn inputs(&self) -> &[f32] {
        &self.inputs
    }

    /// The label of every sample.
    pub fn labels(&self) -> &[i32] {
        &self.labels
    }

    /// Sample `index` and its label, `None` past the end.
    pub fn sample(&self, index: usize) -> Option<(&[f32], i32)> {
        let label = *self.labels.get(index)?;
        let each = self.inputs.len() / self.labels.len();
        Some((&self.inputs[index * each..][..each], label))
    }

    /// The number of samples of each class.
    pub fn class_counts(&self) -> Vec<usize> {
        let mut counts = vec![0; self.classes];
        for &label in &self.labels {
            counts[label as usize] += 1;
        }
        counts
    }

    /// The same elements seen as samples of another shape, such as `[784]` for `[1, 28, 28]`.
    ///
    /// # Errors
    /// [`Error::Argument`] unless both shapes have the same number of elements.
    pub fn with_sample_shape(mut self, sample_shape: &[usize]) -> Result<Self> {
        let wanted = elements(&self.sample_shape)?;
        if elements(sample_shape)? != wanted {
            let expected = format!("{wanted} elements, as {:?}", self.sample_shape);
            return Err(Error::argument("sample_shape", expected, format!("{sample_shape:?}")));
        }
        self.sample_shape = sample_shape.to_vec();
        Ok(self)
    }

    /// The samples at `indices`, in that order; an index may occur more than once.
    ///
    /// # Errors
    /// [`Error::Argument`] for an index past the end; [`Error::Device`] if there is no memory for
    /// as many samples.
    pub fn subset(&self, indices: &[usize]) -> Result<Self> {
        let each = elements(&self.sample_shape)?;
        let mut inputs = allocate::room(Shape::from([indices.len(), each]).elements(), SAMPLES)?;
        let mut labels = allocate::room(indices.len(), SAMPLES)?;
        for &index in indices {
            let (sample, label) = self.sample(index).ok_or_else(|| {
                Error::argument("indices", format!("below {}", self.labels.len()), index)
            })?;
            inputs.extend_from_slice(sample);
            labels.push(label);
        }
        Ok(Self { inputs, labels, sample_shape: self.sample_shape.clone(), classes: self.classes })
    }

    /// The first `count` samples.
    ///
    /// # Errors
    /// [`Error::Argument`] if there are fewer.
    pub fn take(&self, count: usize) -> Result<Self> {
        self.split(count).map(|(front, _)| front)
    }

    /// The first `count` samples, and the rest.
    ///
    /// # Errors
    /// [`Error::Argument`] if there are fewer than `count`.
    pub fn split(&self, count: usize) -> Result<(Self, Self)> {
        let len = self.labels.len();
        if count > len {
            return Err(Error::argument("count", format!("at most {len} samples"), count));
        }
        let indices: Vec<usize> = (0..len).collect();
        let (front, rest) = indices.split_at(count);
        Ok((self.subset(front)?, self.subset(rest)?))
    }

    /// The samples in an order that depends on `seed` and their number alone.
    pub fn shuffled(&self, seed: u64) -> Self {
        let mut rng = random::stream(Purpose::ShuffledSet, seed, 0);
        let order = random::permutation(&mut rng, self.labels.len());
        let mut inputs = Vec::with_capacity(self.inputs.len());
        for (sample, _) in order.iter().filter_map(|&index| self.sample(index)) {
            inputs.extend_from_slice(sample);
        }
        let labels = order.iter().map(|&index| self.labels[index]).collect();
        Self { inputs, labels, sample_shape: self.sample_shape.clone(), classes: self.classes }
    }

    /// Gives exactly `round(fraction * len)` samples, chosen uniformly by `seed`, a wrong label,
    /// uniform over the other classes.
    ///
    /// # Errors
    /// [`Error::Argument`] if `fraction` is NaN or outside `[0, 1]`, or if labels are to change and
    /// there is no other class.
    pub fn with_label_noise(mut self, fraction: f64, seed: u64) -> Result<Self> {
        for swap in noise::swaps(self.labels.len(), self.classes, fraction, seed)? {
            let label = &mut self.labels[swap.index];
            *label = ((*label as usize + swap.shift) % self.classes) as i32;
        }
        Ok(self)
    }
}

/// What memory is wanted for.
const SAMPLES: &str = "the samples of a data set";

impl Dataset for MemoryDataset {
    fn len(&self) -> usize {
        self.labels.len()
    }

    fn is_fixed(&self) -> bool {
        true
    }

    fn fields(&self) -> Fields {
        Fields::labelled(&self.sample_shape[..], self.classes)
    }

    fn read(&self, index: usize, _: Pass, sample: &mut Sample<'_>) -> Result<()> {
        let (input, label) = self
            .sample(index)
            .ok_or_else(|| Error::argument("index", format!("below {}", self.len()), index))?;
        sample.input(0).write_f32(input)?;
        sample.set_label(label)
    }
}

fn check_labels(labels: &[i32], classes: usize) -> Result<()> {
    if classes > i32::MAX as usize {
        return Err(Error::argument("classes", format!("at most {}", i32::MAX), classes));
    }
    let wrong = |label: &i32| usize::try_from(*label).map_or(true, |label| label >= classes);
    match labels.iter().position(wrong) {
        None => Ok(()),
        Some(index) => {
            let expected = format!("classes 0..{classes}");
            Err(Error::argument(format!("labels[{index}]"), expected, labels[index]))
        }
    }
}
