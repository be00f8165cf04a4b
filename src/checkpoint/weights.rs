// SPDX-License-Identifier: MIT OR Apache-2.0
//! The parameters alone, to exchange with PyTorch.

use std::path::Path;

use super::atomic::write_atomically;
use super::file::{encode, Note, RawFile, Wanted};
use crate::graph::ParamId;
use crate::nn::Module;
use crate::{Net, Result, Tensor};

/// Writes the parameters of a network as a safetensors file, under the names and shapes of
/// PyTorch's `state_dict`; in Python, `model.load_state_dict(safetensors.torch.load_file(path))`.
///
/// # Errors
/// [`Error::Io`](crate::Error::Io) if the file cannot be written; an old file stays then.
///
/// ```
/// use kiln::checkpoint::{load_weights, save_weights};
/// use kiln::models::SimpleNet;
/// use kiln::{Device, Net, Seed};
///
/// # let path = std::env::temp_dir().join(format!("kiln-weights-{}.safetensors", std::process::id()));
/// let make = |seed| Net::new(Device::cpu(), seed, |p| SimpleNet::new(p, 4, 8, 3, 0.5));
/// let (mut trained, mut fresh) = (make(Seed(7))?, make(Seed(8))?);
/// save_weights(&mut trained, &path)?;
/// load_weights(&mut fresh, &path)?;
/// assert_eq!(fresh.parameter("fc1.weight")?, trained.parameter("fc1.weight")?);
/// # std::fs::remove_file(&path).unwrap();
/// # Ok::<(), kiln::Error>(())
/// ```
pub fn save_weights<M: Module>(net: &mut Net<M>, path: impl AsRef<Path>) -> Result<()> {
    let tensors = values(net)?;
    // What PyTorch's own writer notes; some readers ask for it.
    let note = Note { key: "format", text: "pt".into() };
    write_atomically(path, &encode(&tensors, note)?)
}

/// Sets the parameters of a network from a safetensors file with PyTorch's names and shapes.
///
/// # Errors
/// [`Error::Checkpoint`](crate::Error::Checkpoint) with every tensor that is missing, unexpected,
/// of another shape or not `f32`; [`Error::Data`](crate::Error::Data) if the file is damaged. The
/// network is unchanged then.
pub fn load_weights<M: Module>(net: &mut Net<M>, path: impl AsRef<Path>) -> Result<()> {
    let raw = RawFile::read(path.as_ref())?;
    let tensors = raw.parse()?.take(&wanted(net, ""))?;
    set_values(net, &tensors)
}

/// Names and values of all parameters, in order of creation.
pub(super) fn values<M: Module>(net: &mut Net<M>) -> Result<Vec<(String, Tensor)>> {
    let names: Vec<String> = net.specs().iter().map(|spec| spec.name.clone()).collect();
    let (store, backend) = net.state();
    let read = |(index, name)| Ok((name, store.read(backend, ParamId::at(index))?));
    names.into_iter().enumerate().map(read).collect()
}

/// Sets all parameters, given in order of creation.
pub(super) fn set_values<M: Module>(net: &mut Net<M>, tensors: &[(String, Tensor)]) -> Result<()> {
    let (store, backend) = net.state();
    for (index, (_, tensor)) in tensors.iter().enumerate() {
        store.write(backend, ParamId::at(index), tensor.values()?)?;
    }
    Ok(())
}

/// One tensor per parameter, in order of creation, under its name behind a prefix.
pub(super) fn wanted<M: Module>(net: &Net<M>, prefix: &str) -> Vec<Wanted> {
    let specs = net.specs().iter();
    specs
        .map(|spec| Wanted { name: format!("{prefix}{}", spec.name), shape: spec.shape.clone() })
        .collect()
}
