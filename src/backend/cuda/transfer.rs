// SPDX-License-Identifier: MIT OR Apache-2.0
//! Copies between host and device.

use std::collections::VecDeque;
use std::mem::offset_of;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::abi::KilnScalars;
use super::calls::DriverError;
use super::driver::{self, CudaEvent, CudaStream};
use super::gpu::Gpu;
use super::memory::{Address, Pinned};
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
    unsafe { driver::copy_up(at.0, bytes, stream) }
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
    unsafe { driver::copy_down(bytes, at.0, stream) }
        .and_then(|()| stream.synchronize())
        .map_err(|error| gpu.error("copying from the device", error))
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

/// A stretch of device memory that is copied at once, and where its elements land.
#[derive(Clone, Copy, Debug)]
struct Stretch {
    from: Address,
    at: usize,
    count: usize,
}

/// Outputs of one run.
#[derive(Debug)]
pub(super) struct Download {
    gpu: Gpu,
    /// For each output its elements among all that land.
    pieces: Vec<(usize, Range<usize>)>,
    elements: usize,
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
/// Bytes between the beginnings of numbers that come in one copy: one more costs more than so many bytes.
const NEAR: u64 = 4096;

impl Downloads {
    /// Brings numbers from the device when everything before on the stream is done, without waiting. Those
    /// that lie together come in one copy, with what lies between.
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
        let mut stretches: Vec<Stretch> = Vec::new();
        let mut pieces = Vec::with_capacity(parts.len());
        let mut end = 0;
        let mut sorted: Vec<&Part> = parts.iter().collect();
        sorted.sort_by_key(|part| part.from);
        for part in sorted {
            let near = stretches.last_mut().filter(|last| part.from.0 - last.from.0 <= NEAR);
            let at = match near {
                Some(last) => {
                    let distance = (part.from.0 - last.from.0) / 4;
                    let distance = usize::try_from(distance).unwrap_or(usize::MAX);
                    last.count = distance + part.count;
                    last.at + distance
                }
                None => {
                    stretches.push(Stretch { from: part.from, at: end, count: part.count });
                    end
                }
            };
            end = at + part.count;
            pieces.push((part.output, at..end));
        }
        let download = Arc::new(self.begin(gpu, stream, &stretches, pieces)?);
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
        let mut stretches = Vec::with_capacity(parts.len());
        let mut at = 0;
        for (from, values) in parts.iter() {
            stretches.push(Stretch { from: *from, at, count: values.len() });
            at += values.len();
        }
        let download = self.begin(gpu, stream, &stretches, Vec::new())?;
        download.land(|landing| {
            let mut at = 0;
            for (_, values) in parts.iter_mut() {
                landing.read(at, values);
                at += values.len();
            }
        })
    }

    fn begin(
        &mut self,
        gpu: &Gpu,
        stream: &CudaStream,
        stretches: &[Stretch],
        pieces: Vec<(usize, Range<usize>)>,
    ) -> Result<Download> {
        gpu.bind()?;
        let elements = stretches.last().map_or(0, |last| last.at + last.count);
        let mut landing = self.take(gpu, 4 * elements)?;
        if let Err(error) = landing.fill(stream, stretches) {
            // No event may stand behind what was issued; only then is the memory free again.
            let _ = stream.synchronize();
            return Err(gpu.error("downloading outputs", error));
        }
        let (state, landings) = (Mutex::new(State::Coming(landing)), self.landings.clone());
        Ok(Download { gpu: gpu.clone(), pieces, elements, state, landings })
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
            let mut values = vec![0.0; self.elements];
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
    /// Issues the copies.
    fn fill(&mut self, stream: &CudaStream, stretches: &[Stretch]) -> Result<(), DriverError> {
        for Stretch { from, at, count } in stretches.iter().filter(|stretch| stretch.count > 0) {
            let piece = &mut self.memory.bytes_mut()[4 * at..4 * (at + count)];
            // SAFETY: the source is device memory of this size; the piece is left alone until
            // `arrived`, recorded below, has passed.
            unsafe { driver::copy_down(piece, from.0, stream) }?;
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
