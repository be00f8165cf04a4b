// SPDX-License-Identifier: MIT OR Apache-2.0
//! Safetensors files: named tensors and one note, read with nothing taken on trust.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use flate2::Crc;
use safetensors::tensor::{Dtype, TensorView};
use safetensors::{SafeTensorError, SafeTensors};

use crate::{DType, Error, Result, Shape, Tensor};

/// A text in the file's header, under a key. There is only ever one, since the format does not
/// order them and equal states must give equal bytes.
pub(super) struct Note {
    pub(super) key: &'static str,
    pub(super) text: String,
}

/// A tensor that a file is expected to hold.
pub(super) struct Wanted {
    pub(super) name: String,
    pub(super) shape: Shape,
}

/// A file read into memory and not yet understood.
pub(super) struct RawFile {
    path: PathBuf,
    bytes: Vec<u8>,
}

/// The tensors and notes of a file.
pub(super) struct TensorFile<'a> {
    path: &'a Path,
    tensors: SafeTensors<'a>,
    notes: HashMap<String, String>,
}

/// The bytes of a file with these tensors.
pub(super) fn encode(tensors: &[(String, Tensor)], note: Note) -> Result<Vec<u8>> {
    let mut stored = Vec::with_capacity(tensors.len());
    for (name, tensor) in tensors {
        stored.push((name, tensor.shape().dims(), little_endian(tensor)?));
    }
    let mut views = Vec::with_capacity(stored.len());
    for (name, dims, bytes) in &stored {
        let view = TensorView::new(Dtype::F32, dims.to_vec(), bytes).map_err(unwritable)?;
        views.push((name.as_str(), view));
    }
    let notes = HashMap::from([(note.key.to_string(), note.text)]);
    safetensors::serialize(views, Some(notes)).map_err(unwritable)
}

/// A check sum (CRC-32) over names and elements: damage that leaves the header alone shows.
pub(super) fn checksum(tensors: &[(String, Tensor)]) -> Result<u32> {
    let mut crc = Crc::new();
    for (name, tensor) in tensors {
        crc.update(name.as_bytes());
        crc.update(&little_endian(tensor)?);
    }
    Ok(crc.sum())
}

impl RawFile {
    /// Reads a file.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let bytes = fs::read(path).map_err(Error::io("read", path))?;
        Ok(RawFile { path: path.into(), bytes })
    }

    /// Takes the file apart.
    pub(super) fn parse(&self) -> Result<TensorFile<'_>> {
        let damaged = |error| self.damaged(&error);
        let (_, header) = SafeTensors::read_metadata(&self.bytes).map_err(damaged)?;
        let tensors = SafeTensors::deserialize(&self.bytes).map_err(damaged)?;
        let notes = header.metadata().clone().unwrap_or_default();
        Ok(TensorFile { path: &self.path, tensors, notes })
    }

    fn damaged(&self, error: &SafeTensorError) -> Error {
        const HEADER_START: u64 = 8;
        let offset = match error {
            SafeTensorError::HeaderTooSmall
            | SafeTensorError::HeaderTooLarge
            | SafeTensorError::InvalidHeaderLength => 0,
            SafeTensorError::MetadataIncompleteBuffer => self.bytes.len() as u64,
            _ => HEADER_START,
        };
        Error::Data {
            path: self.path.clone(),
            offset,
            expected: "a complete safetensors file".into(),
            got: match error {
                SafeTensorError::MetadataIncompleteBuffer => {
                    "an end that the header does not announce".into()
                }
                other => format!("{other} ({} bytes in all)", self.bytes.len()),
            },
        }
    }
}

impl TensorFile<'_> {
    /// The note under a key.
    pub(super) fn note(&self, key: &str) -> Option<&str> {
        self.notes.get(key).map(String::as_str)
    }

    /// Everything that sets the file apart from what is wanted, in the order of `wanted`.
    pub(super) fn mismatches(&self, wanted: &[Wanted]) -> Vec<String> {
        let mut mismatches = Vec::new();
        for Wanted { name, shape } in wanted {
            match self.tensors.tensor(name) {
                Err(_) => {
                    mismatches.push(format!("{name}: expected {}{shape}, got none", DType::F32))
                }
                Ok(view) if view.dtype() != Dtype::F32 || view.shape() != shape.dims() => {
                    let got = describe(&view);
                    mismatches.push(format!("{name}: expected {}{shape}, got {got}", DType::F32));
                }
                Ok(_) => {}
            }
        }
        let known = |name: &str| wanted.iter().any(|wanted| wanted.name == name);
        let mut unexpected: Vec<String> = self
            .tensors
            .iter()
            .filter(|(name, _)| !known(name))
            .map(|(name, view)| format!("{name}: expected no such tensor, got {}", describe(&view)))
            .collect();
        unexpected.sort();
        mismatches.extend(unexpected);
        mismatches
    }

    /// The tensors that are wanted, in their order.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] with all mismatches.
    pub(super) fn take(&self, wanted: &[Wanted]) -> Result<Vec<(String, Tensor)>> {
        let mismatches = self.mismatches(wanted);
        if !mismatches.is_empty() {
            return Err(self.misfit(mismatches));
        }
        let mut tensors = Vec::with_capacity(wanted.len());
        for Wanted { name, shape } in wanted {
            let Ok(view) = self.tensors.tensor(name) else { continue };
            let word = |bytes: &[u8]| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
            let values = view.data().chunks_exact(4).map(word).collect();
            tensors.push((name.clone(), Tensor::new(shape.clone(), values)?));
        }
        Ok(tensors)
    }

    /// An error that lists mismatches.
    pub(super) fn misfit(&self, mismatches: Vec<String>) -> Error {
        Error::Checkpoint { path: self.path.into(), mismatches }
    }

    /// An error about what the header or the elements hold.
    pub(super) fn invalid(&self, expected: &str, got: impl ToString) -> Error {
        Error::Data {
            path: self.path.into(),
            offset: 0,
            expected: expected.into(),
            got: got.to_string(),
        }
    }
}

fn little_endian(tensor: &Tensor) -> Result<Vec<u8>> {
    Ok(tensor.values()?.iter().flat_map(|value| value.to_le_bytes()).collect())
}

/// A tensor's type, in the style of [`crate::op::TensorType`].
fn describe(view: &TensorView<'_>) -> String {
    format!("{}{:?}", format!("{:?}", view.dtype()).to_lowercase(), view.shape())
}

fn unwritable(error: SafeTensorError) -> Error {
    Error::Internal { pass: "checkpoint", message: error.to_string() }
}
