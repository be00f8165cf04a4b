// SPDX-License-Identifier: MIT OR Apache-2.0
//! Dropout: burn's, or that of given masks.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};

use burn::nn::DropoutConfig;
use burn::tensor::{Device, Distribution, Tensor, TensorData};

use super::protocol::files::Values;

/// What layers that drop something do.
pub enum Dropping {
    /// They drop on a device that keeps track of gradients, and on no other.
    AsDevice,
    /// For each layer what it multiplies by, call by call.
    Given(RefCell<HashMap<String, VecDeque<Values>>>),
}

impl Dropping {
    /// Dropout of elements.
    pub fn elements<const D: usize>(&self, layer: &str, p: f64, x: Tensor<D>) -> Tensor<D> {
        match self {
            Dropping::AsDevice => of_elements(x, p),
            Dropping::Given(masks) => by(masks, layer, x),
        }
    }

    /// Dropout of feature maps, which burn does not have.
    pub fn maps(&self, layer: &str, p: f64, x: Tensor<4>) -> Tensor<4> {
        match self {
            Dropping::AsDevice if x.device().is_autodiff() => of_maps(x, p),
            Dropping::AsDevice => x,
            Dropping::Given(masks) => by(masks, layer, x),
        }
    }
}

pub fn of_elements<const D: usize>(x: Tensor<D>, p: f64) -> Tensor<D> {
    DropoutConfig::new(p).init().forward(x)
}

/// What users write: a decision for each map, broadcast over its elements.
pub fn of_maps(x: Tensor<4>, p: f64) -> Tensor<4> {
    let [samples, channels, _, _] = x.dims();
    let kept = Tensor::<4>::random(
        [samples, channels, 1, 1],
        Distribution::Bernoulli(1.0 - p),
        &x.device(),
    );
    x * kept.mul_scalar(1.0 / (1.0 - p))
}

/// A step without a mask goes wrong in its shape: nothing else can be said here.
fn by<const D: usize>(
    masks: &RefCell<HashMap<String, VecDeque<Values>>>,
    layer: &str,
    x: Tensor<D>,
) -> Tensor<D> {
    let mask = masks.borrow_mut().get_mut(layer).and_then(VecDeque::pop_front);
    let mask = mask.unwrap_or(Values { shape: vec![0; D], floats: Vec::new() });
    x.clone() * tensor(&mask, &x.device())
}

/// Values as a tensor; extents of 1 are added behind those that there are.
pub fn tensor<const D: usize>(values: &Values, device: &Device) -> Tensor<D> {
    let mut shape = values.shape.clone();
    shape.resize(D, 1);
    Tensor::from_data(TensorData::new(values.floats.clone(), shape), device)
}
