// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tensors under names, to and from Python: safetensors files.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use kiln::{DType, Error, Result, Tensor};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

/// Tensors under names, in an order.
pub(super) type Named = Vec<(String, Tensor)>;

/// Numbers that Python found, whatever type they had.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Found {
    pub(super) dims: Vec<usize>,
    pub(super) values: Vec<f64>,
}

pub(super) fn write(tensors: &Named, path: &Path) -> Result<()> {
    let bytes: Result<Vec<Vec<u8>>> = tensors.iter().map(|(_, tensor)| bytes(tensor)).collect();
    let bytes = bytes?;
    let internal = |error: safetensors::SafeTensorError| Error::Internal {
        pass: "verify",
        message: error.to_string(),
    };
    let views = tensors.iter().zip(&bytes).map(|((name, tensor), bytes)| {
        let dtype = match tensor.dtype() {
            DType::I32 => Dtype::I32,
            DType::I64 => Dtype::I64,
            _ => Dtype::F32,
        };
        let view = TensorView::new(dtype, tensor.shape().dims().to_vec(), bytes);
        view.map(|view| (name.as_str(), view))
    });
    let views: Vec<_> = views.collect::<std::result::Result<_, _>>().map_err(internal)?;
    let file = safetensors::serialize(views, None).map_err(internal)?;
    fs::write(path, file).map_err(Error::io("write", path))
}

/// The tensors of a file, or why it has none.
pub(super) fn read(path: &Path) -> std::result::Result<BTreeMap<String, Found>, String> {
    let is_file = fs::metadata(path).is_ok_and(|found| found.is_file());
    if !is_file {
        return Err("ended without results".into());
    }
    let file = fs::read(path).map_err(|error| format!("left results that {error}"))?;
    let tensors = SafeTensors::deserialize(&file)
        .map_err(|error| format!("left results that cannot be read: {error}"))?;
    let found = tensors.iter().map(|(name, view)| {
        let values = numbers(view.dtype(), view.data())
            .ok_or_else(|| format!("left {name} as {:?}", view.dtype()))?;
        Ok((name.to_owned(), Found { dims: view.shape().to_vec(), values }))
    });
    found.collect()
}

/// The elements of a tensor as numbers.
pub(super) fn values(tensor: &Tensor) -> Result<Vec<f64>> {
    Ok(match tensor.dtype() {
        DType::I32 => tensor.integers()?.iter().map(|x| f64::from(*x)).collect(),
        DType::I64 => tensor.counters()?.iter().map(|x| *x as f64).collect(),
        _ => tensor.values()?.iter().map(|x| f64::from(*x)).collect(),
    })
}

fn bytes(tensor: &Tensor) -> Result<Vec<u8>> {
    Ok(match tensor.dtype() {
        DType::I32 => tensor.integers()?.iter().flat_map(|x| x.to_le_bytes()).collect(),
        DType::I64 => tensor.counters()?.iter().flat_map(|x| x.to_le_bytes()).collect(),
        _ => tensor.values()?.iter().flat_map(|x| x.to_le_bytes()).collect(),
    })
}

fn numbers(dtype: Dtype, bytes: &[u8]) -> Option<Vec<f64>> {
    fn each<const N: usize>(bytes: &[u8], number: impl Fn([u8; N]) -> f64) -> Option<Vec<f64>> {
        bytes.chunks(N).map(|word| Some(number(word.try_into().ok()?))).collect()
    }
    match dtype {
        Dtype::F32 => each(bytes, |word| f64::from(f32::from_le_bytes(word))),
        Dtype::F64 => each(bytes, f64::from_le_bytes),
        Dtype::I32 => each(bytes, |word| f64::from(i32::from_le_bytes(word))),
        Dtype::I64 => each(bytes, |word| i64::from_le_bytes(word) as f64),
        _ => None,
    }
}
