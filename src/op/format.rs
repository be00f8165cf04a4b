// SPDX-License-Identifier: MIT OR Apache-2.0
//! Orders of elements in memory.

use crate::Shape;

/// Order of a value's elements in memory, PyTorch's `memory_format`. Shapes, indices and meanings are
/// the same in both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MemoryFormat {
    /// Row-major: `[samples, channels, spatial...]` as it is written.
    #[default]
    Contiguous,
    /// `[samples, spatial..., channels]`, which image kernels are fast in.
    ChannelsLast,
}

impl MemoryFormat {
    /// Whether a shape has the same order in both formats.
    pub fn coincides(shape: &Shape) -> bool {
        let [_, channels, spatial @ ..] = shape.dims() else { return true };
        *channels <= 1 || spatial.iter().product::<usize>() <= 1
    }

    /// Where the element with a row-major index lies.
    pub fn place(self, shape: &Shape, element: usize) -> usize {
        let per_sample = shape.sample_elements().max(1);
        match self {
            MemoryFormat::Contiguous => element,
            MemoryFormat::ChannelsLast => {
                let within = channels_last(shape, element % per_sample);
                element - element % per_sample + within
            }
        }
    }

    /// Row-major elements in this order.
    pub fn pack<T: Copy>(self, shape: &Shape, values: Vec<T>) -> Vec<T> {
        match self {
            MemoryFormat::Contiguous => values,
            MemoryFormat::ChannelsLast => {
                let mut stored = values.clone();
                for (element, value) in values.into_iter().enumerate() {
                    stored[self.place(shape, element)] = value;
                }
                stored
            }
        }
    }

    /// Elements of this order, row-major.
    pub fn unpack<T: Copy>(self, shape: &Shape, stored: Vec<T>) -> Vec<T> {
        match self {
            MemoryFormat::Contiguous => stored,
            MemoryFormat::ChannelsLast => {
                (0..stored.len()).map(|element| stored[self.place(shape, element)]).collect()
            }
        }
    }
}

/// Number of an element of a sample `[channels, spatial...]` when channels are innermost.
pub(crate) fn channels_last(shape: &Shape, element: usize) -> usize {
    let channels = shape.dims()[1];
    let pixels = shape.sample_elements() / channels;
    (element % pixels) * channels + element / pixels
}
