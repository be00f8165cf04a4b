// SPDX-License-Identifier: MIT OR Apache-2.0
//! Copies between host and device.

use cudarc::driver::{result, CudaEvent, CudaStream};

use super::abi::KilnScalars;
use super::gpu::Gpu;
use super::memory::{Address, Pinned};
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

/// Pinned buffers on the way to the device, used in turns: while one is copied, the next is filled.
#[derive(Debug, Default)]
pub(super) struct Uploads {
    turns: [Option<Turn>; 2],
    next: usize,
}

#[derive(Debug)]
struct Turn {
    memory: Pinned,
    bytes: usize,
    /// Recorded behind the copies from `memory`.
    copied: CudaEvent,
}

impl Uploads {
    /// Puts copies on a stream; the parts may be changed as soon as this returns.
    pub(super) fn copy(
        &mut self,
        gpu: &Gpu,
        stream: &CudaStream,
        parts: &[(Address, &[u8])],
    ) -> Result<()> {
        gpu.bind()?;
        let needed: usize = parts.iter().map(|(_, bytes)| padded(bytes.len())).sum();
        let index = self.next;
        self.next = (index + 1) % self.turns.len();
        let turn = Self::take_turn(gpu, &mut self.turns[index], needed)?;
        let mut rest = turn.memory.bytes_mut();
        for (address, bytes) in parts.iter().filter(|(_, bytes)| !bytes.is_empty()) {
            let (piece, behind) = rest.split_at_mut(padded(bytes.len()));
            let piece = &mut piece[..bytes.len()];
            piece.copy_from_slice(bytes);
            // SAFETY: the destination is device memory of this size; the pinned piece stays as it
            // is until `copied`, recorded below, has passed.
            unsafe { result::memcpy_htod_async(address.0, piece, stream.cu_stream()) }
                .map_err(|error| gpu.error("uploading inputs", error))?;
            rest = behind;
        }
        turn.copied.record(stream).map_err(|error| gpu.error("uploading inputs", error))
    }

    /// Memory of at least this size whose last copies are done.
    fn take_turn<'a>(gpu: &Gpu, turn: &'a mut Option<Turn>, bytes: usize) -> Result<&'a mut Turn> {
        if let Some(used) = turn.as_ref() {
            let done = used.copied.synchronize();
            done.map_err(|error| gpu.error("waiting for an upload", error))?;
        }
        let turn = match turn.take().filter(|turn| turn.bytes >= bytes) {
            Some(large_enough) => turn.insert(large_enough),
            None => {
                let copied = gpu.context().new_event(None);
                let copied = copied.map_err(|error| gpu.error("making an event", error))?;
                turn.insert(Turn { memory: Pinned::new(gpu, bytes)?, bytes, copied })
            }
        };
        Ok(turn)
    }
}

/// A pinned buffer on the way from the device.
#[derive(Debug, Default)]
pub(super) struct Downloads {
    memory: Option<(Pinned, usize)>,
}

impl Downloads {
    /// Copies from the device when everything before on the stream is done, and waits.
    pub(super) fn copy(
        &mut self,
        gpu: &Gpu,
        stream: &CudaStream,
        parts: &mut [(Address, &mut [f32])],
    ) -> Result<()> {
        gpu.bind()?;
        let needed: usize = parts.iter().map(|(_, values)| padded(4 * values.len())).sum();
        let (memory, _) = match self.memory.take().filter(|(_, bytes)| *bytes >= needed) {
            Some(large_enough) => self.memory.insert(large_enough),
            None => self.memory.insert((Pinned::new(gpu, needed)?, needed)),
        };
        let mut at = 0;
        for (address, values) in parts.iter().filter(|(_, values)| !values.is_empty()) {
            let piece = &mut memory.bytes_mut()[at..at + 4 * values.len()];
            // SAFETY: the source is device memory of this size; the piece is left alone until the
            // stream has been waited for, below.
            unsafe { result::memcpy_dtoh_async(piece, address.0, stream.cu_stream()) }
                .map_err(|error| gpu.error("downloading outputs", error))?;
            at += padded(4 * values.len());
        }
        let done = stream.synchronize();
        done.map_err(|error| gpu.error("running a plan", error))?;
        let mut at = 0;
        for (_, values) in parts {
            let piece = &memory.bytes_mut()[at..at + 4 * values.len()];
            for (value, bytes) in values.iter_mut().zip(piece.as_chunks::<4>().0) {
                *value = f32::from_ne_bytes(*bytes);
            }
            at += padded(4 * values.len());
        }
        Ok(())
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
