// SPDX-License-Identifier: MIT OR Apache-2.0
//! The parameters alone, to exchange with PyTorch.

use std::collections::BTreeMap;
use std::path::Path;

use super::reader::{shown, Conversion, TensorFile};
use super::training::{saved_state, VALUE};
use super::writer::{Named, Sealing, TensorWriter};
use crate::data::Position;
use crate::exec::Role;
use crate::graph::{ParamId, ParamSpec};
use crate::{Error, Net, Result};

/// How the names in a file become those of parameters, and what must be there.
///
/// ```
/// use kiln::checkpoint::{load_weights_with, save_weights, Strictness, WeightsOptions};
/// use kiln::models::SimpleNet;
/// use kiln::nn::Linear;
/// use kiln::{Device, Net, Seed};
///
/// # let path = std::env::temp_dir().join(format!("kiln-options-{}.safetensors", std::process::id()));
/// let mut trained = Net::new(Device::cpu(), Seed(7), |p| SimpleNet::new(&p.at("module"), 4, 8, 3, 0.5))?;
/// save_weights(&mut trained, &path)?;
/// let mut layer = Net::new(Device::cpu(), Seed(8), |p| Linear::new(&p.at("fc1"), 4, 8))?;
/// let options = WeightsOptions {
///     strip_prefix: "module.".into(),
///     strictness: Strictness::Lenient,
///     ..WeightsOptions::default()
/// };
/// let weights = load_weights_with(&mut layer, &path, &options)?;
/// assert_eq!(weights.loaded, ["fc1.weight", "fc1.bias"]);
/// assert_eq!(weights.left_over[0], "module.fc2.bias");
/// # std::fs::remove_file(&path).unwrap();
/// # Ok::<(), kiln::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WeightsOptions {
    /// Taken from the front of the names that begin with it: `"module."` for what
    /// `torch.nn.DataParallel` saved.
    pub strip_prefix: String,
    /// Put in front of all names after that.
    pub add_prefix: String,
    /// Whether file and network must hold the same tensors.
    pub strictness: Strictness,
}

/// Whether a file must hold a network's parameters and nothing else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strictness {
    /// A parameter that the file lacks and a tensor that the network lacks are errors.
    #[default]
    Strict,
    /// Parameters that the file lacks keep their values, and tensors that the network lacks are left
    /// out; both are listed. Another shape is an error all the same, and so is a file that has none
    /// of the parameters.
    Lenient,
}

/// What came of loading weights.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoadedWeights {
    /// Parameters that were set, in order of creation.
    pub loaded: Vec<String>,
    /// Parameters that the file lacks, in order of creation.
    pub missing: Vec<String>,
    /// Tensors of the file that the network lacks, under their names in the file, in order of these.
    pub left_over: Vec<String>,
}

/// Writes the parameters of a network as a safetensors file, under the names and shapes of
/// PyTorch's `state_dict`; in Python, `model.load_state_dict(safetensors.torch.load_file(path))`.
///
/// # Errors
/// [`Error::Io`] if the file cannot be written; an old file stays then.
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
pub fn save_weights<M>(net: &mut Net<M>, path: impl AsRef<Path>) -> Result<()> {
    write(net, path.as_ref(), None)
}

/// Sets the parameters of a network from a safetensors file with PyTorch's names and shapes, or from
/// the training file of [`save`](super::save). Tensors of `f16` and `bf16` are converted.
///
/// # Errors
/// [`Error::Checkpoint`] with every tensor that is missing, unexpected, of another shape or of a type
/// that `f32` cannot hold; [`Error::Data`] if the file is damaged or of another kind, which is named.
/// The network is unchanged then.
pub fn load_weights<M>(net: &mut Net<M>, path: impl AsRef<Path>) -> Result<()> {
    load_weights_with(net, path, &WeightsOptions::default()).map(|_| ())
}

/// As [`load_weights`], from a file whose names or tensors differ.
///
/// # Errors
/// As [`load_weights`]; also [`Error::Checkpoint`] if two tensors would set the same parameter.
pub fn load_weights_with<M>(
    net: &mut Net<M>,
    path: impl AsRef<Path>,
    options: &WeightsOptions,
) -> Result<LoadedWeights> {
    let file = TensorFile::open(path.as_ref())?;
    let of_training = saved_state(&file)?.is_some();
    let mut by_parameter = BTreeMap::new();
    let mut wrong = Vec::new();
    for name in file.names() {
        let bare = match (of_training, name.strip_prefix(VALUE)) {
            (false, _) => name,
            (true, Some(bare)) => bare,
            (true, None) => continue,
        };
        let bare = bare.strip_prefix(options.strip_prefix.as_str()).unwrap_or(bare);
        let parameter = format!("{}{bare}", options.add_prefix);
        if let Some(other) = by_parameter.insert(parameter.clone(), name) {
            let (parameter, both) = (shown(&parameter), [other, name].map(shown).join(" and "));
            wrong.push(format!("{parameter}: expected one tensor, got {both}"));
        }
    }
    let mut weights = LoadedWeights::default();
    let mut found = Vec::new();
    for (index, wanted) in parameters(net, "").into_iter().enumerate() {
        match by_parameter.remove(&wanted.name) {
            None if options.strictness == Strictness::Lenient => weights.missing.push(wanted.name),
            name => {
                let name = name.unwrap_or(wanted.name.as_str());
                wrong.extend(file.misfit(name, &wanted, Conversion::Widening));
                found.push((ParamId::at(index), name.to_string()));
                weights.loaded.push(wanted.name);
            }
        }
    }
    let mut left_over: Vec<&str> = by_parameter.into_values().collect();
    left_over.sort_unstable();
    match options.strictness {
        Strictness::Strict => wrong.extend(left_over.iter().map(|name| file.unexpected(name))),
        Strictness::Lenient if weights.loaded.is_empty() => {
            let first =
                |names: Vec<&str>| names.first().map_or("nothing".into(), |name| shown(name));
            let (ours, theirs) = (weights.missing.iter().map(String::as_str).collect(), left_over);
            let (ours, theirs) = (first(ours), first(theirs));
            wrong.push(format!(
                "expected a parameter's name, such as {ours}, got {theirs} and others"
            ));
            return Err(file.mismatch(wrong));
        }
        Strictness::Lenient => {}
    }
    if !wrong.is_empty() {
        return Err(file.mismatch(wrong));
    }
    weights.left_over = left_over.into_iter().map(str::to_string).collect();
    let (store, backend) = net.state();
    for (id, name) in found {
        let mut elements = file.elements(&name)?;
        store.write_in_pieces(backend, Role::Value, id, |piece| elements.fill(piece))?;
    }
    Ok(weights)
}

/// Where in the data the weights of a file were taken, if it says so: files of
/// [`save`](super::save) do, those of [`save_weights`] and of other programs do not.
///
/// # Errors
/// [`Error::Io`] if there is no such file, [`Error::Data`] if it is damaged.
pub fn position(path: impl AsRef<Path>) -> Result<Option<Position>> {
    let file = TensorFile::open(path.as_ref())?;
    if let Some(state) = saved_state(&file)? {
        return Ok(Some(state.progress.position));
    }
    let invalid = |error| file.invalid(0, "a position in the data", error);
    file.text(POSITION).map(|text| serde_json::from_str(text).map_err(invalid)).transpose()
}

/// Key of the position in the header of a file of weights.
const POSITION: &str = "kiln.position";

/// Writes a file of weights, and with it where they were taken.
pub(super) fn write<M>(net: &mut Net<M>, path: &Path, position: Option<Position>) -> Result<()> {
    // What PyTorch's own writer notes; some readers ask for it.
    let mut texts = vec![("format", "pt".to_string())];
    if let Some(position) = position {
        let text = serde_json::to_string(&position)
            .map_err(|error| Error::Internal { pass: "checkpoint", message: error.to_string() })?;
        texts.push((POSITION, text));
    }
    let mut parameters: Vec<(usize, Named)> = parameters(net, "").into_iter().enumerate().collect();
    parameters.sort_by(|(_, a), (_, b)| a.name.cmp(&b.name));
    let (order, named): (Vec<usize>, Vec<Named>) = parameters.into_iter().unzip();
    let mut writer = TensorWriter::begin(path, &texts, &named, Sealing::None)?;
    let (store, backend) = net.state();
    for index in order {
        let write = |piece: &[f32]| writer.elements(piece);
        store.read_in_pieces(backend, Role::Value, ParamId::at(index), write)?;
    }
    writer.finish()
}

/// One tensor per parameter, in order of creation, under its name behind a prefix.
pub(super) fn parameters<M>(net: &Net<M>, prefix: &str) -> Vec<Named> {
    let specs = net.specs().iter();
    specs.map(|spec| named(spec, prefix)).collect()
}

/// The tensor of a parameter, under its name behind a prefix.
pub(super) fn named(spec: &ParamSpec, prefix: &str) -> Named {
    let name = format!("{prefix}{}", spec.name);
    Named { name, shape: spec.shape.clone(), dtype: spec.dtype }
}
