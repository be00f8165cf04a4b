// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the passes know about a CUDA device, be it there or not.

use super::abi::KILN_GEMM_GROUP;
use super::geometry::{Machine, Tile};
use super::{ALIGNMENT, LANES};
use crate::backend::{Facts, Fusion, Grouping, HostMemory, ImageKernels, Storage, UpdatePlace};
use crate::graph::MemoryFormat;
use crate::Precision;

pub(super) fn facts(ordinal: usize, precision: Precision, machine: &Machine) -> Facts {
    Facts {
        name: format!("cuda:{ordinal}"),
        lanes: LANES,
        alignment: ALIGNMENT,
        host_memory: HostMemory::Copied,
        update_place: UpdatePlace::Flat,
        fusion: Fusion::AcrossLayers,
        grouping: grouping(precision, machine),
        precision,
        storage: Storage::Typed,
        image_format: MemoryFormat::ChannelsLast,
        images: ImageKernels::Precise,
    }
}

/// Which weight gradients share a launch. A multiprocessor holds four blocks of the smallest tile at a time;
/// a product that has them for all keeps the device busy.
fn grouping(precision: Precision, machine: &Machine) -> Grouping {
    let [rows, columns] = Tile::Small.sides();
    Grouping {
        fills: 4 * machine.multiprocessors * rows * columns,
        most: KILN_GEMM_GROUP as usize,
        whole: (precision != Precision::F32).then_some([rows, 8]),
    }
}
