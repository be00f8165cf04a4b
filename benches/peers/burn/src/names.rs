// SPDX-License-Identifier: MIT OR Apache-2.0
//! Parameters under PyTorch's names and in its order: burn transposes linear layers, and keeps the gates of an LSTM
//! apart.

use std::collections::{BTreeMap, HashMap};

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Tensor, TensorData};

use super::dropping::tensor;
use super::protocol::Result;
use super::protocol::files::Values;

/// Where a parameter stands in the network.
#[derive(Default)]
struct Path {
    names: Vec<String>,
    containers: Vec<String>,
}

/// What PyTorch calls a parameter, and which rows of that it is.
struct Place {
    name: String,
    /// The gate of a recurrent layer, in PyTorch's order of four.
    gate: Option<usize>,
    is_transposed: bool,
}

impl Path {
    fn enter(&mut self, name: &str, container: &str) {
        self.names.push(name.to_owned());
        self.containers.push(container.to_owned());
    }

    fn exit(&mut self) {
        self.names.pop();
        self.containers.pop();
    }

    fn place(&self) -> Place {
        let names: Vec<&str> = self.names.iter().map(String::as_str).collect();
        let is_linear = self.containers.iter().any(|container| container == "Struct:Linear");
        let is_transposed = is_linear && names.last() == Some(&"weight");
        if let [layer, gate, transform, what] = names[..] {
            let gates = ["input_gate", "forget_gate", "cell_gate", "output_gate"];
            if let (Some(index), Some(number)) =
                (layer.strip_prefix("lstm_l"), gates.iter().position(|name| *name == gate))
            {
                let of = if transform == "input_transform" { "ih" } else { "hh" };
                return Place {
                    name: format!("lstm.{what}_{of}_l{index}"),
                    gate: Some(number),
                    is_transposed,
                };
            }
        }
        let name: Vec<&str> = names
            .iter()
            .map(|name| match *name {
                "gamma" => "weight",
                "beta" => "bias",
                name => name,
            })
            .collect();
        Place { name: name.join("."), gate: None, is_transposed }
    }
}

/// The network with the parameters of a file.
pub fn load<M: Module>(model: M, given: HashMap<String, Values>) -> Result<M> {
    let mut loader = Loader { path: Path::default(), given, missing: Vec::new() };
    let model = model.map(&mut loader);
    match &loader.missing[..] {
        [] => Ok(model),
        missing => Err(format!("the file lacks {}", missing.join(", ")).into()),
    }
}

struct Loader {
    path: Path,
    given: HashMap<String, Values>,
    missing: Vec<String>,
}

impl ModuleMapper for Loader {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let place = self.path.place();
        let Some(values) = self.given.get(&place.name) else {
            self.missing.push(place.name);
            return param;
        };
        let mut values = values.clone();
        if let Some(gate) = place.gate {
            values.shape[0] /= 4;
            let length: usize = values.shape.iter().product();
            values.floats = values.floats[gate * length..][..length].to_vec();
        }
        param.map(|old| {
            let tracks = old.is_require_grad();
            let new: Tensor<D> = tensor(&values, &old.device());
            let new = if place.is_transposed { new.transpose() } else { new };
            // As the library lays it out: a product with a transposed matrix may take another way.
            Tensor::from_data(new.into_data(), &old.device()).set_require_grad(tracks)
        })
    }
}

/// All parameters and statistics.
pub fn state<M: Module>(model: &M) -> Vec<(String, Values)> {
    Reader::read(model, None)
}

/// The gradients of all parameters that have one.
pub fn gradients<M: Module>(model: &M, gradients: &GradientsParams) -> Vec<(String, Values)> {
    Reader::read(model, Some(gradients))
}

struct Reader<'a> {
    path: Path,
    gradients: Option<&'a GradientsParams>,
    found: BTreeMap<String, BTreeMap<usize, Values>>,
}

impl<'a> Reader<'a> {
    fn read<M: Module>(model: &M, gradients: Option<&'a GradientsParams>) -> Vec<(String, Values)> {
        let mut reader = Reader { path: Path::default(), gradients, found: BTreeMap::new() };
        model.visit(&mut reader);
        let join = |(name, gates): (String, BTreeMap<usize, Values>)| {
            let mut gates = gates.into_values();
            let mut all = gates.next()?;
            for gate in gates {
                all.shape[0] += gate.shape[0];
                all.floats.extend(gate.floats);
            }
            Some((name, all))
        };
        reader.found.into_iter().filter_map(join).collect()
    }
}

impl ModuleVisitor for Reader<'_> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let place = self.path.place();
        let tensor = match self.gradients {
            Some(gradients) => gradients.get::<D>(param.id),
            None => Some(param.val()),
        };
        let Some(tensor) = tensor else { return };
        let tensor = if place.is_transposed { tensor.transpose() } else { tensor };
        let gates = self.found.entry(place.name).or_default();
        gates.insert(place.gate.unwrap_or(0), values(tensor.into_data()));
    }
}

/// A library's tensor by its extents and values.
pub fn values(data: TensorData) -> Values {
    let shape = data.shape().iter().copied().collect();
    Values { shape, floats: data.iter::<f32>().collect() }
}
