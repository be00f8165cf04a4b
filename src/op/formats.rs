// SPDX-License-Identifier: MIT OR Apache-2.0
//! In which memory formats operations take and yield images.

use super::{Dropout, Drops, Normalize, Op, Over, TensorType};
use crate::Shape;

/// What an operation asks of the memory format of images.
///
/// Channels are the second extent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Formats {
    /// All are row-major.
    Contiguous,
    /// The result and this many of the first inputs lie as the backend's image kernels want them.
    Images(usize),
    /// This many of the first inputs do, and the result is row-major.
    FromImages(usize),
    /// All lie in one format, whichever.
    Elementwise,
    /// As the operation whose further result this is.
    AsProducer,
}

impl Op {
    /// In which memory formats the operation takes and yields images, which are all values of rank 3
    /// and more.
    pub fn formats(&self, inputs: &[&TensorType]) -> Formats {
        match self {
            Op::Unary(_) | Op::UnaryGrad(_) | Op::Binary(_) | Op::MaskNonZero(_) | Op::Where => {
                Formats::Elementwise
            }
            Op::ByMode(_) | Op::Blend(_) => Formats::Elementwise,
            Op::Dropout(Dropout { drops: Drops::Samples, .. }) => Formats::Elementwise,
            Op::Dropout(Dropout { drops: Drops::Channels, .. }) => Formats::Images(1),
            Op::Dropout(Dropout { drops: Drops::Features | Drops::Weights, .. }) => {
                Formats::Contiguous
            }
            // Masks count the elements of a sample channels-last from rank 4 on.
            Op::Dropout(_) if inputs[0].shape.rank() >= 4 => Formats::Images(1),
            // Per channel: columns summed up.
            Op::SumTo(shape) if is_per_channel(shape, &inputs[0].shape) => Formats::Images(1),
            Op::ToFormat(_) => Formats::Images(0),
            Op::Conv(_) | Op::ConvInputGrad(..) => Formats::Images(1),
            Op::ConvWeightGrad(..) => Formats::FromImages(2),
            Op::MaxPool(_) | Op::AvgPool(_) | Op::AvgPoolGrad(..) => Formats::Images(1),
            Op::MaxPoolGrad(..) => Formats::Images(2),
            Op::Statistics(Over::Channels)
            | Op::StatisticsGrad(Over::Channels)
            | Op::Normalize(Normalize { over: Over::Channels, .. }) => Formats::Images(1),
            Op::NormalizeGrad(Normalize { over: Over::Channels, .. }) => Formats::Images(2),
            Op::Result(_) => Formats::AsProducer,
            _ => Formats::Contiguous,
        }
    }
}

/// Whether a tensor has one element per channel of an image that it broadcasts to.
pub(crate) fn is_per_channel(small: &Shape, image: &Shape) -> bool {
    let [_, channels, ..] = image.dims() else { return false };
    image.rank() >= 3
        && small.broadcasts_to(image)
        && small.elements() == *channels
        && (small.rank() + 1)
            .checked_sub(image.rank())
            .is_some_and(|axis| small.dims()[axis] == *channels)
}
