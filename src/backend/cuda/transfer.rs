// SPDX-License-Identifier: MIT OR Apache-2.0
//! Copies between host and device.

use std::collections::VecDeque;
use std::mem::offset_of;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cudarc::driver::{result, CudaEvent, CudaStream, DriverError};

use super::abi::KilnScalars;
use super::gpu::Gpu;
use super::memory::{Address, DeviceMemory, Pinned};
use crate::backend::Pending;
use crate::{Result, Tensor};

/// Writes to the device and waits until it is done.
pub(super) fn write_now(gpu: &Gpu, stream: &CudaStream, at: Address, bytes: &[u8]) -> Result<()> {
    if bytes.is_empty() {
        return Ok(());
    }
    gpu.bind()?;
    // SAFETY: the caller's range lies in device memory; the bytes live until the copy is done,
    // which is waited for.
    unsafe { result::memcpy_htod_async(at.0, bytes, stream.cu_stream()) }
        .and_then(|()| stream.synchronize())
        .map_err(|error| gpu.error("copying to the device", error))
}

/// Reads from the device when everything before on the stream is done.
pub(super) fn read_now(
    gpu: &Gpu,
    stream: &CudaStream,
    at: Address,
    bytes: &mut [u8],
) -> Result<()> {
    if bytes.is_empty() {
        return Ok(());
    }
    gpu.bind()?;
    // SAFETY: as in `write_now`.
    unsafe { result::memcpy_dtoh_async(bytes, at.0, stream.cu_stream()) }
        .and_then(|()| stream.synchronize())
        .map_err(|error| gpu.error("copying from the device", error))
}

/// Inputs on the way to the device, on a stream of their own and in turns: while a plan runs on
/// one batch, the next is already copied to staging memory, from where the plan's own stream takes
/// it when its arena is free.
#[derive(Debug)]
pub(super) struct Uploads {
    stream: Arc<CudaStream>,
    turns: [Option<Turn>; 2],
    next: usize,
}

#[derive(Debug)]
struct Turn {
    pinned: Pinned,
    staged: DeviceMemory,
    bytes: usize,
    /// Recorded on the uploads' stream behind the copy from `pinned`.
    copied: CudaEvent,
    /// Recorded on the plan's stream behind the copies from `staged`.
    taken: CudaEvent,
}

impl Uploads {
    pub(super) fn new(stream: Arc<CudaStream>) -> Self {
        Uploads { stream, turns: [None, None], next: 0 }
    }

    /// Brings parts to where a plan on `lane` reads them, before anything issued on it later. The
    /// parts may be changed as soon as this returns.
    pub(super) fn copy(
        &mut self,
        gpu: &Gpu,
        lane: &CudaStream,
        parts: &[(Address, &[u8])],
    ) -> Result<()> {
        gpu.bind()?;
        let needed: usize = parts.iter().map(|(_, bytes)| padded(bytes.len())).sum();
        let index = self.next;
        self.next = (index + 1) % self.turns.len();
        let turn = take_turn(gpu, &self.stream, &mut self.turns[index], needed)?;
        let mut at = 0;
        for (_, bytes) in parts {
            turn.pinned.bytes_mut()[at..at + bytes.len()].copy_from_slice(bytes);
            at += padded(bytes.len());
        }
        let uploaded = turn.upload(&self.stream, needed).and_then(|()| turn.hand_over(lane, parts));
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

impl Turn {
    /// From pinned to staging memory, once the staging memory's last content was taken.
    fn upload(&mut self, stream: &CudaStream, bytes: usize) -> Result<(), DriverError> {
        stream.wait(&self.taken)?;
        let (staged, pinned) = (self.staged.address(), &self.pinned.bytes()[..bytes]);
        // SAFETY: the staging memory has at least as many bytes; the pinned ones stay as they are
        // until `copied`, recorded here, has passed.
        unsafe { result::memcpy_htod_async(staged.0, pinned, stream.cu_stream()) }?;
        self.copied.record(stream)
    }

    /// From staging memory to where the plan reads.
    fn hand_over(&self, lane: &CudaStream, parts: &[(Address, &[u8])]) -> Result<(), DriverError> {
        lane.wait(&self.copied)?;
        let mut at = 0;
        for (address, bytes) in parts {
            if !bytes.is_empty() {
                let staged = self.staged.address().plus(at);
                // SAFETY: both are device memory of this size, and they do not overlap; the staged
                // bytes stay as they are until `taken`, recorded below, has passed.
                unsafe {
                    result::memcpy_dtod_async(address.0, staged.0, bytes.len(), lane.cu_stream())
                }?;
            }
            at += padded(bytes.len());
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
        copied: event()?,
        taken: event()?,
    }))
}

/// Outputs on the way from the device. Pinned memory holds them until they have arrived and is then
/// used again: whoever keeps a number keeps nothing else.
#[derive(Debug, Default)]
pub(super) struct Downloads {
    coming: VecDeque<Arc<Download>>,
    landings: Landings,
}

/// What is to be brought back: a number of elements of the plan's output at a position.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    pub(super) output: usize,
    pub(super) from: Address,
    pub(super) count: usize,
}

/// Outputs of one run.
#[derive(Debug)]
pub(super) struct Download {
    gpu: Gpu,
    /// For each output, where it begins among all elements and its number of them.
    pieces: Vec<(usize, Range<usize>)>,
    state: Mutex<State>,
    landings: Landings,
}

#[derive(Debug)]
enum State {
    Coming(Landing),
    There(Vec<f32>),
}

/// Pinned memory that nobody uses.
type Landings = Arc<Mutex<Vec<Landing>>>;

/// Pinned memory for outputs.
#[derive(Debug)]
struct Landing {
    memory: Pinned,
    bytes: usize,
    /// Recorded behind the copies to `memory`.
    arrived: CudaEvent,
}

/// A driver that works on its own does not say which kernel failed.
const RUNNING: &str = "running a plan (without capture and with CUDA_LAUNCH_BLOCKING=1 in the \
                       environment the error names the kernel)";

/// Downloads that may be on their way: more than a host can run ahead of its device, since uploads
/// take turns.
const COMING: usize = 8;
/// Pinned memory kept for reuse.
const IDLE: usize = 4;

impl Downloads {
    /// Copies from the device when everything before on the stream is done, without waiting.
    pub(super) fn issue(
        &mut self,
        gpu: &Gpu,
        stream: &CudaStream,
        parts: &[Part],
    ) -> Result<Arc<Download>> {
        while self.coming.len() >= COMING {
            if let Some(oldest) = self.coming.pop_front() {
                oldest.arrive(|_| ())?;
            }
        }
        let download = Arc::new(self.begin(gpu, stream, parts)?);
        self.coming.push_back(download.clone());
        Ok(download)
    }

    /// Copies from the device when everything before on the stream is done, and waits.
    pub(super) fn copy(
        &mut self,
        gpu: &Gpu,
        stream: &CudaStream,
        parts: &mut [(Address, &mut [f32])],
    ) -> Result<()> {
        let part = |(output, (from, values)): (usize, &(Address, &mut [f32]))| Part {
            output,
            from: *from,
            count: values.len(),
        };
        let wanted: Vec<Part> = parts.iter().enumerate().map(part).collect();
        let download = self.begin(gpu, stream, &wanted)?;
        download.land(|landing| {
            let mut at = 0;
            for (_, values) in parts.iter_mut() {
                landing.read(at, values);
                at += values.len();
            }
        })
    }

    fn begin(&mut self, gpu: &Gpu, stream: &CudaStream, parts: &[Part]) -> Result<Download> {
        gpu.bind()?;
        let bytes = 4 * parts.iter().map(|part| part.count).sum::<usize>();
        let mut landing = self.take(gpu, bytes)?;
        let mut pieces = Vec::with_capacity(parts.len());
        let mut at = 0;
        for part in parts {
            pieces.push((part.output, at..at + part.count));
            at += part.count;
        }
        let froms = parts.iter().map(|part| part.from);
        if let Err(error) = landing.fill(stream, froms.zip(&pieces)) {
            // No event may stand behind what was issued; only then is the memory free again.
            let _ = stream.synchronize();
            return Err(gpu.error("downloading outputs", error));
        }
        let (state, landings) = (Mutex::new(State::Coming(landing)), self.landings.clone());
        Ok(Download { gpu: gpu.clone(), pieces, state, landings })
    }

    /// The smallest memory of at least this size that nobody uses.
    fn take(&self, gpu: &Gpu, bytes: usize) -> Result<Landing> {
        let mut idle = locked(&self.landings);
        let fits = (0..idle.len()).filter(|&index| idle[index].bytes >= bytes);
        if let Some(index) = fits.min_by_key(|&index| idle[index].bytes) {
            return Ok(idle.swap_remove(index));
        }
        if idle.len() >= IDLE {
            idle.pop();
        }
        let arrived = gpu.context().new_event(None);
        Ok(Landing {
            memory: Pinned::new(gpu, bytes)?,
            bytes,
            arrived: arrived.map_err(|error| gpu.error("making an event", error))?,
        })
    }
}

impl Download {
    /// Waits for the outputs and hands their elements out.
    fn arrive<T>(&self, take: impl FnOnce(&[f32]) -> T) -> Result<T> {
        let mut state = locked(&self.state);
        if let State::Coming(landing) = &*state {
            self.wait(landing)?;
            let mut values = vec![0.0; self.pieces.last().map_or(0, |(_, elements)| elements.end)];
            landing.read(0, &mut values);
            self.leave(&mut state, values);
        }
        match &*state {
            State::There(values) => Ok(take(values)),
            State::Coming(_) => Err(super::lower::internal("a download did not arrive")),
        }
    }

    /// Waits for the outputs and hands out the memory where they landed.
    fn land(&self, take: impl FnOnce(&Landing)) -> Result<()> {
        let mut state = locked(&self.state);
        if let State::Coming(landing) = &*state {
            self.wait(landing)?;
            take(landing);
            self.leave(&mut state, Vec::new());
        }
        Ok(())
    }

    fn wait(&self, landing: &Landing) -> Result<()> {
        self.gpu.bind()?;
        landing.arrived.synchronize().map_err(|error| self.gpu.error(RUNNING, error))
    }

    /// Gives the pinned memory back.
    fn leave(&self, state: &mut State, values: Vec<f32>) {
        if let State::Coming(landing) = std::mem::replace(state, State::There(values)) {
            let mut idle = locked(&self.landings);
            if idle.len() < IDLE {
                idle.push(landing);
            }
        }
    }

    fn elements(&self, output: usize) -> Option<Range<usize>> {
        let piece = self.pieces.iter().find(|(known, _)| *known == output);
        piece.map(|(_, elements)| elements.clone())
    }
}

impl Landing {
    /// Issues the copies of pieces from where they lie.
    fn fill<'p>(
        &mut self,
        stream: &CudaStream,
        pieces: impl Iterator<Item = (Address, &'p (usize, Range<usize>))>,
    ) -> Result<(), DriverError> {
        for (from, (_, elements)) in pieces.filter(|(_, (_, elements))| !elements.is_empty()) {
            let piece = &mut self.memory.bytes_mut()[4 * elements.start..4 * elements.end];
            // SAFETY: the source is device memory of this size; the piece is left alone until
            // `arrived`, recorded below, has passed.
            unsafe { result::memcpy_dtoh_async(piece, from.0, stream.cu_stream()) }?;
        }
        self.arrived.record(stream)
    }

    /// Elements that have arrived, from the one at `at` on.
    fn read(&self, at: usize, values: &mut [f32]) {
        let bytes = &self.memory.bytes()[4 * at..4 * (at + values.len())];
        for (value, bytes) in values.iter_mut().zip(bytes.as_chunks::<4>().0) {
            *value = f32::from_ne_bytes(*bytes);
        }
    }
}

impl Pending for Download {
    fn has(&self, output: usize) -> bool {
        self.elements(output).is_some()
    }

    fn number(&self, output: usize) -> Result<f32> {
        let elements = self.elements(output).unwrap_or_default();
        let first = self.arrive(|values| values[elements].first().copied())?;
        first.ok_or_else(|| super::lower::internal("an output that was not brought back"))
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        // The device may still write there. What it failed at is told to who asks for results.
        let _ = self.land(|_| ());
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn padded(bytes: usize) -> usize {
    bytes.next_multiple_of(super::ALIGNMENT)
}

/// The bytes of floating-point numbers.
pub(super) fn bytes_of(values: &[f32]) -> &[u8] {
    // SAFETY: any four bytes of an f32 are four bytes; the length is that of the slice.
    unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), std::mem::size_of_val(values)) }
}

/// The bytes of a tensor.
pub(super) fn tensor_bytes(tensor: &Tensor) -> Result<&[u8]> {
    match tensor.integers() {
        // SAFETY: as for `bytes_of`.
        Ok(integers) => Ok(unsafe {
            std::slice::from_raw_parts(integers.as_ptr().cast(), std::mem::size_of_val(integers))
        }),
        Err(_) => Ok(bytes_of(tensor.values()?)),
    }
}

/// The bytes of a run's scalars; zeros where nothing lies between them.
pub(super) fn scalars_bytes(scalars: &KilnScalars) -> [u8; std::mem::size_of::<KilnScalars>()] {
    let mut bytes = [0; std::mem::size_of::<KilnScalars>()];
    let mut put = |at: usize, number: &[u8]| {
        bytes[at..at + number.len()].copy_from_slice(number);
    };
    let KilnScalars {
        learning_rate,
        momentum,
        one_minus_momentum,
        share,
        exact_momentum,
        pass,
        sample_offset,
        average,
    } = *scalars;
    put(offset_of!(KilnScalars, learning_rate), &learning_rate.to_ne_bytes());
    put(offset_of!(KilnScalars, momentum), &momentum.to_ne_bytes());
    put(offset_of!(KilnScalars, one_minus_momentum), &one_minus_momentum.to_ne_bytes());
    put(offset_of!(KilnScalars, share), &share.to_ne_bytes());
    put(offset_of!(KilnScalars, exact_momentum), &exact_momentum.to_ne_bytes());
    put(offset_of!(KilnScalars, pass), &pass.to_ne_bytes());
    put(offset_of!(KilnScalars, sample_offset), &sample_offset.to_ne_bytes());
    put(offset_of!(KilnScalars, average), &average.to_ne_bytes());
    bytes
}
