// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a convolution is, in numbers.

/// Spatial extents; images with fewer have leading ones of 1.
pub(super) const AXES: usize = 3;

/// One spatial extent of images under a sliding window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    /// Elements of the image.
    pub(crate) image: usize,
    /// Places of the window.
    pub(crate) places: usize,
    /// Taps of the window.
    pub(crate) kernel: usize,
    /// Distance between places.
    pub(crate) stride: usize,
    /// Distance between taps.
    pub(crate) dilation: usize,
    /// Elements of padding before the image.
    pub(crate) before: usize,
}

/// A convolution: `x [samples, image..., inputs]`, `y [samples, places..., outputs]`, weights
/// `[outputs, inputs / groups, taps...]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ConvShape {
    /// Samples of the batch.
    pub(crate) samples: usize,
    /// Groups of channels.
    pub(crate) groups: usize,
    /// Channels of the image.
    pub(crate) inputs: usize,
    /// Channels of the result.
    pub(crate) outputs: usize,
    /// Depth, height and width.
    pub(crate) extents: [Extent; AXES],
}

impl Extent {
    /// An extent of so many elements of which each is a place.
    fn pointwise(image: usize) -> Self {
        Extent { image, places: image, kernel: 1, stride: 1, dilation: 1, before: 0 }
    }

    fn is_pointwise(&self) -> bool {
        *self == Extent::pointwise(self.image)
    }

    /// Where a tap at a place lies in the image, if it does not lie in the padding.
    pub(crate) fn source(&self, place: usize, tap: usize) -> Option<usize> {
        let at = (place * self.stride + tap * self.dilation).checked_sub(self.before)?;
        (at < self.image).then_some(at)
    }

    /// The places at which a tap lies in the image: from, to.
    pub(super) fn places_of(&self, tap: usize) -> [usize; 2] {
        let at = tap * self.dilation;
        let first = self.before.saturating_sub(at).div_ceil(self.stride);
        let end = match (self.image + self.before).checked_sub(at + 1) {
            Some(room) => room / self.stride + 1,
            None => 0,
        };
        let end = end.min(self.places);
        [first.min(end), end]
    }
}

impl ConvShape {
    /// Places of an image.
    pub(crate) fn pixels(&self) -> usize {
        self.extents.iter().map(|extent| extent.image).product()
    }

    /// Places of a result.
    pub(crate) fn places(&self) -> usize {
        self.extents.iter().map(|extent| extent.places).product()
    }

    /// Taps of the window.
    pub(crate) fn taps(&self) -> usize {
        self.extents.iter().map(|extent| extent.kernel).product()
    }

    /// Elements of all images.
    pub(crate) fn x_len(&self) -> usize {
        self.samples * self.pixels() * self.inputs
    }

    /// Elements of all results.
    pub(crate) fn y_len(&self) -> usize {
        self.samples * self.places() * self.outputs
    }

    /// Elements of the weights.
    pub(crate) fn weight_len(&self) -> usize {
        self.outputs * self.inputs_of_group() * self.taps()
    }

    /// Inputs that an output sees.
    pub(super) fn inputs_of_group(&self) -> usize {
        self.inputs / self.groups
    }

    /// Outputs that see the same inputs.
    pub(super) fn outputs_of_group(&self) -> usize {
        self.outputs / self.groups
    }

    /// Whether each output sees one input, its own.
    pub(crate) fn is_depthwise(&self) -> bool {
        self.groups > 1 && self.inputs == self.groups && self.outputs == self.groups
    }

    /// The same convolution with extents made one where no window reaches from pixel to pixel.
    pub(super) fn flat(mut self) -> Self {
        let [depth, height, width] = &mut self.extents;
        if depth.is_pointwise() && height.is_pointwise() {
            *height = Extent::pointwise(depth.image * height.image);
            *depth = Extent::pointwise(1);
            if width.is_pointwise() {
                *width = Extent::pointwise(self.samples * height.image * width.image);
                *height = Extent::pointwise(1);
                self.samples = 1;
            }
        }
        self
    }
}
