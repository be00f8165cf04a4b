// SPDX-License-Identifier: MIT OR Apache-2.0
//! Writing safetensors files, a piece of a tensor at a time.

use std::path::Path;

use flate2::Crc;
use safetensors::tensor::TensorInfo;
use safetensors::Dtype;
use serde_json::{Map, Value};

use crate::files::Replacement;
use crate::{DType, Error, Result, Shape};

/// A tensor that a file holds or is expected to hold.
#[derive(Clone, Debug)]
pub(super) struct Named {
    pub(super) name: String,
    pub(super) shape: Shape,
    pub(super) dtype: DType,
}

impl Named {
    fn bytes(&self) -> usize {
        self.shape.elements() * self.dtype.bytes()
    }
}

/// A safetensors file on its way to its place.
pub(super) struct TensorWriter {
    replacement: Replacement,
    crc: Crc,
    sealing: Sealing,
    /// Words announced and not yet written.
    missing: usize,
}

/// Whether a file ends with a check sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sealing {
    /// No: it holds nothing but what it was asked to.
    None,
    /// The last tensor, [`CHECKSUM`], is the CRC-32 of all bytes before it, header included.
    Checksum,
}

/// Name of the tensor with the check sum.
pub(super) const CHECKSUM: &str = "checksum";

/// Bytes of the check sum.
pub(super) const CHECKSUM_BYTES: usize = size_of::<u32>();

/// The key of texts in a header; no tensor can have this name.
const TEXTS: &str = "__metadata__";

/// The largest header that readers of the format accept.
const LARGEST_HEADER: usize = 100_000_000;

/// Bytes to which a header is filled up, and of its length.
const ALIGNMENT: usize = 8;

impl TensorWriter {
    /// Begins a file with texts, in the order of their keys, and tensors of `f32` or `i64`, whose
    /// words come in this order.
    pub(super) fn begin(
        path: &Path,
        texts: &[(&str, String)],
        tensors: &[Named],
        sealing: Sealing,
    ) -> Result<Self> {
        let header = header(texts, tensors, sealing)?;
        let missing = tensors.iter().map(|tensor| tensor.bytes() / size_of::<f32>()).sum();
        let replacement = Replacement::begin(path)?;
        let mut writer = TensorWriter { replacement, crc: Crc::new(), sealing, missing };
        writer.append(&(header.len() as u64).to_le_bytes())?;
        writer.append(&header)?;
        Ok(writer)
    }

    /// The next elements, or the next words of elements that take two.
    pub(super) fn elements(&mut self, values: &[f32]) -> Result<()> {
        let Some(missing) = self.missing.checked_sub(values.len()) else {
            return Err(internal("more elements came than the header announces"));
        };
        self.missing = missing;
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.append(&bytes)
    }

    /// Ends the file and brings it to its place.
    pub(super) fn finish(mut self) -> Result<()> {
        if self.missing > 0 {
            return Err(internal("fewer elements came than the header announces"));
        }
        if self.sealing == Sealing::Checksum {
            let sum = self.crc.sum().to_le_bytes();
            self.append(&sum)?;
        }
        self.replacement.commit()
    }

    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.crc.update(bytes);
        self.replacement.write(bytes)
    }
}

fn header(texts: &[(&str, String)], tensors: &[Named], sealing: Sealing) -> Result<Vec<u8>> {
    let mut header = Map::new();
    let text = |(key, text): &(&str, String)| (key.to_string(), Value::from(text.as_str()));
    header.insert(TEXTS.into(), Value::Object(texts.iter().map(text).collect()));
    let mut end = 0;
    let mut add = |name: &str, dtype: Dtype, dims: &[usize], bytes: usize| {
        let info = TensorInfo { dtype, shape: dims.into(), data_offsets: (end, end + bytes) };
        end += bytes;
        let info = serde_json::to_value(info).map_err(|error| internal(&error.to_string()))?;
        match header.insert(name.into(), info) {
            None => Ok(()),
            Some(_) => Err(Error::argument("name of a parameter", "one that is free", name)),
        }
    };
    for tensor in tensors {
        let dtype = match tensor.dtype {
            DType::I64 => Dtype::I64,
            _ => Dtype::F32,
        };
        add(&tensor.name, dtype, tensor.shape.dims(), tensor.bytes())?;
    }
    if sealing == Sealing::Checksum {
        add(CHECKSUM, Dtype::U32, &[1], CHECKSUM_BYTES)?;
    }
    let mut bytes = Value::Object(header).to_string().into_bytes();
    bytes.resize(bytes.len().next_multiple_of(ALIGNMENT), b' ');
    match bytes.len() > LARGEST_HEADER {
        true => {
            let expected = format!("names and notes of at most {LARGEST_HEADER} bytes");
            Err(Error::argument("checkpoint", expected, bytes.len()))
        }
        false => Ok(bytes),
    }
}

fn internal(message: &str) -> Error {
    Error::Internal { pass: "checkpoint", message: message.into() }
}
