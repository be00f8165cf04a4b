// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tests of the data module, by the part that they concern.

mod arrays;
mod augment;
mod cifar;
mod csv_file;
mod digits;
mod emoji;
mod fields;
mod folder;
mod idx_corrupt;
mod idx_find;
mod idx_read;
mod loader;
mod loader_failures;
mod memory;
mod normalise;
mod pass;
mod random;
mod text;
mod vowels;

use super::{Batch, Dataset, MemoryDataset, Pass};
use crate::{Error, Result};

/// `len` samples of two elements that tell their index, in `classes` classes by turns.
fn numbered(len: usize, classes: usize) -> MemoryDataset {
    let inputs = (0..len).flat_map(|index| [index as f32, -(index as f32)]).collect();
    let labels = (0..len).map(|index| (index % classes) as i32).collect();
    MemoryDataset::new(inputs, &[2], labels, classes).unwrap()
}

/// The name of the argument that an error blames.
fn blamed<T: std::fmt::Debug>(result: Result<T>) -> String {
    match result.unwrap_err() {
        Error::Argument { what, .. } => what,
        other => panic!("expected an argument error, got {other:?}"),
    }
}

/// Sample `index` and its label.
fn read(dataset: &dyn Dataset, index: usize) -> Result<(Vec<f32>, i32)> {
    let batch = Batch::read(dataset, &[index], Pass::default())?;
    Ok((batch.inputs[0].values()?.to_vec(), batch.labels()?[0]))
}

/// The label of sample `index`.
fn label(dataset: &dyn Dataset, index: usize) -> Result<i32> {
    Ok(read(dataset, index)?.1)
}
