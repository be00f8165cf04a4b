// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whether both sides compute the same: one step from the same parameters, on the same batch, under kiln's masks.

use std::collections::BTreeMap;
use std::path::Path;

use kiln::nn::Module;
use kiln::{checkpoint, Precision, Tensor, Trainer, Var};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use super::networks::Case;
use super::peer::Peer;
use super::Result;

/// Largest relative difference of the loss, and l2 distance of a parameter over its norm. A first step of Adam is as
/// large for a small gradient as for any, so that in few bits some go the other way.
fn tolerance(precision: Precision) -> f64 {
    match precision {
        Precision::F32 => 1e-4,
        Precision::Tf32 => 1e-2,
        Precision::Bf16 | Precision::F16 => 5e-2,
    }
}

/// Fails unless a step of kiln and of PyTorch yields the same loss and parameters.
pub(crate) fn check(
    case: &Case,
    precision: Precision,
    trainer: &mut Trainer<Box<dyn Module>>,
    x: &Tensor,
    target: &Tensor,
    peer: &mut Peer,
) -> Result<()> {
    let folder = tempfile::tempdir()?;
    checkpoint::save_weights(trainer.net(), folder.path().join("before.safetensors"))?;
    write_batch(trainer, &folder.path().join("batch.safetensors"), x, target)?;
    let own = f64::from(trainer.step(x, target)?.value()?);
    let peers = peer.check(&case.id(), precision, folder.path())?;
    let most = tolerance(precision);
    within("loss", (own - peers).abs() / peers.abs(), most)?;
    let bytes = std::fs::read(folder.path().join("after.safetensors"))?;
    let after = SafeTensors::deserialize(&bytes)?;
    let names: Vec<String> =
        trainer.net().parameter_names().into_iter().map(str::to_owned).collect();
    for name in names.iter().filter(|name| !name.ends_with("num_batches_tracked")) {
        let got = trainer.net().parameter(name)?;
        let expected = floats(after.tensor(name)?.data());
        within(name, distance(got.values()?, &expected), most)?;
    }
    Ok(())
}

/// What a step takes, and what each call of a layer that drops something multiplies by in the first pass.
fn write_batch(
    trainer: &mut Trainer<Box<dyn Module>>,
    path: &Path,
    x: &Tensor,
    target: &Tensor,
) -> Result<()> {
    let (dtype, input) = match x.values() {
        Ok(values) => (Dtype::F32, bytes_of(values, f32::to_le_bytes)),
        Err(_) => (Dtype::I32, bytes_of(x.integers()?, i32::to_le_bytes)),
    };
    let labels = bytes_of(target.integers()?, i32::to_le_bytes);
    let mut calls: BTreeMap<String, usize> = BTreeMap::new();
    let mut masks = Vec::new();
    for mask in trainer.net().masks::<Var, Var>(0, &[x.ty()])? {
        let call = calls.entry(mask.layer.clone()).or_default();
        let shape = mask.factors.shape().dims().to_vec();
        let bytes = bytes_of(mask.factors.values()?, f32::to_le_bytes);
        masks.push((format!("mask.{}#{call}", mask.layer), shape, bytes));
        *call += 1;
    }
    let samples = target.shape().dims().to_vec();
    let mut tensors = vec![
        ("input", TensorView::new(dtype, x.shape().dims().to_vec(), &input)?),
        ("target", TensorView::new(Dtype::I32, samples, &labels)?),
    ];
    for (name, shape, bytes) in &masks {
        tensors.push((name.as_str(), TensorView::new(Dtype::F32, shape.clone(), bytes)?));
    }
    Ok(safetensors::serialize_to_file(tensors, None, path)?)
}

fn within(what: &str, difference: f64, most: f64) -> Result<()> {
    // Written so that NaN fails.
    if difference <= most {
        return Ok(());
    }
    Err(format!("{what} differs from PyTorch's by {difference:.2e}, more than {most:e}").into())
}

/// l2 norm of the difference over that of the expected values; what is nothing but its change is told by a norm of 1e-3.
fn distance(got: &[f32], expected: &[f32]) -> f64 {
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
    let difference = norm(&mut got.iter().zip(expected).map(|(a, b)| f64::from(a - b)));
    let size = norm(&mut expected.iter().map(|&b| f64::from(b)));
    match got.len() == expected.len() {
        true => difference / size.max(1e-3),
        false => f64::INFINITY,
    }
}

fn bytes_of<T: Copy>(values: &[T], bytes: impl Fn(T) -> [u8; 4]) -> Vec<u8> {
    values.iter().flat_map(|&value| bytes(value)).collect()
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    let words = bytes.chunks_exact(4);
    words.map(|word| f32::from_le_bytes([word[0], word[1], word[2], word[3]])).collect()
}
