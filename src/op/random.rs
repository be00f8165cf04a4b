// SPDX-License-Identifier: MIT OR Apache-2.0
//! Random operations. A mask is a function of (seed, site, step, sample, element), never a tensor.

use super::channels_last;
use super::Array;
use crate::philox::{keep, MaskKey};
use crate::scalars::Scalars;
use crate::Shape;

/// Dropout at one place of a network (Hinton et al. 2012, arXiv:1207.0580), inverted scaling.
///
/// Its gradient is the same operation applied to the gradient, since the mask depends on nothing
/// that was computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dropout {
    /// Hash of the layer's path and of which of its calls this is.
    pub site: u32,
    /// Probability of dropping, in units of 1/32768; 32768 drops everything.
    pub drop15: u16,
}

impl Dropout {
    /// Dropout at `site` with probability `p`, rounded to the nearest 1/32768.
    pub fn new(site: u32, p: f32) -> Self {
        Dropout { site, drop15: (f64::from(p) * 32768.0).round() as u16 }
    }

    /// What kept elements are multiplied by: the reciprocal of the exact probability of keeping,
    /// 0 if nothing is kept.
    pub fn scale(self) -> f64 {
        match 32768 - u32::from(self.drop15) {
            0 => 0.0,
            kept => 32768.0 / f64::from(kept),
        }
    }

    /// The mask's key in a run with these scalars.
    pub(crate) fn key(self, scalars: &Scalars) -> MaskKey {
        MaskKey { seed: scalars.seed, site: self.site, step: scalars.pass, drop15: self.drop15 }
    }

    pub(super) fn eval(self, x: &Array, scalars: &Scalars) -> Array {
        let key = self.key(scalars);
        let per_sample = x.shape.sample_elements();
        let value = |(index, &value): (usize, &f64)| {
            let sample = scalars.sample_offset.wrapping_add((index / per_sample) as u32);
            let element = element_in_mask_order(&x.shape, index % per_sample);
            // Selected, not multiplied: a dropped infinity is 0, not NaN.
            if keep(&key, sample, element as u32) {
                value * self.scale()
            } else {
                0.0
            }
        };
        Array::new(x.shape.clone(), x.data.iter().enumerate().map(value).collect())
    }
}

/// The number under which the mask function knows an element of a sample: row-major order, but
/// channels last for images (`[samples, channels, spatial...]`, rank 4 and above).
pub(crate) fn element_in_mask_order(shape: &Shape, element: usize) -> usize {
    if shape.rank() < 4 {
        return element;
    }
    channels_last(shape, element)
}
