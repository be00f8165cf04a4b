// SPDX-License-Identifier: MIT OR Apache-2.0
//! All that a run of a plan gives a GPU to do, told in public: every launch, copy and fill, and what
//! the host computes in between.

use super::launch::{Attributes, Item, Launch, Residency};
use super::lower::{Kept, Scratch};
use super::transfer::padded;
use super::walks::Apart;
use crate::plan::{Buffer, BufferId, Place, Plan};

/// The work of one run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanWork {
    /// Before a run for which they are not there: copies of parameters in the type and the order in which
    /// products read them. Updates keep them, so they are no part of a run among others.
    pub once: Vec<WorkItem>,
    /// Before the first step: inputs and scalars go up, and inputs that products take in 16 bits are cast.
    pub before: Vec<WorkItem>,
    /// Of each step.
    pub steps: Vec<Vec<WorkItem>>,
    /// Behind the last step: each result comes down, where the run returns it. A step of training
    /// returns those that are one number.
    pub after: Vec<WorkItem>,
    /// Recurrent layers that make a launch for each step, forward or back, and why.
    pub apart: Vec<(String, Apart)>,
}

/// A piece of work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WorkItem {
    /// A kernel runs.
    Launch(KernelLaunch),
    /// Bytes are copied.
    Copy {
        /// From where to where.
        way: CopyWay,
        /// How many.
        bytes: usize,
    },
    /// A number is repeated.
    Fill {
        /// How many bytes it fills.
        bytes: usize,
    },
    /// The host computes what no kernel does.
    Host {
        /// Bytes of operands and results, which travel.
        bytes: usize,
    },
}

/// From where to where a copy goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyWay {
    /// From the host to the device.
    Up,
    /// Within the device.
    Within,
    /// From the device to the host.
    Down,
}

/// A kernel launch of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelLaunch {
    /// The kernel's name.
    pub kernel: String,
    /// Blocks of the grid along x, y and z.
    pub blocks: [u32; 3],
    /// Threads of a block.
    pub threads: u32,
    /// Dynamic shared memory of a block, in bytes.
    pub shared: u32,
    /// Whether all blocks must be on the device at the same time.
    pub cooperative: bool,
    /// Blocks of a cluster along x, y and z, if they are joined to such.
    pub cluster: Option<[u32; 3]>,
    /// Bytes that it moves beyond those that the plan counts for its step: casts.
    pub extra_bytes: usize,
}

/// Sums over the work of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WorkTotals {
    /// Kernels launched.
    pub launches: usize,
    /// Bytes that launches move beyond those that the plan counts for its steps.
    pub extra_bytes: usize,
    /// Copies up, within the device, and down.
    pub copies: [Moved; 3],
    /// Fills.
    pub fills: Moved,
    /// Steps that the host computes.
    pub host: Moved,
}

/// A number of pieces of work, and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// How many.
    pub count: usize,
    /// Their bytes together.
    pub bytes: usize,
}

impl PlanWork {
    pub(super) fn new(plan: &Plan, scratch: Scratch, steps: Vec<Option<Vec<Item>>>) -> Self {
        let bytes = |buffer: &Buffer| buffer.ty.dtype.bytes() * buffer.ty.shape.elements();
        let uploaded = plan.buffers.iter().filter(|b| matches!(b.place, Place::Uploaded(..)));
        let parts: Vec<usize> =
            std::iter::once(scratch.given_bytes()).chain(uploaded.map(bytes)).collect();
        let up = parts.iter().map(|&part| padded(part)).sum();
        let mut before = vec![WorkItem::Copy { way: CopyWay::Up, bytes: up }];
        let within = |bytes| WorkItem::Copy { way: CopyWay::Within, bytes };
        before.extend(parts.into_iter().filter(|&bytes| bytes > 0).map(within));
        let mut apart: Vec<(String, Apart)> = Vec::new();
        for layer in scratch.apart {
            if !apart.contains(&layer) {
                apart.push(layer);
            }
        }
        before.extend(told(scratch.prologue.into_iter().map(Item::from)));
        let mut once: Vec<WorkItem> = told(scratch.copies.into_iter().map(Item::from)).collect();
        if scratch.kept == Kept::Outdated {
            before.append(&mut once);
        }
        let sizes = |ids: &mut dyn Iterator<Item = BufferId>| -> usize {
            ids.map(|id| bytes(plan.buffer(id))).sum()
        };
        let steps = plan.steps.iter().zip(steps).map(|(step, items)| match items {
            Some(items) => told(items.into_iter()).collect(),
            None => {
                let read = sizes(&mut step.reads.iter().flatten().copied());
                let written = sizes(&mut step.writes.iter().copied());
                vec![WorkItem::Host { bytes: read + written }]
            }
        });
        let steps = steps.collect();
        let in_arena = |id: &BufferId| matches!(plan.buffer(*id).place, Place::Arena(_));
        let trains = plan.stored_gradients().next().is_some();
        let returned = plan.outputs.iter().map(|(_, buffer)| *buffer).filter(in_arena);
        let down = returned
            .map(|id| plan.buffer(id))
            .filter(|buffer| !trains || buffer.ty.shape.elements() == 1);
        let down = down.map(|buffer| WorkItem::Copy { way: CopyWay::Down, bytes: bytes(buffer) });
        PlanWork { once, before, steps, after: down.collect(), apart }
    }

    /// Every piece of work of a run among others, in order.
    pub fn items(&self) -> impl Iterator<Item = &WorkItem> {
        self.before.iter().chain(self.steps.iter().flatten()).chain(&self.after)
    }

    /// Sums over the work.
    pub fn totals(&self) -> WorkTotals {
        let mut totals = WorkTotals::default();
        for item in self.items() {
            match item {
                WorkItem::Launch(launch) => {
                    totals.launches += 1;
                    totals.extra_bytes += launch.extra_bytes;
                }
                WorkItem::Copy { way, bytes } => totals.copies[*way as usize].add(*bytes),
                WorkItem::Fill { bytes } => totals.fills.add(*bytes),
                WorkItem::Host { bytes } => totals.host.add(*bytes),
            }
        }
        totals
    }
}

impl Moved {
    fn add(&mut self, bytes: usize) {
        self.count += 1;
        self.bytes += bytes;
    }
}

/// Items in public terms, without those that do nothing.
fn told(items: impl Iterator<Item = Item>) -> impl Iterator<Item = WorkItem> {
    items.filter(|item| !item.is_empty()).map(|item| match item {
        Item::Launch(launch) => WorkItem::Launch(launch.into()),
        Item::Copy(copy) => WorkItem::Copy { way: CopyWay::Within, bytes: copy.bytes },
        Item::Fill(fill) => WorkItem::Fill { bytes: fill.bytes() },
    })
}

impl From<Launch> for KernelLaunch {
    fn from(launch: Launch) -> Self {
        let Launch { kernel, grid, attributes: Attributes { residency, cluster }, .. } = launch;
        KernelLaunch {
            kernel,
            blocks: grid.blocks,
            threads: grid.threads.iter().product(),
            shared: grid.shared,
            cooperative: residency == Residency::All,
            cluster,
            extra_bytes: launch.extra_bytes,
        }
    }
}
