// SPDX-License-Identifier: MIT OR Apache-2.0
//! Shifting and scaling each channel to mean 0 and standard deviation 1.

use std::fmt;
use std::sync::Arc;

use super::{Batch, Dataset, Elements, Fields, Pass, Sample};
use crate::{Error, Result};

/// The mean and the standard deviation of each channel (the first dimension of a sample).
#[derive(Debug, Clone, PartialEq)]
pub struct Normalisation {
    mean: Vec<f32>,
    std: Vec<f32>,
}

impl Normalisation {
    /// Takes known values, one of each for every channel: `new(&[0.1307], &[0.3081])` for MNIST.
    ///
    /// # Errors
    /// [`Error::Argument`] unless there are as many means as deviations, at least one, the means
    /// finite and the deviations finite and above 0.
    pub fn new(mean: &[f32], std: &[f32]) -> Result<Self> {
        if mean.is_empty() || mean.len() != std.len() {
            let got = format!("{} and {}", mean.len(), std.len());
            return Err(Error::argument("mean and std", "one of each for every channel", got));
        }
        if let Some(wrong) = mean.iter().find(|mean| !mean.is_finite()) {
            return Err(Error::argument("mean", "a finite number", wrong));
        }
        if let Some(wrong) = std.iter().find(|std| !std.is_finite() || **std <= 0.0) {
            return Err(Error::argument("std", "a finite number above 0", wrong));
        }
        Ok(Self { mean: mean.to_vec(), std: std.to_vec() })
    }

    /// Measures a data set, in f64. Measure the training part only: the test part must not be
    /// looked at.
    ///
    /// A channel that never changes gets deviation 1, so that it becomes 0 and not NaN.
    ///
    /// # Errors
    /// [`Error::Argument`] for an empty data set or samples whose first input is not of `f32`, has no
    /// channel dimension or one that varies, or values that are not finite, and the first error of
    /// `dataset`.
    pub fn measure(dataset: &dyn Dataset) -> Result<Self> {
        let fields = dataset.fields();
        fields.check()?;
        let channels = channels(&fields)?;
        if dataset.is_empty() {
            return Err(Error::argument("dataset", "at least one sample", 0));
        }
        let mut moments = vec![Moments::default(); channels];
        let each = fields.inputs[0].row();
        for batch in Batch::read_in_turn(dataset, Pass::default()) {
            let of_channels = batch?.inputs.swap_remove(0);
            for (place, channel) in of_channels.values()?.chunks(each).enumerate() {
                let moments = &mut moments[place % channels];
                channel.iter().for_each(|&value| moments.add(f64::from(value)));
            }
        }
        let mean: Vec<f32> = moments.iter().map(|moments| moments.mean as f32).collect();
        let std: Vec<f32> = moments.iter().map(Moments::std).collect();
        Self::new(&mean, &std)
    }

    /// The mean of each channel.
    pub fn mean(&self) -> &[f32] {
        &self.mean
    }

    /// The standard deviation of each channel, dividing by the number of values.
    pub fn std(&self) -> &[f32] {
        &self.std
    }

    fn apply(&self, sample: &mut [f32]) {
        let each = (sample.len() / self.mean.len()).max(1);
        for ((channel, mean), std) in sample.chunks_mut(each).zip(&self.mean).zip(&self.std) {
            channel.iter_mut().for_each(|value| *value = (*value - mean) / std);
        }
    }
}

/// A data set seen through a [`Normalisation`] of its first input.
///
/// ```
/// use std::sync::Arc;
/// use kiln::data::{Digits, Normalisation, Normalised};
///
/// let (train, test) = Digits::load().split(1500, 0)?;
/// let normalisation = Normalisation::measure(&train)?;
/// let train = Normalised::new(Arc::new(train), normalisation.clone())?;
/// let test = Normalised::new(Arc::new(test), normalisation)?;
/// # Ok::<(), kiln::Error>(())
/// ```
#[derive(Clone)]
pub struct Normalised {
    inner: Arc<dyn Dataset>,
    normalisation: Normalisation,
}

impl Normalised {
    /// Normalises every sample of `inner` when it is read.
    ///
    /// # Errors
    /// [`Error::Argument`] if the samples have another number of channels or none.
    pub fn new(inner: Arc<dyn Dataset>, normalisation: Normalisation) -> Result<Self> {
        let fields = inner.fields();
        fields.check()?;
        let (expected, got) = (normalisation.mean.len(), channels(&fields)?);
        if got != expected {
            return Err(Error::argument("sample_shape", format!("{expected} channels first"), got));
        }
        Ok(Self { inner, normalisation })
    }
}

impl Dataset for Normalised {
    fn len(&self) -> usize {
        self.inner.len()
    }

    fn is_fixed(&self) -> bool {
        self.inner.is_fixed()
    }

    fn fields(&self) -> Fields {
        self.inner.fields()
    }

    fn read(&self, index: usize, pass: Pass, sample: &mut Sample<'_>) -> Result<()> {
        self.inner.read(index, pass, sample)?;
        self.normalisation.apply(sample.input(0).f32()?);
        Ok(())
    }

    fn length(&self, index: usize) -> usize {
        self.inner.length(index)
    }
}

impl fmt::Debug for Normalised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Normalised")
            .field("len", &self.len())
            .field("normalisation", &self.normalisation)
            .finish_non_exhaustive()
    }
}

/// Running mean and squared deviations (Welford): the plain sum of squares cancels for large means.
#[derive(Debug, Clone, Default)]
struct Moments {
    count: f64,
    mean: f64,
    squares: f64,
}

impl Moments {
    fn add(&mut self, value: f64) {
        self.count += 1.0;
        let deviation = value - self.mean;
        self.mean += deviation / self.count;
        self.squares += deviation * (value - self.mean);
    }

    fn std(&self) -> f32 {
        let std = (self.squares / self.count).sqrt() as f32;
        if std == 0.0 {
            1.0
        } else {
            std
        }
    }
}

/// Extent of the first dimension of the first input.
fn channels(fields: &Fields) -> Result<usize> {
    let wrong =
        |got| Err(Error::argument("sample_shape", "f32 with a channel dimension first", got));
    match fields.inputs.first() {
        Some(of) if of.elements != Elements::F32 => wrong(format!("{:?}", of.elements)),
        Some(of) if of.varying.is_some() => wrong("one that varies".into()),
        Some(of) if of.shape.is_empty() => wrong("[]".into()),
        Some(of) => Ok(of.shape[0]),
        None => wrong("no input".into()),
    }
}
