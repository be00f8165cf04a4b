// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sums over taps, as a target sees them: the forward pass, and its reverse as several such passes.

use super::shape::{ConvShape, Extent, AXES};

/// Along one extent: target `first + step * i`, for `i` below `count`, sums for each tap what lies at
/// `stride * i + offset` in the source, if that is not outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Axis {
    pub(super) first: usize,
    pub(super) step: usize,
    pub(super) count: usize,
    pub(super) stride: usize,
    /// Extent of the source.
    pub(super) source: usize,
    /// Extent of the target.
    pub(super) target: usize,
    pub(super) taps: Vec<Tap>,
}

/// A tap of the window, and where it looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tap {
    pub(super) tap: usize,
    pub(super) offset: isize,
}

/// Which channels of the source go to which of the target, and where their weights lie: those of one
/// group at `group * channels[0] * channels[1] * taps + from * steps[0] + to * steps[1] + tap`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mixing {
    pub(super) groups: usize,
    /// Channels of a group: of the source, of the target.
    pub(super) channels: [usize; 2],
    /// Distance in the weights between such channels.
    pub(super) steps: [usize; 2],
    pub(super) taps: usize,
}

/// Targets that see the same taps: an axis for each extent.
pub(super) type Sweep = [Axis; AXES];

impl Axis {
    /// Where `i` looks with a tap.
    pub(super) fn at(&self, i: usize, tap: Tap) -> Option<usize> {
        let at = (i * self.stride).checked_add_signed(tap.offset)?;
        (at < self.source).then_some(at)
    }

    /// The least and the largest offset; none without taps.
    pub(super) fn reach(&self) -> Option<[isize; 2]> {
        let offsets = || self.taps.iter().map(|tap| tap.offset);
        Some([offsets().min()?, offsets().max()?])
    }
}

impl Extent {
    fn forward(&self) -> Axis {
        let offset = |tap| (tap * self.dilation) as isize - self.before as isize;
        Axis {
            first: 0,
            step: 1,
            count: self.places,
            stride: self.stride,
            source: self.image,
            target: self.places,
            taps: (0..self.kernel).map(|tap| Tap { tap, offset: offset(tap) }).collect(),
        }
    }

    /// Elements of the image that lie `stride` apart see the same taps, at neighbouring places.
    fn backward(&self) -> Vec<Axis> {
        let stride = self.stride as isize;
        let axis = |first: usize| {
            let from = |tap| first as isize + self.before as isize - (tap * self.dilation) as isize;
            let taps = (0..self.kernel).filter(|&tap| from(tap) % stride == 0);
            Axis {
                first,
                step: self.stride,
                count: (self.image - first).div_ceil(self.stride),
                stride: 1,
                source: self.places,
                target: self.image,
                taps: taps.map(|tap| Tap { tap, offset: from(tap) / stride }).collect(),
            }
        };
        (0..self.stride.min(self.image)).map(axis).collect()
    }
}

impl ConvShape {
    /// From images to results.
    pub(super) fn forward(&self) -> (Mixing, Vec<Sweep>) {
        let sweep = self.extents.each_ref().map(Extent::forward);
        let (inputs, taps) = (self.inputs_of_group(), self.taps());
        let mixing = Mixing {
            groups: self.groups,
            channels: [inputs, self.outputs_of_group()],
            steps: [taps, inputs * taps],
            taps,
        };
        (mixing, vec![sweep])
    }

    /// From gradients of results to those of images.
    pub(super) fn backward(&self) -> (Mixing, Vec<Sweep>) {
        let [depth, height, width] = self.extents.each_ref().map(Extent::backward);
        let mut sweeps = Vec::new();
        for depth in &depth {
            for height in &height {
                for width in &width {
                    sweeps.push([depth.clone(), height.clone(), width.clone()]);
                }
            }
        }
        let (inputs, taps) = (self.inputs_of_group(), self.taps());
        let mixing = Mixing {
            groups: self.groups,
            channels: [self.outputs_of_group(), inputs],
            steps: [inputs * taps, taps],
            taps,
        };
        (mixing, sweeps)
    }
}

/// Number of a tap of the window.
pub(super) fn tap_index(shape: &[usize; AXES], [depth, height, width]: [usize; AXES]) -> usize {
    (depth * shape[1] + height) * shape[2] + width
}
