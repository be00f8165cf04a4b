// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the networks have in common.

use burn::module::Module;
use burn::nn::loss::CrossEntropyLossConfig;
use burn::tensor::{Device, Distribution, Int, Tensor, TensorData};

use super::dropping::{Dropping, tensor};
use super::protocol::case::{CLASSES, WORDS};
use super::protocol::files::Values;

/// A network with its loss.
pub trait Model: Module + 'static {
    type Input: Input;
    /// Scores, or maps.
    type Output: Output;

    fn new(device: &Device) -> Self;

    fn forward(&self, x: Self::Input, dropping: &Dropping) -> Self::Output;
}

/// A batch.
pub trait Input: Clone + 'static {
    fn random(shape: &[usize], device: &Device) -> Self;

    fn given(values: &Values, device: &Device) -> Self;
}

impl<const D: usize> Input for Tensor<D> {
    fn random(shape: &[usize], device: &Device) -> Self {
        let mut extents = [1; D];
        extents.copy_from_slice(shape);
        Tensor::random(extents, Distribution::Normal(0.0, 1.0), device)
    }

    fn given(values: &Values, device: &Device) -> Self {
        tensor(values, device)
    }
}

impl Input for Tensor<2, Int> {
    fn random(shape: &[usize], device: &Device) -> Self {
        let count: usize = shape.iter().product();
        let tokens: Vec<i32> =
            (0..count as u32).map(|i| (i.wrapping_mul(2654435761) % WORDS as u32) as i32).collect();
        Tensor::from_data(TensorData::new(tokens, shape.to_vec()), device)
    }

    fn given(values: &Values, device: &Device) -> Self {
        let tokens: Vec<i32> = values.floats.iter().map(|&token| token as i32).collect();
        Tensor::from_data(TensorData::new(tokens, values.shape.clone()), device)
    }
}

/// What a network yields.
pub trait Output {
    fn loss(self, labels: Tensor<1, Int>) -> Tensor<1>;

    fn values(self) -> TensorData;
}

impl Output for Tensor<2> {
    fn loss(self, labels: Tensor<1, Int>) -> Tensor<1> {
        CrossEntropyLossConfig::new().init(&self.device()).forward(self, labels)
    }

    fn values(self) -> TensorData {
        self.into_data()
    }
}

impl Output for Tensor<4> {
    fn loss(self, _: Tensor<1, Int>) -> Tensor<1> {
        self.square().mean()
    }

    fn values(self) -> TensorData {
        self.into_data()
    }
}

/// Labels of all classes.
pub fn labels(batch: usize, device: &Device) -> Tensor<1, Int> {
    let labels: Vec<i32> = (0..batch as i32).map(|label| label * 7 % CLASSES as i32).collect();
    Tensor::from_data(TensorData::new(labels, [batch]), device)
}
