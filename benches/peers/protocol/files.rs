// SPDX-License-Identifier: MIT OR Apache-2.0
//! The files of a check.

use std::collections::{HashMap, HashSet, VecDeque};
use std::path::Path;

use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use super::Result;

/// A tensor by its extents and values.
#[derive(Clone, Debug)]
pub struct Values {
    pub shape: Vec<usize>,
    pub floats: Vec<f32>,
}

/// What a step is given.
pub struct Batch {
    /// Numbers, or tokens.
    pub input: Values,
    pub labels: Vec<i32>,
    /// For each layer what its inputs are multiplied by, call by call.
    pub masks: HashMap<String, VecDeque<Values>>,
}

/// Rates are rounded to 1/32768, so that kept elements are scaled by the exact 1 / P(keep).
const RATE_UNITS: f32 = 32768.0;

/// All tensors of a file.
pub fn read(path: &Path) -> Result<HashMap<String, Values>> {
    let bytes = std::fs::read(path)?;
    let tensors = SafeTensors::deserialize(&bytes)?;
    tensors.tensors().into_iter().map(|(name, tensor)| Ok((name, values(&tensor)?))).collect()
}

/// The batch of a directory.
pub fn read_batch(directory: &Path) -> Result<Batch> {
    let path = directory.join("batch.safetensors");
    let bytes = std::fs::read(&path)?;
    let (_, header) = SafeTensors::read_metadata(&bytes)?;
    let rates = header.metadata().clone().unwrap_or_default();
    let mut tensors = read(&path)?;
    // Numbers are what inputs are multiplied by already.
    let are_factors: HashSet<String> = SafeTensors::deserialize(&bytes)?
        .tensors()
        .into_iter()
        .filter(|(_, tensor)| tensor.dtype() == Dtype::F32)
        .map(|(name, _)| name)
        .collect();
    let input = tensors.remove("input").ok_or("the batch has no input")?;
    let labels = match tensors.remove("target") {
        Some(target) => target.floats.iter().map(|&label| label as i32).collect(),
        None => Vec::new(),
    };
    let mut named: Vec<(String, Values)> = tensors.into_iter().collect();
    named.sort_by(|a, b| a.0.cmp(&b.0));
    let mut masks: HashMap<String, VecDeque<Values>> = HashMap::new();
    for (name, mut mask) in named {
        let layer = name.strip_prefix("mask.").and_then(|name| name.split('#').next());
        let layer = layer.ok_or_else(|| format!("the batch has a tensor {name}"))?;
        if !are_factors.contains(&name) {
            let rate = rates.get(&format!("p.{layer}")).ok_or("a mask without a rate")?;
            let dropped = (rate.parse::<f32>()? * RATE_UNITS + 0.5).floor();
            let scale = RATE_UNITS / (RATE_UNITS - dropped);
            mask.floats.iter_mut().for_each(|kept| *kept *= scale);
        }
        masks.entry(layer.to_owned()).or_default().push_back(mask);
    }
    Ok(Batch { input, labels, masks })
}

/// Writes what came of a step.
pub fn write(directory: &Path, tensors: Vec<(String, Values)>) -> Result<()> {
    let bytes: Vec<Vec<u8>> = tensors
        .iter()
        .map(|(_, values)| values.floats.iter().flat_map(|value| value.to_le_bytes()).collect())
        .collect();
    let views: std::result::Result<Vec<_>, _> = tensors
        .iter()
        .zip(&bytes)
        .map(|((name, values), bytes)| {
            Ok((name.as_str(), TensorView::new(Dtype::F32, values.shape.clone(), bytes)?))
        })
        .collect();
    let views = views.map_err(|error: safetensors::SafeTensorError| error)?;
    Ok(safetensors::serialize_to_file(views, None, &directory.join("after.safetensors"))?)
}

fn values(tensor: &TensorView<'_>) -> Result<Values> {
    let words = || tensor.data().chunks_exact(4).map(|word| [word[0], word[1], word[2], word[3]]);
    let floats = match tensor.dtype() {
        Dtype::F32 => words().map(f32::from_le_bytes).collect(),
        Dtype::I32 => words().map(|word| i32::from_le_bytes(word) as f32).collect(),
        Dtype::U8 => tensor.data().iter().map(|&byte| f32::from(byte)).collect(),
        // Counters of batches, which nothing here counts.
        Dtype::I64 => Vec::new(),
        other => return Err(format!("expected numbers of 32 bits, got {other:?}").into()),
    };
    Ok(Values { shape: tensor.shape().to_vec(), floats })
}
