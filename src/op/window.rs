// SPDX-License-Identifier: MIT OR Apache-2.0
//! Windows that slide over images: the geometry that convolutions and pooling share.

use super::Mismatch;
use crate::Shape;

/// Spatial extents that windows know; images with fewer count as having leading extents of 1.
pub(crate) const SPATIAL: usize = 3;

/// A window that slides over the spatial extents of `[samples, channels, spatial...]`.
///
/// Extents are depth, height and width; of images with fewer the first ones are 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Number of taps.
    pub kernel: [usize; SPATIAL],
    /// Distance between places of the window.
    pub stride: [usize; SPATIAL],
    /// Distance between taps.
    pub dilation: [usize; SPATIAL],
    /// Elements added before and after each extent.
    pub padding: [[usize; 2]; SPATIAL],
    /// How a last place that hangs over the end is counted.
    pub rounding: Rounding,
}

/// Whether the last place of a window may hang over the padded end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rounding {
    /// It may not.
    #[default]
    Floor,
    /// It may, if it begins inside the image or the padding before it: PyTorch's `ceil_mode`.
    Ceil,
}

/// The spatial extents of an image, leading ones filled in.
pub(crate) fn spatial(image: &Shape) -> [usize; SPATIAL] {
    let mut extents = [1; SPATIAL];
    let own = image.dims().get(2..).unwrap_or(&[]);
    for (extent, own) in extents.iter_mut().rev().zip(own.iter().rev()) {
        *extent = *own;
    }
    extents
}

impl Window {
    /// One element at each place.
    pub const ONE: Window = Window {
        kernel: [1; SPATIAL],
        stride: [1; SPATIAL],
        dilation: [1; SPATIAL],
        padding: [[0; 2]; SPATIAL],
        rounding: Rounding::Floor,
    };

    /// Places of the window along each extent of an image.
    ///
    /// # Errors
    /// A [`Mismatch`] if the window does not fit into the padded image.
    pub fn places(&self, image: &Shape) -> Result<[usize; SPATIAL], Mismatch> {
        let extents = spatial(image);
        let mut places = [1; SPATIAL];
        for axis in 0..SPATIAL {
            if [self.kernel[axis], self.stride[axis], self.dilation[axis]].contains(&0) {
                return Err(Mismatch::new("a window of 1 or more in all respects", 0));
            }
            // Numbers that no image has stay so in sums and products, since none wraps.
            let [before, after] = self.padding[axis];
            let reach = self.reach(axis);
            let padded = extents[axis].saturating_add(before).saturating_add(after);
            if padded > Shape::MOST_ELEMENTS {
                let expected = format!("at most {} with the padding", Shape::MOST_ELEMENTS);
                return Err(Mismatch::new(expected, padded));
            }
            let Some(room) = padded.checked_sub(reach) else {
                let expected = format!("an image whose extents hold a window of {reach}");
                return Err(Mismatch::new(expected, image));
            };
            let stride = self.stride[axis];
            places[axis] = match self.rounding {
                Rounding::Floor => room / stride + 1,
                Rounding::Ceil => {
                    let places = room.div_ceil(stride) + 1;
                    // The last place must begin inside the image or the padding before it.
                    match (places - 1).saturating_mul(stride) >= extents[axis] + before {
                        true => places - 1,
                        false => places,
                    }
                }
            };
        }
        Ok(places)
    }

    /// Whether the window has a place all of whose taps lie in the padding, along some extent.
    ///
    /// # Errors
    /// As [`places`](Window::places).
    pub fn has_empty_place(&self, image: &Shape) -> Result<bool, Mismatch> {
        let (extents, places) = (spatial(image), self.places(image)?);
        let is_empty = |axis: usize, place: usize| {
            let (first, image) = (place * self.stride[axis], self.padding[axis][0]);
            // The first tap that is not in the padding before the image.
            let tap = image.saturating_sub(first).div_ceil(self.dilation[axis]);
            tap >= self.kernel[axis] || first + tap * self.dilation[axis] >= image + extents[axis]
        };
        // Only places at either end reach into the padding alone.
        let at_ends = |axis: usize| [0, places[axis].saturating_sub(1)];
        Ok((0..SPATIAL).any(|axis| at_ends(axis).into_iter().any(|place| is_empty(axis, place))))
    }

    /// Elements from the first tap to the last one.
    pub fn reach(&self, axis: usize) -> usize {
        self.dilation[axis].saturating_mul(self.kernel[axis].saturating_sub(1)).saturating_add(1)
    }

    /// Where a tap of the window at a place lies in the image; `None` in the padding.
    pub fn source(
        &self,
        extents: [usize; SPATIAL],
        place: [usize; SPATIAL],
        tap: [usize; SPATIAL],
    ) -> Option<usize> {
        let mut source = 0;
        for axis in 0..SPATIAL {
            let padded = place[axis] * self.stride[axis] + tap[axis] * self.dilation[axis];
            let at = padded.checked_sub(self.padding[axis][0])?;
            if at >= extents[axis] {
                return None;
            }
            source = source * extents[axis] + at;
        }
        Some(source)
    }

    /// Number of taps.
    pub fn taps(&self) -> usize {
        Shape::from(self.kernel).elements()
    }
}

/// All positions within extents, row-major.
pub(super) fn positions(extents: [usize; SPATIAL]) -> impl Iterator<Item = [usize; SPATIAL]> {
    let [depth, height, width] = extents;
    (0..depth).flat_map(move |d| (0..height).flat_map(move |h| (0..width).map(move |w| [d, h, w])))
}

/// The shape `[samples, channels, spatial...]` with other channels and spatial extents, of the rank
/// of an image.
pub(super) fn image_shape(image: &Shape, channels: usize, extents: [usize; SPATIAL]) -> Shape {
    let spatial = image.rank() - 2;
    let mut dims = vec![image.samples(), channels];
    dims.extend(&extents[SPATIAL - spatial..]);
    Shape::from(dims)
}
