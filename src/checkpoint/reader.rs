// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reading safetensors files: nothing is taken on trust, and a tensor is read a piece at a time.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use flate2::Crc;
use half::{bf16, f16};
use safetensors::tensor::{Metadata, TensorInfo};
use safetensors::Dtype;

use super::foreign::{recognise, HEAD};
use super::writer::{Named, CHECKSUM, CHECKSUM_BYTES};
use crate::{files::regular, DType, Error, Result};

/// A file whose header is understood and whose tensors are still on the disk.
pub(super) struct TensorFile {
    path: PathBuf,
    file: File,
    /// Bytes of the whole file.
    length: u64,
    /// Where the tensors begin.
    start: u64,
    tensors: BTreeMap<String, TensorInfo>,
    texts: HashMap<String, String>,
}

/// Which element types serve where `f32` is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Conversion {
    /// `f32` alone.
    None,
    /// Also the 16-bit types, all of whose numbers `f32` has.
    Widening,
}

/// The elements of a tensor in a file, in order; those of `i64` as two words each.
pub(super) struct Elements<'a> {
    file: &'a TensorFile,
    dtype: Dtype,
    bytes: Vec<u8>,
}

/// Bytes of the number that a file begins with, the length of its header.
const LENGTH_BYTES: u64 = 8;

/// The largest header that readers of the format accept.
const LARGEST_HEADER: u64 = 100_000_000;

/// Bytes read at a time.
const PIECE: usize = 64 << 10;

/// Letters of a name in a file that messages show.
const SHOWN: usize = 120;

impl TensorFile {
    /// Opens a file and reads its header.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let read = || Error::io("read", path);
        let (mut file, length) = regular::open(path)?;
        let mut head = Vec::with_capacity(HEAD);
        (&mut file).take(HEAD as u64).read_to_end(&mut head).map_err(read())?;
        let damaged = |offset, got: String| {
            let expected = "a complete safetensors file".into();
            Error::Data { path: path.into(), offset, expected, got }
        };
        if let Some(what) = recognise(path, &head) {
            return Err(damaged(0, what));
        }
        let Some(size) = head.first_chunk().map(|size| u64::from_le_bytes(*size)) else {
            return Err(damaged(0, format!("{length} bytes in all")));
        };
        let start = size.saturating_add(LENGTH_BYTES);
        if size > LARGEST_HEADER || start > length {
            return Err(damaged(0, format!("a header of {size} in a file of {length} bytes")));
        }
        let mut header = vec![0; size as usize];
        file.seek(SeekFrom::Start(LENGTH_BYTES)).map_err(read())?;
        file.read_exact(&mut header).map_err(read())?;
        let metadata: Metadata = serde_json::from_slice(&header)
            .map_err(|error| damaged(LENGTH_BYTES, shown(&error.to_string())))?;
        let end = start.saturating_add(metadata.data_len() as u64);
        if end != length {
            let got = format!("an end at {length}, where the header announces {end}");
            return Err(damaged(length, got));
        }
        let info = |(name, info): (String, &TensorInfo)| (name, info.clone());
        let tensors = metadata.tensors().into_iter().map(info).collect();
        let texts = metadata.metadata().clone().unwrap_or_default();
        Ok(TensorFile { path: path.into(), file, length, start, tensors, texts })
    }

    /// The text under a key.
    pub(super) fn text(&self, key: &str) -> Option<&str> {
        self.texts.get(key).map(String::as_str)
    }

    /// The names of all tensors but the check sum, in order.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str).filter(|name| *name != CHECKSUM)
    }

    /// What is wrong with a tensor that is to have this shape, in words; `None` if nothing.
    pub(super) fn misfit(&self, name: &str, wanted: &Named, allowed: Conversion) -> Option<String> {
        let Some(info) = self.tensors.get(name) else {
            return Some(format!(
                "{}: expected {}{}, got none",
                wanted.name, wanted.dtype, wanted.shape
            ));
        };
        let fits = match (wanted.dtype, info.dtype) {
            (DType::F32, Dtype::F32) | (DType::I64, Dtype::I64) => true,
            (DType::F32, Dtype::F16 | Dtype::BF16) => allowed == Conversion::Widening,
            _ => false,
        };
        if fits && info.shape == wanted.shape.dims() {
            return None;
        }
        let got = describe(info);
        Some(format!("{}: expected {}{}, got {got}", wanted.name, wanted.dtype, wanted.shape))
    }

    /// That a tensor is not wanted, in words.
    pub(super) fn unexpected(&self, name: &str) -> String {
        let got = self.tensors.get(name).map_or("none".into(), describe);
        format!("{}: expected no such tensor, got {got}", shown(name))
    }

    /// Compares the check sum at the end of the file with everything before it; whether there is one.
    pub(super) fn check_sum(&self) -> Result<bool> {
        let Some(info) = self.tensors.get(CHECKSUM) else { return Ok(false) };
        let covered = self.length - CHECKSUM_BYTES.min(self.length as usize) as u64;
        let whole = (info.dtype, info.shape.as_slice()) == (Dtype::U32, &[1])
            && self.start + info.data_offsets.0 as u64 == covered;
        if !whole {
            return Err(self.invalid(self.start, "a check sum at the end", describe(info)));
        }
        let (mut crc, mut rest) = (Crc::new(), covered);
        let mut bytes = vec![0; PIECE];
        self.seek(0)?;
        while rest > 0 {
            let piece = &mut bytes[..rest.min(PIECE as u64) as usize];
            self.read(piece)?;
            crc.update(piece);
            rest -= piece.len() as u64;
        }
        let mut stored = [0; CHECKSUM_BYTES];
        self.read(&mut stored)?;
        match u32::from_le_bytes(stored) {
            stored if stored == crc.sum() => Ok(true),
            stored => {
                let expected = format!("bytes with check sum {stored:08x}");
                Err(self.invalid(covered, &expected, format!("{:08x}", crc.sum())))
            }
        }
    }

    /// The check sum of earlier versions: over names and elements, of these tensors in this order.
    pub(super) fn sum_of_elements(&self, tensors: &[Named]) -> Result<u32> {
        let mut crc = Crc::new();
        let mut bytes = vec![0; PIECE];
        for Named { name, .. } in tensors {
            let Some(info) = self.tensors.get(name) else { continue };
            crc.update(name.as_bytes());
            self.seek(self.start + info.data_offsets.0 as u64)?;
            let mut rest = info.data_offsets.1 - info.data_offsets.0;
            while rest > 0 {
                let piece = &mut bytes[..rest.min(PIECE)];
                self.read(piece)?;
                crc.update(piece);
                rest -= piece.len();
            }
        }
        Ok(crc.sum())
    }

    /// The elements of a tensor that was found to fit.
    pub(super) fn elements(&self, name: &str) -> Result<Elements<'_>> {
        let Some(info) = self.tensors.get(name) else {
            return Err(self.invalid(self.start, "a tensor", format!("no {}", shown(name))));
        };
        self.seek(self.start + info.data_offsets.0 as u64)?;
        Ok(Elements { file: self, dtype: info.dtype, bytes: Vec::new() })
    }

    /// An error that lists mismatches.
    pub(super) fn mismatch(&self, mismatches: Vec<String>) -> Error {
        Error::Checkpoint { path: self.path.clone(), mismatches }
    }

    /// An error about what the header or the elements hold.
    pub(super) fn invalid(&self, offset: u64, expected: &str, got: impl ToString) -> Error {
        Error::Data {
            path: self.path.clone(),
            offset,
            expected: expected.into(),
            got: shown(&got.to_string()),
        }
    }

    fn seek(&self, to: u64) -> Result<()> {
        let sought = (&self.file).seek(SeekFrom::Start(to));
        sought.map(|_| ()).map_err(Error::io("read", &self.path))
    }

    fn read(&self, bytes: &mut [u8]) -> Result<()> {
        (&self.file).read_exact(bytes).map_err(Error::io("read", &self.path))
    }
}

impl Elements<'_> {
    /// The next elements, as many as there is room for.
    pub(super) fn fill(&mut self, into: &mut [f32]) -> Result<()> {
        let width = match self.dtype {
            Dtype::F16 | Dtype::BF16 => size_of::<u16>(),
            _ => size_of::<f32>(),
        };
        for into in into.chunks_mut(PIECE / width) {
            self.bytes.resize(into.len() * width, 0);
            self.file.read(&mut self.bytes)?;
            let half = |pair: &[u8]| [pair[0], pair[1]];
            for (to, from) in into.iter_mut().zip(self.bytes.chunks_exact(width)) {
                *to = match self.dtype {
                    Dtype::F16 => f16::from_le_bytes(half(from)).to_f32(),
                    Dtype::BF16 => bf16::from_le_bytes(half(from)).to_f32(),
                    _ => f32::from_le_bytes([from[0], from[1], from[2], from[3]]),
                };
            }
        }
        Ok(())
    }
}

/// A tensor's type, in the style of [`crate::op::TensorType`].
fn describe(info: &TensorInfo) -> String {
    format!("{}{:?}", format!("{:?}", info.dtype).to_lowercase(), info.shape)
}

/// A text from a file as a message shows it: without control characters, and not without end.
pub(super) fn shown(text: &str) -> String {
    let plain: String = text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    match plain.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}...", &plain[..end]),
        None => plain,
    }
}
