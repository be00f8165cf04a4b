// SPDX-License-Identifier: MIT OR Apache-2.0
//! Dropout: candle's, or that of given masks.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};

use candle_core::{DType, Result, Tensor};

/// What layers that drop something do.
pub enum Dropping {
    Train,
    Eval,
    /// For each layer what it multiplies by, call by call.
    Given(RefCell<HashMap<String, VecDeque<Tensor>>>),
}

impl Dropping {
    /// Whether batch norms take the batch's statistics.
    pub fn trains(&self) -> bool {
        !matches!(self, Dropping::Eval)
    }

    /// Dropout of elements.
    pub fn elements(&self, layer: &str, p: f32, x: &Tensor) -> Result<Tensor> {
        match self {
            Dropping::Train => candle_nn::ops::dropout(x, p),
            _ => self.otherwise(layer, x),
        }
    }

    /// Dropout of feature maps, which candle does not have.
    pub fn maps(&self, layer: &str, p: f32, x: &Tensor) -> Result<Tensor> {
        match self {
            Dropping::Train => of_maps(x, p),
            _ => self.otherwise(layer, x),
        }
    }

    fn otherwise(&self, layer: &str, x: &Tensor) -> Result<Tensor> {
        let Dropping::Given(masks) = self else { return Ok(x.clone()) };
        let mask = masks.borrow_mut().get_mut(layer).and_then(VecDeque::pop_front);
        match mask {
            Some(mask) => x.broadcast_mul(&mask),
            None => candle_core::bail!("{layer}: no mask was given"),
        }
    }
}

/// What users write: noise for each map, broadcast over its elements.
pub fn of_maps(x: &Tensor, p: f32) -> Result<Tensor> {
    let (samples, channels, _, _) = x.dims4()?;
    let noise = Tensor::rand(0f32, 1f32, (samples, channels, 1, 1), x.device())?;
    let kept = noise.ge(p)?.to_dtype(DType::F32)?;
    x.broadcast_mul(&(kept * (1.0 / (1.0 - f64::from(p))))?)
}
