// SPDX-License-Identifier: MIT OR Apache-2.0
//! All that a run of a plan gives a GPU to do, told in public: every launch, copy and fill, and what
//! the host computes in between.

use super::launch::{Attributes, Grid, Item, Launch, Residency};
use super::lower::{Kept, Scratch};
use super::transfer::padded;
use super::walks::Apart;
use crate::graph::InputId;
use crate::plan::{Buffer, BufferId, Bytes, Place, Plan};
use crate::DType;

/// The work of one run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanWork {
    /// Before a run for which they are not there: copies of parameters in the type and the order in which
    /// products read them. Updates keep them, so they are no part of a run among others.
    pub once: Vec<WorkItem>,
    /// From where its first input comes.
    pub feed: Feed,
    /// Before the first step: inputs and scalars go up together, samples that lie on the device are taken,
    /// and what products take in 16 bits is cast.
    pub before: Vec<WorkItem>,
    /// Of each step.
    pub steps: Vec<Vec<WorkItem>>,
    /// Behind the last step: each result comes down, where the run returns it. A step of training
    /// returns those that are one number.
    pub after: Vec<WorkItem>,
    /// Recurrent layers that make a launch for each step, forward or back, and why.
    pub apart: Vec<(String, Apart)>,
}

/// From where a run's first input comes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Feed {
    /// From the host.
    #[default]
    Host,
    /// From a data set that lies on the device, a byte for each element: the numbers of samples go up.
    Device,
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
    /// Those of them that change the type of values, and what they read and write.
    pub casts: Moved,
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
    pub(super) fn new(
        plan: &Plan,
        scratch: Scratch,
        steps: Vec<Option<Vec<Item>>>,
        feed: Feed,
    ) -> Self {
        let bytes = |buffer: &Buffer| buffer.ty.dtype.bytes() * buffer.ty.shape.elements();
        let uploaded = || {
            plan.buffers.iter().filter_map(|buffer| match buffer.place {
                Place::Uploaded(input, Bytes(place)) => Some((input, place, buffer)),
                _ => None,
            })
        };
        let is_taken = |input: InputId, buffer: &Buffer| {
            feed == Feed::Device && input.index() == 0 && buffer.ty.dtype == DType::F32
        };
        let (mut arena, mut numbers, mut takes) = (scratch.given_bytes(), 0, Vec::new());
        for (input, place, buffer) in uploaded() {
            if is_taken(input, buffer) {
                numbers += padded(size_of::<i32>() * buffer.ty.shape.samples());
                takes.push(WorkItem::Launch(taking(buffer)));
            } else {
                arena = arena.max(place + bytes(buffer));
            }
        }
        let arena = padded(arena);
        let copy = |way, bytes| WorkItem::Copy { way, bytes };
        let mut before = vec![copy(CopyWay::Up, arena + numbers), copy(CopyWay::Within, arena)];
        before.extend(takes);
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
        let trains = plan.stored_gradients().next().is_some();
        let returned = plan.outputs.iter().filter_map(|(_, id)| match plan.buffer(*id).place {
            Place::Arena(Bytes(place)) => Some((place, bytes(plan.buffer(*id)))),
            _ => None,
        });
        let after = match trains {
            // They lie together, and what is between them comes along.
            true => {
                let first = returned.clone().map(|(place, _)| place).min();
                let end = returned.map(|(place, bytes)| place + bytes).max();
                let both = first.zip(end).map(|(first, end)| end - first);
                both.map(|bytes| copy(CopyWay::Down, bytes)).into_iter().collect()
            }
            false => returned.map(|(_, bytes)| copy(CopyWay::Down, bytes)).collect(),
        };
        PlanWork { feed, once, before, steps, after, apart }
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
                    if launch.kernel.starts_with("cast_") {
                        totals.casts.add(launch.extra_bytes);
                    }
                }
                WorkItem::Copy { way, bytes } => totals.copies[*way as usize].add(*bytes),
                WorkItem::Fill { bytes } => totals.fills.add(*bytes),
                WorkItem::Host { bytes } => totals.host.add(*bytes),
            }
        }
        totals
    }
}

/// What takes samples from a table of bytes.
fn taking(buffer: &Buffer) -> KernelLaunch {
    let (elements, each) = (buffer.ty.shape.elements(), buffer.ty.shape.sample_elements());
    let (kernel, vector) =
        if each.is_multiple_of(4) { ("take_bytes", 4) } else { ("take_bytes_ragged", 1) };
    let Grid { blocks, threads, shared } = Grid::over(elements.div_ceil(vector));
    KernelLaunch {
        kernel: kernel.into(),
        blocks,
        threads: threads.iter().product(),
        shared,
        cooperative: false,
        cluster: None,
        extra_bytes: elements * (size_of::<u8>() + size_of::<f32>()),
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
