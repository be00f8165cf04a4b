// SPDX-License-Identifier: MIT OR Apache-2.0
//! Copies between host and device.

use std::sync::Arc;

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

/// Pinned memory for outputs, used again when nobody waits for them any more.
#[derive(Debug, Default)]
pub(super) struct Downloads {
    kept: Vec<Arc<Download>>,
}

/// Outputs on the way from the device.
#[derive(Debug)]
pub(super) struct Download {
    gpu: Gpu,
    memory: Pinned,
    bytes: usize,
    /// Where each output begins and its number of elements.
    pieces: Vec<(usize, usize)>,
    /// Recorded behind the copies to `memory`.
    arrived: CudaEvent,
}

/// A driver that works on its own does not say which kernel failed.
const RUNNING: &str = "running a plan (without capture and with CUDA_LAUNCH_BLOCKING=1 in the \
                       environment the error names the kernel)";

/// Downloads kept for reuse; more are alive only if the user keeps what waits for them.
const KEPT_DOWNLOADS: usize = 4;

impl Downloads {
    /// Copies from the device when everything before on the stream is done, without waiting. Parts
    /// are addresses with numbers of elements.
    pub(super) fn issue(
        &mut self,
        gpu: &Gpu,
        stream: &CudaStream,
        parts: &[(Address, usize)],
    ) -> Result<Arc<Download>> {
        gpu.bind()?;
        let needed: usize = parts.iter().map(|(_, count)| padded(4 * count)).sum();
        let mut download = self.take(gpu, needed)?;
        download.pieces.clear();
        let mut at = 0;
        for &(address, count) in parts {
            download.pieces.push((at, count));
            let piece = &mut download.memory.bytes_mut()[at..at + 4 * count];
            if !piece.is_empty() {
                // SAFETY: the source is device memory of this size; the piece is left alone until
                // `arrived`, recorded below, has passed.
                unsafe { result::memcpy_dtoh_async(piece, address.0, stream.cu_stream()) }
                    .map_err(|error| gpu.error("downloading outputs", error))?;
            }
            at += padded(4 * count);
        }
        let recorded = download.arrived.record(stream);
        recorded.map_err(|error| gpu.error("downloading outputs", error))?;
        let download = Arc::new(download);
        if self.kept.len() < KEPT_DOWNLOADS {
            self.kept.push(download.clone());
        }
        Ok(download)
    }

    /// As [`issue`](Downloads::issue), and waits.
    pub(super) fn copy(
        &mut self,
        gpu: &Gpu,
        stream: &CudaStream,
        parts: &mut [(Address, &mut [f32])],
    ) -> Result<()> {
        let places: Vec<_> =
            parts.iter().map(|(address, values)| (*address, values.len())).collect();
        let download = self.issue(gpu, stream, &places)?;
        download.wait()?;
        for (index, (_, values)) in parts.iter_mut().enumerate() {
            download.read(index, values);
        }
        Ok(())
    }

    /// Memory of at least this size that nobody waits for. Copies to it that nobody waited for are
    /// done before new ones, which go behind them on the same stream.
    fn take(&mut self, gpu: &Gpu, bytes: usize) -> Result<Download> {
        while let Some(idle) = self.kept.iter().position(|kept| Arc::strong_count(kept) == 1) {
            match Arc::try_unwrap(self.kept.swap_remove(idle)) {
                Ok(download) if download.bytes >= bytes => return Ok(download),
                _ => {}
            }
        }
        let arrived = gpu.context().new_event(None);
        Ok(Download {
            gpu: gpu.clone(),
            memory: Pinned::new(gpu, bytes)?,
            bytes,
            pieces: Vec::new(),
            arrived: arrived.map_err(|error| gpu.error("making an event", error))?,
        })
    }
}

impl Download {
    fn wait(&self) -> Result<()> {
        self.gpu.bind()?;
        self.arrived.synchronize().map_err(|error| self.gpu.error(RUNNING, error))
    }

    /// An output that has arrived.
    fn read(&self, index: usize, values: &mut [f32]) {
        let (at, count) = self.pieces[index];
        let words = self.memory.bytes()[at..at + 4 * count].as_chunks::<4>().0;
        for (value, bytes) in values.iter_mut().zip(words) {
            *value = f32::from_ne_bytes(*bytes);
        }
    }
}

impl Pending for Download {
    fn outputs(&self) -> usize {
        self.pieces.len()
    }

    fn output(&self, index: usize) -> Result<Vec<f32>> {
        self.wait()?;
        let mut values = vec![0.0; self.pieces[index].1];
        self.read(index, &mut values);
        Ok(values)
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        // The device may still write here. What it failed at is told to who asks for results.
        let _ = self.wait();
    }
}

fn padded(bytes: usize) -> usize {
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

/// The bytes of a run's scalars.
pub(super) fn scalars_bytes(scalars: &KilnScalars) -> [u8; std::mem::size_of::<KilnScalars>()] {
    // SAFETY: eight numbers of four bytes each, without padding.
    unsafe { std::mem::transmute_copy(scalars) }
}
