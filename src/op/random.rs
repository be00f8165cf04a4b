// SPDX-License-Identifier: MIT OR Apache-2.0
//! Random operations. A mask is a function of (seed, site, step, sample, element), never a tensor.

use super::channels_last;
use super::Array;
use crate::philox::{drop15, keep, scale_of, MaskKey};
use crate::scalars::{RateSlot, Scalars};
use crate::Shape;

/// Dropout at one place of a network (Hinton et al. 2012, arXiv:1207.0580), inverted scaling.
///
/// Its gradient is the same operation applied to the gradient, since the mask depends on nothing
/// that was computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dropout {
    /// Hash of the layer's path and of which of its calls this is.
    pub site: u32,
    /// Probability of dropping.
    pub rate: DropRate,
    /// What is dropped at once.
    pub drops: Drops,
}

/// A probability of dropping, in units of 1/32768; 32768 drops everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DropRate {
    /// The same in every run.
    Constant(u16),
    /// That of each run in [`Scalars::dropout`].
    Changing {
        /// Where it stands there.
        slot: RateSlot,
        /// The highest, as far as the layer knows it beforehand.
        most: u16,
    },
}

/// What a mask counts as its elements: what is dropped or kept as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Drops {
    /// Each element by itself.
    #[default]
    Elements,
    /// Whole channels, the second extent, of each sample.
    Channels,
    /// Whole samples.
    Samples,
    /// Whole features, the last extent, of each sample: the same at all steps of a sequence.
    Features,
    /// Each element of what is the same for all samples, such as a weight, as `[draws, elements]`. All
    /// parts of a batch have the same mask; draws of Monte Carlo mode have one each.
    Weights,
}

impl Dropout {
    /// Dropout of elements at `site` with probability `p`, rounded to the nearest 1/32768.
    pub fn new(site: u32, p: f32) -> Self {
        Dropout { site, rate: DropRate::constant(p), drops: Drops::Elements }
    }

    /// The same site and probability for other pieces.
    pub fn of(self, drops: Drops) -> Self {
        Dropout { drops, ..self }
    }

    /// The mask's key in a run with these scalars.
    pub(crate) fn key(self, scalars: &Scalars) -> MaskKey {
        let drop15 = self.rate.drop15(scalars);
        MaskKey { seed: scalars.seed, site: self.site, step: scalars.pass, drop15 }
    }

    pub(super) fn eval(self, x: &Array, scalars: &Scalars) -> Array {
        let key = self.key(scalars);
        let scale = scale_of(key.drop15);
        let per_sample = x.shape.sample_elements();
        let value = |(index, &value): (usize, &f64)| {
            let first = self.drops.first_sample(scalars.sample_offset);
            let sample = first.wrapping_add((index / per_sample) as u32);
            let element = self.drops.number(&x.shape, index % per_sample);
            // Selected, not multiplied: a dropped infinity is 0, not NaN.
            if keep(&key, sample, element as u32) {
                value * scale
            } else {
                0.0
            }
        };
        Array::new(x.shape.clone(), x.data.iter().enumerate().map(value).collect())
    }
}

impl DropRate {
    /// The same probability in every run, rounded to the nearest 1/32768.
    pub fn constant(p: f32) -> Self {
        DropRate::Constant(drop15(p))
    }

    /// One that changes, up to `most` as far as that is known.
    pub(crate) fn changing(slot: RateSlot, most: f32) -> Self {
        DropRate::Changing { slot, most: drop15(most) }
    }

    /// The probability in a run with these scalars, in units of 1/32768.
    pub fn drop15(self, scalars: &Scalars) -> u16 {
        match self {
            DropRate::Constant(drop15) => drop15,
            DropRate::Changing { slot, .. } => scalars.dropout.drop15(slot),
        }
    }

    /// The highest probability in any run, as far as it is known beforehand, in `[0, 1]`.
    pub fn most(self) -> f64 {
        let (DropRate::Constant(drop15) | DropRate::Changing { most: drop15, .. }) = self;
        f64::from(drop15) / 32768.0
    }

    /// What kept elements are multiplied by in every run; `None` if that changes.
    pub fn constant_scale(self) -> Option<f64> {
        match self {
            DropRate::Constant(drop15) => Some(scale_of(drop15)),
            DropRate::Changing { .. } => None,
        }
    }
}

impl Drops {
    /// The shape of a mask for values of this shape: with extents of 1 where a whole is dropped or kept.
    ///
    /// ```
    /// use kiln::op::Drops;
    ///
    /// let images = [8, 3, 32, 32].into();
    /// assert_eq!(Drops::Elements.mask_shape(&images), images);
    /// assert_eq!(Drops::Channels.mask_shape(&images).dims(), [8, 3, 1, 1]);
    /// assert_eq!(Drops::Samples.mask_shape(&images).dims(), [8, 1, 1, 1]);
    /// assert_eq!(Drops::Features.mask_shape(&[8, 20, 64].into()).dims(), [8, 1, 64]);
    /// ```
    pub fn mask_shape(self, values: &Shape) -> Shape {
        let counted = match self {
            Drops::Elements | Drops::Weights => values.rank(),
            Drops::Channels => 2,
            Drops::Features | Drops::Samples => 1,
        };
        let is_counted =
            |index| index < counted || self == Drops::Features && index + 1 == values.rank();
        let extents = values.dims().iter().enumerate();
        let dims = extents.map(|(index, extent)| if is_counted(index) { *extent } else { 1 });
        dims.collect::<Vec<usize>>().into()
    }

    /// The number of the first row's sample in a run whose first sample has this one.
    pub(crate) fn first_sample(self, sample_offset: u32) -> u32 {
        match self {
            Drops::Weights => 0,
            _ => sample_offset,
        }
    }

    /// Columns that are dropped as wholes of each sample of this shape, where they lie innermost; `None`
    /// where single elements are.
    pub(crate) fn columns(self, shape: &Shape) -> Option<usize> {
        match self {
            Drops::Elements | Drops::Weights => None,
            Drops::Channels => Some(shape.dims().get(1).copied().unwrap_or(1).max(1)),
            Drops::Features if shape.rank() > 1 => Some(shape.last().max(1)),
            Drops::Features | Drops::Samples => Some(1),
        }
    }

    /// The number under which the mask function knows what an element of a sample belongs to.
    fn number(self, shape: &Shape, element: usize) -> usize {
        match self {
            Drops::Elements => element_in_mask_order(shape, element),
            Drops::Channels => element / shape.dims().iter().skip(2).product::<usize>().max(1),
            Drops::Features if shape.rank() > 1 => element % shape.last().max(1),
            Drops::Features | Drops::Samples => 0,
            Drops::Weights => element,
        }
    }
}

/// `dropout[p=.../32768]`, or `dropout[p changes]`, with what is dropped if that is not single elements.
impl std::fmt::Display for Dropout {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let of = match self.drops {
            Drops::Elements => "",
            Drops::Channels => "channels, ",
            Drops::Samples => "samples, ",
            Drops::Features => "features, ",
            Drops::Weights => "weights, ",
        };
        match self.rate {
            DropRate::Constant(drop15) => write!(f, "dropout[{of}p={drop15}/32768]"),
            DropRate::Changing { .. } => write!(f, "dropout[{of}p changes]"),
        }
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
