// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a run takes on its way to the device: one copy up, and one to where kernels read.

use std::sync::Arc;

use super::calls::{self, DriverError};
use super::driver::{self, CudaEvent, CudaFunction, CudaStream};
use super::gpu::Gpu;
use super::lent::Lent;
use super::memory::{Address, DeviceMemory, Pinned};
use super::table::Rows;
use super::transfer::{padded, tensor_bytes};
use super::{locked, Cuda};
use crate::backend::Run;
use crate::plan::{Bytes, Place};
use crate::{Result, Tensor};

/// Inputs on the way to the device, on a stream of their own and in turns: while a plan runs on
/// one batch, the next is already copied to staging memory, from where the plan's own stream takes
/// it when its arena is free.
#[derive(Debug)]
pub(super) struct Uploads {
    stream: Arc<CudaStream>,
    turns: [Option<Turn>; 2],
    next: usize,
}

/// Something that a run takes, and its place in bytes from the arena's beginning.
pub(super) struct Part<'a> {
    pub(super) place: usize,
    pub(super) source: Source<'a>,
}

/// Where it comes from.
pub(super) enum Source<'a> {
    /// The host's memory.
    Host(&'a [u8]),
    /// Memory of the host's from which the device copies by itself.
    Lent(Arc<Lent>),
    /// Rows of a table on the device: their numbers go up, and a kernel takes them.
    Rows(Arc<Rows>, CudaFunction),
}

#[derive(Debug)]
struct Turn {
    pinned: Pinned,
    staged: DeviceMemory,
    bytes: usize,
    /// What was lent for the last copy.
    lent: Vec<Arc<Lent>>,
    /// Recorded on the uploads' stream behind the copies from the host.
    copied: CudaEvent,
    /// Recorded on the plan's stream behind what reads `staged`.
    taken: CudaEvent,
}

/// Where the parts of a run lie in staging memory: as in the arena, and row numbers behind.
struct Packed<'a> {
    parts: &'a [Part<'a>],
    /// Bytes that go on to the arena.
    arena: usize,
    /// For each part that is rows, where their numbers are.
    numbers: Vec<usize>,
    /// Bytes in all.
    end: usize,
}

impl Cuda {
    /// Brings scalars and inputs to the device.
    pub(super) fn upload(&mut self, run: &Run<'_>) -> Result<()> {
        let program = self.program(run)?;
        let given = program.given(run)?;
        let mut parts = vec![Part { place: 0, source: Source::Host(&given) }];
        let arena = self.arenas[run.memory.plan.0 as usize].address();
        for buffer in &run.plan.buffers {
            if let Place::Uploaded(input, Bytes(place)) = buffer.place {
                let source = self.source(&run.inputs[input.index()])?;
                parts.push(Part { place, source });
            }
        }
        parts.sort_by_key(|part| part.place);
        self.uploads.copy(&self.gpu, &self.lanes[0], arena, &parts)
    }

    /// From where a tensor comes: what another device knows of it, this one does not.
    fn source<'t>(&self, tensor: &'t Tensor) -> Result<Source<'t>> {
        let known = tensor.elsewhere().map(|elsewhere| elsewhere.clone().into_any());
        match known.map(|known| known.downcast::<Lent>()) {
            Some(Ok(lent)) if lent.is_of(&self.gpu) => return Ok(Source::Lent(lent)),
            Some(Err(known)) => {
                let rows = known.downcast::<Rows>().ok();
                if let Some(rows) = rows.filter(|rows| rows.are_on(&self.gpu)) {
                    let function = locked(&self.kernels).get(&self.gpu, rows.kernel(), 0)?;
                    return Ok(Source::Rows(rows, function));
                }
            }
            Some(Ok(_)) | None => {}
        }
        Ok(Source::Host(tensor_bytes(tensor)?))
    }
}

impl Uploads {
    pub(super) fn new(stream: Arc<CudaStream>) -> Self {
        Uploads { stream, turns: [None, None], next: 0 }
    }

    /// Brings parts, in the order of their places, to where a plan on `lane` reads them, before anything
    /// issued on it later. Bytes of the host may be changed as soon as this returns.
    pub(super) fn copy(
        &mut self,
        gpu: &Gpu,
        lane: &CudaStream,
        arena: Address,
        parts: &[Part<'_>],
    ) -> Result<()> {
        gpu.bind()?;
        let packed = Packed::of(parts);
        let index = self.next;
        self.next = (index + 1) % self.turns.len();
        let turn = take_turn(gpu, &self.stream, &mut self.turns[index], packed.end)?;
        turn.pack(&packed);
        let uploaded =
            turn.upload(&self.stream, &packed).and_then(|()| turn.hand_over(lane, arena, &packed));
        if let Err(error) = uploaded {
            // No event may stand behind what was issued; only then is the turn's memory free again.
            let _ = self.stream.synchronize().and_then(|()| lane.synchronize());
            self.turns[index] = None;
            return Err(gpu.error("uploading inputs", error));
        }
        Ok(())
    }

    /// Waits until everything has gone up.
    pub(super) fn sync(&self) -> Result<(), DriverError> {
        self.stream.synchronize()
    }
}

/// The parts that are rows, in order.
fn rows_of<'p>(
    parts: &'p [Part<'_>],
) -> impl Iterator<Item = (usize, &'p Rows, &'p CudaFunction)> + 'p {
    parts.iter().filter_map(|part| match &part.source {
        Source::Rows(rows, function) => Some((part.place, &**rows, function)),
        Source::Host(_) | Source::Lent(_) => None,
    })
}

impl<'a> Packed<'a> {
    fn of(parts: &'a [Part<'a>]) -> Self {
        let bytes = |part: &Part<'_>| match &part.source {
            Source::Host(bytes) => part.place + bytes.len(),
            Source::Lent(lent) => part.place + lent.bytes().len(),
            Source::Rows(..) => 0,
        };
        let arena = padded(parts.iter().map(bytes).max().unwrap_or(0));
        let mut end = arena;
        let mut numbers = Vec::new();
        for (_, rows, _) in rows_of(parts) {
            numbers.push(end);
            end += padded(size_of_val(rows.numbers()));
        }
        Packed { parts, arena, numbers, end }
    }
}

impl Turn {
    /// Writes to pinned memory what does not lie in such already.
    fn pack(&mut self, packed: &Packed<'_>) {
        self.lent.clear();
        for Part { place, source } in packed.parts {
            match source {
                Source::Host(bytes) => self.put(*place, bytes),
                Source::Lent(lent) => self.lent.push(Arc::clone(lent)),
                Source::Rows(..) => {}
            }
        }
        for ((_, rows, _), &at) in rows_of(packed.parts).zip(&packed.numbers) {
            self.put(at, bytemuck::cast_slice(rows.numbers()));
        }
    }

    fn put(&mut self, place: usize, bytes: &[u8]) {
        self.pinned.bytes_mut()[place..place + bytes.len()].copy_from_slice(bytes);
    }

    /// From the host to staging memory, once the staging memory's last content was taken.
    fn upload(&mut self, stream: &CudaStream, packed: &Packed<'_>) -> Result<(), DriverError> {
        stream.wait(&self.taken)?;
        let staged = self.staged.address();
        let copy = |place: usize, bytes: &[u8]| match bytes {
            [] => Ok(()),
            // SAFETY: the staging memory has room for all that is packed; the bytes, pinned here or lent,
            // stay as they are until `copied`, recorded below, has passed.
            _ => unsafe { driver::copy_up(staged.plus(place).0, bytes, stream) },
        };
        let mut at = 0;
        for Part { place, source } in packed.parts {
            if let Source::Lent(lent) = source {
                copy(at, &self.pinned.bytes()[at..*place])?;
                copy(*place, lent.bytes())?;
                at = padded(place + lent.bytes().len());
            }
        }
        copy(at, &self.pinned.bytes()[at..packed.end])?;
        self.copied.record(stream)
    }

    /// From staging memory to where the plan reads.
    fn hand_over(
        &self,
        lane: &CudaStream,
        arena: Address,
        packed: &Packed<'_>,
    ) -> Result<(), DriverError> {
        lane.wait(&self.copied)?;
        let staged = self.staged.address();
        // SAFETY: both are device memory of this size, and they do not overlap; the staged bytes stay as
        // they are until `taken`, recorded below, has passed.
        unsafe {
            calls::cuMemcpyDtoDAsync_v2(arena.0, staged.0, packed.arena, lane.cu_stream())?;
        }
        for ((place, rows, function), &at) in rows_of(packed.parts).zip(&packed.numbers) {
            let launch = rows.taking(staged.plus(at), arena.plus(place));
            // SAFETY: the parameters are those of the kernel; table, row numbers and arena are device
            // memory, which is freed only when what was issued in it is done.
            unsafe { launch.issue(function.cu_function(), lane.cu_stream()) }?;
        }
        self.taken.record(lane)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        // The device may still read here. What it failed at is told to who asks for results.
        let _ = self.copied.synchronize().and_then(|()| self.taken.synchronize());
    }
}

/// A turn with room for this many bytes whose pinned memory is free again.
fn take_turn<'a>(
    gpu: &Gpu,
    stream: &CudaStream,
    turn: &'a mut Option<Turn>,
    bytes: usize,
) -> Result<&'a mut Turn> {
    let waiting = |error| gpu.error("waiting for an upload", error);
    if let Some(used) = turn.take() {
        used.copied.synchronize().map_err(waiting)?;
        if used.bytes >= bytes {
            return Ok(turn.insert(used));
        }
    }
    let event = || {
        let event = gpu.context().new_event(None);
        event.map_err(|error| gpu.error("making an event", error))
    };
    Ok(turn.insert(Turn {
        pinned: Pinned::new(gpu, bytes)?,
        staged: DeviceMemory::zeroed(gpu, stream, bytes)?,
        bytes,
        lent: Vec::new(),
        copied: event()?,
        taken: event()?,
    }))
}
