// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a launch asks for beyond its grid. It is checked as a device would; blocks of a cooperative
//! launch take turns, those of others run one after another.

use std::ffi::c_uint;

use crate::device::DeviceFacts;
use crate::function::Function;
use crate::status::Status;

/// `CUlaunchAttribute`: what it is, and 64 bytes of which it says what they mean.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct LaunchAttribute {
    id: c_uint,
    padding: [u8; 4],
    value: [u32; 16],
}

/// The attributes of a launch that are known here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Attributes {
    /// All blocks are to be on the device at the same time.
    pub(crate) cooperative: bool,
    /// Blocks of a cluster along x, y and z.
    pub(crate) cluster: Option<[u32; 3]>,
}

/// `CUlaunchAttributeID`.
mod id {
    pub(super) const IGNORE: u32 = 0;
    pub(super) const COOPERATIVE: u32 = 2;
    pub(super) const CLUSTER_DIMENSION: u32 = 4;
}

/// Blocks of a cluster that every device with clusters takes.
const MOST_CLUSTERED: u64 = 8;

impl Attributes {
    pub(crate) fn of(list: &[LaunchAttribute]) -> Result<Self, (Status, String)> {
        let mut found = Self::default();
        for LaunchAttribute { id, value, .. } in list {
            match *id {
                id::IGNORE => {}
                id::COOPERATIVE => found.cooperative = value[0] != 0,
                id::CLUSTER_DIMENSION => found.cluster = Some([value[0], value[1], value[2]]),
                id => {
                    let text = format!("launch attribute {id} is not simulated");
                    return Err((Status::NOT_SUPPORTED, text));
                }
            }
        }
        Ok(found)
    }

    /// Whether the device grants them to such a launch.
    pub(crate) fn check(
        &self,
        function: &Function,
        device: &DeviceFacts,
        [grid, block]: [[u32; 3]; 2],
        dynamic_bytes: u32,
    ) -> Result<(), (Status, String)> {
        if self.cooperative {
            let threads = block.iter().product();
            let per_multiprocessor =
                function.blocks_per_multiprocessor(device, threads, dynamic_bytes as usize);
            let room = u64::from(per_multiprocessor) * u64::from(device.multiprocessors);
            let blocks: u64 = grid.iter().map(|&extent| u64::from(extent)).product();
            if blocks > room {
                let text = format!("{blocks} blocks at the same time; there is room for {room}");
                return Err((Status::COOPERATIVE_LAUNCH_TOO_LARGE, text));
            }
        }
        let Some(cluster) = self.cluster else { return Ok(()) };
        if device.version() < 90 {
            let text = format!("clusters on sm_{}, which has none", device.version());
            return Err((Status::NOT_SUPPORTED, text));
        }
        let blocks: u64 = cluster.iter().map(|&extent| u64::from(extent)).product();
        let divides = grid.iter().zip(cluster).all(|(all, some)| some > 0 && all % some == 0);
        if divides && blocks <= MOST_CLUSTERED {
            return Ok(());
        }
        let text = format!("clusters of {cluster:?} blocks in a grid of {grid:?}");
        Err((Status::INVALID_CLUSTER_SIZE, text))
    }
}
