// SPDX-License-Identifier: MIT OR Apache-2.0
//! Samples as a step of training takes them.

use std::sync::atomic::AtomicBool;

use super::collate::collate;
use super::Position;
use crate::data::{Dataset, Pass};
use crate::values::{structured, Values};
use crate::{Error, Result, Tensor};

/// Samples to be trained on together.
///
/// Steps and views take its tensors as they are, whatever structure the network has; how many there
/// are is checked when they are given:
///
/// ```
/// use std::sync::Arc;
/// use kiln::data::{Array, Arrays, Loader, LoaderConfig};
/// use kiln::{loss::Mse, nn::Linear, optim::Sgd, Device, Net, Seed, Trainer};
///
/// let (x, y) = (Array::f32(vec![0.0, 1.0, 2.0, 3.0], &[1]), Array::f32([1.0, 3.0, 5.0, 7.0], &[1]));
/// let config = LoaderConfig { batch_size: 2, ..LoaderConfig::default() };
/// let mut loader = Loader::new(Arc::new(Arrays::new([x], [y])?), config)?;
///
/// let net = Net::new(Device::cpu(), Seed(7), |p| Linear::new(&p.at("fc"), 1, 1))?;
/// let mut fit = Trainer::new(net, Mse::default(), Sgd::new(0.1))?;
/// for batch in &mut loader {
///     let batch = batch?;
///     fit.step(&batch.inputs, &batch.targets)?;
/// }
/// # Ok::<(), kiln::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// The inputs in the order of the data set's fields, one sample after another in each: the number
    /// of samples is the first extent, the shape of one follows.
    pub inputs: Vec<Tensor>,
    /// The targets likewise: `i32 [samples]` for classes.
    pub targets: Vec<Tensor>,
    /// The index of each sample in the data set.
    pub indices: Vec<usize>,
    /// The place of this batch. To resume *after* it, store
    /// [`Loader::position`](super::Loader::position) instead.
    pub position: Position,
}

/// What is read together when all samples are read in order, at most.
const SAMPLES_AT_A_TIME: usize = 64;
const ELEMENTS_AT_A_TIME: usize = 1 << 20;

impl Batch {
    /// Reads samples without a loader, in this order; its position is the beginning of the epoch.
    ///
    /// ```
    /// use kiln::data::{Batch, Digits, Pass};
    ///
    /// let batch = Batch::read(&Digits::load().to_8x8(), &[3, 5], Pass::default())?;
    /// assert_eq!(batch.inputs[0].shape().dims(), [2, 1, 8, 8]);
    /// assert_eq!(batch.labels()?, [3, 5]);
    /// # Ok::<(), kiln::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Argument`] for fields that no sample can have, and what a [`Loader`](super::Loader)
    /// reports about samples; [`Error::Device`] if there is no memory for them.
    pub fn read(dataset: &dyn Dataset, indices: &[usize], pass: Pass) -> Result<Self> {
        let fields = dataset.fields();
        fields.check()?;
        let go_on = AtomicBool::new(false);
        let (inputs, targets) = collate(dataset, &fields, indices, pass, &go_on, None)?;
        let position = Position { epoch: pass.epoch, batch: 0 };
        Ok(Batch { inputs, targets, indices: indices.to_vec(), position })
    }

    /// All samples in order, some at a time.
    pub(crate) fn read_in_turn(
        dataset: &dyn Dataset,
        pass: Pass,
    ) -> impl Iterator<Item = Result<Self>> + '_ {
        let elements =
            dataset.fields().all().fold(1, |sum: usize, of| sum.saturating_add(of.count()));
        let samples = (ELEMENTS_AT_A_TIME / elements).clamp(1, SAMPLES_AT_A_TIME);
        let len = dataset.len();
        (0..len).step_by(samples).map(move |start| {
            let indices: Vec<usize> = (start..len.min(start.saturating_add(samples))).collect();
            Batch::read(dataset, &indices, pass)
        })
    }

    /// Number of samples.
    pub fn samples(&self) -> usize {
        self.indices.len()
    }

    /// The integers of the first target: the class of each sample.
    ///
    /// # Errors
    /// [`Error::Argument`] if there are no targets, [`Error::Shape`] if the first is not of integers.
    pub fn labels(&self) -> Result<&[i32]> {
        match self.targets.first() {
            Some(target) => target.integers(),
            None => Err(Error::argument("labels", "a target", "none")),
        }
    }

    /// Inputs and targets in the structures that a network and its loss take, `Var` for one,
    /// `(Var, Var)` for two, `()` for none, without a copy.
    ///
    /// ```
    /// use kiln::data::{Array, Arrays, Batch, Pass};
    /// use kiln::Var;
    ///
    /// let (areas, towns) = (Array::f32([30.0, 70.0], &[1]), Array::i32([4, 2], &[]));
    /// let houses = Arrays::new([areas, towns], [Array::f32([1.5, 3.0], &[1])])?;
    /// let batch = Batch::read(&houses, &[0, 1], Pass::default())?;
    /// let ((areas, towns), prices) = batch.into_typed::<(Var, Var), Var>()?;
    /// assert_eq!((areas.shape().dims(), towns.shape().dims()), (&[2, 1][..], &[2][..]));
    /// assert_eq!(prices.values()?, [1.5, 3.0]);
    /// # Ok::<(), kiln::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Argument`] if there are others.
    pub fn into_typed<I: Values, T: Values>(self) -> Result<(I::Of<Tensor>, T::Of<Tensor>)> {
        let inputs = structured::<I, Tensor>("inputs", self.inputs)?;
        Ok((inputs, structured::<T, Tensor>("targets", self.targets)?))
    }

    /// The only input and the only target, without a copy.
    ///
    /// # Errors
    /// [`Error::Argument`] if there are others or none.
    pub fn into_tensors(self) -> Result<(Tensor, Tensor)> {
        self.into_typed::<crate::Var, crate::Var>()
    }

    /// As [`Batch::into_tensors`], with each sample as one row, as a linear layer takes it: an input
    /// of `[samples, elements of one]`.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use kiln::data::{Digits, Loader, LoaderConfig};
    ///
    /// let digits = Arc::new(Digits::load().to_28x28());
    /// let config = LoaderConfig { batch_size: 64, ..LoaderConfig::default() };
    /// let (images, labels) = Loader::new(digits, config)?.next_batch()?.into_rows()?;
    /// assert_eq!(images.shape().dims(), [64, 784]);
    /// assert_eq!(labels.shape().dims(), [64]);
    /// # Ok::<(), kiln::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Batch::into_tensors`].
    pub fn into_rows(self) -> Result<(Tensor, Tensor)> {
        let (input, target) = self.into_tensors()?;
        let (samples, elements) = (input.shape().samples(), input.shape().sample_elements());
        Ok((input.reshaped([samples, elements])?, target))
    }
}
