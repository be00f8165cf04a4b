// SPDX-License-Identifier: MIT OR Apache-2.0
//! Samples as a step of training takes them.

use super::Position;
use crate::{Result, Shape, Tensor};

/// Samples to be trained on together.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// The samples one after the other, row-major.
    pub inputs: Vec<f32>,
    /// The shape of `inputs`: the number of samples, then the shape of one.
    pub shape: Vec<usize>,
    /// The class of each sample.
    pub labels: Vec<i32>,
    /// The index of each sample in the data set.
    pub indices: Vec<usize>,
    /// The place of this batch. To resume *after* it, store
    /// [`Loader::position`](super::Loader::position) instead.
    pub position: Position,
}

impl Batch {
    /// Inputs of `shape` and labels of `[samples]`, without a copy.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) if the fields do not belong together.
    pub fn into_tensors(self) -> Result<(Tensor, Tensor)> {
        let samples = self.labels.len();
        let inputs = Tensor::new(self.shape, self.inputs)?;
        Ok((inputs, Tensor::labels([samples], self.labels)?))
    }

    /// As [`Batch::into_tensors`], with each sample as one row, as a linear layer takes it: inputs
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
    /// [`Error::Shape`](crate::Error::Shape) if the fields do not belong together.
    pub fn into_rows(mut self) -> Result<(Tensor, Tensor)> {
        let samples = self.shape.first().copied().unwrap_or(1);
        self.shape = vec![samples, Shape::from(self.shape).sample_elements()];
        self.into_tensors()
    }
}
