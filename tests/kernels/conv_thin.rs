// SPDX-License-Identifier: MIT OR Apache-2.0
//! The kernels of convolutions whose results see few channels each: depthwise ones, some with two results
//! for each channel, first layers, groups of four; strides, dilation, volumes, odd extents.

use crate::conv::{methods, Conv, Run, Way, CONVS, ODD, SAME, VOLUME};
use crate::driver::Gpu;
use crate::pooling::Case;

const THIN: [Conv; 10] = [
    // Depthwise, with two results for each of 5 channels.
    Conv { images: Case { channels: 5, ..ODD }, outputs: 10, groups: 5 },
    // A first layer.
    Conv { images: Case { channels: 3, ..SAME }, outputs: 16, groups: 1 },
    // Whole chunks of channels, each its own.
    Conv { images: Case { channels: 16, ..SAME }, outputs: 16, groups: 16 },
    // More channels than a block has columns, in a volume.
    Conv { images: Case { samples: 2, channels: 72, ..VOLUME }, outputs: 72, groups: 72 },
    Conv { images: Case { channels: 20, ..ODD }, outputs: 20, groups: 20 },
    Conv { images: Case { channels: 12, ..SAME }, outputs: 24, groups: 12 },
    Conv { images: Case { channels: 8, ..SAME }, outputs: 64, groups: 8 },
    // Four channels to a group, which has 12 results.
    Conv { images: Case { channels: 8, ..ODD }, outputs: 24, groups: 2 },
    Conv { images: Case { channels: 1, ..ODD }, outputs: 9, groups: 1 },
    CONVS[1],
];

pub(crate) fn run(gpu: &Gpu) {
    for method in methods() {
        for conv in gpu.cases(&THIN, &THIN[..4]) {
            for &splits in gpu.cases(&[1, 2], &[2]) {
                Run { gpu, method, way: Way::Thin, conv: *conv, splits }.all();
            }
        }
    }
}
