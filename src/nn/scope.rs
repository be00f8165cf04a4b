// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where layers register their parameters, under the names that PyTorch's `state_dict` would use.

use std::cell::RefCell;
use std::rc::Rc;

use super::Init;
use crate::graph::{LayerPath, ParamId, ParamSpec, ParamUsage};
use crate::{Error, Shape};

/// A place in the tree of layers, handed to each layer's constructor.
#[derive(Clone, Debug)]
pub struct Scope {
    registry: Rc<RefCell<Registry>>,
    path: String,
}

/// The identity of a parameter; its numbers live in the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Param {
    id: ParamId,
    shape: Shape,
}

/// The one name that a tensor in a safetensors file cannot have.
const SAFETENSORS_HEADER: &str = "__metadata__";

/// Everything that layers registered.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    pub(crate) parameters: Vec<ParamSpec>,
    pub(crate) initialisers: Vec<Init>,
    pub(crate) errors: Vec<Error>,
}

impl Scope {
    /// The root of a new network.
    pub(crate) fn root() -> Self {
        Scope { registry: Rc::default(), path: String::new() }
    }

    /// The place of a child: `p.at("fc1")`.
    pub fn at(&self, name: &str) -> Scope {
        let path = if self.path.is_empty() { name.into() } else { format!("{}.{name}", self.path) };
        Scope { registry: self.registry.clone(), path }
    }

    /// The path from the network's root, `"encoder.fc1"`; empty at the root.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Registers a parameter of this layer.
    pub fn parameter(&self, name: &str, shape: impl Into<Shape>, init: Init) -> Param {
        self.register(name, shape.into(), init, ParamUsage::Plain)
    }

    /// Registers the matrix `[out, in]` of a linear map, which backends keep in a layout of their
    /// own; it is read and written as any other parameter.
    pub fn linear_weight(&self, name: &str, outputs: usize, inputs: usize, init: Init) -> Param {
        self.register(name, [outputs, inputs].into(), init, ParamUsage::LinearWeight)
    }

    /// Reports an argument that the layer cannot take; it comes back from the network's
    /// constructor.
    pub fn reject(&self, what: &str, expected: &str, got: impl ToString) {
        self.registry.borrow_mut().errors.push(Error::Argument {
            layer: self.path.clone(),
            what: what.into(),
            expected: expected.into(),
            got: got.to_string(),
        });
    }

    /// The path of a layer of this kind, to record its operations under.
    pub(crate) fn layer(&self, kind: &'static str) -> LayerPath {
        LayerPath { path: self.path.as_str().into(), kind }
    }

    /// Ends registration.
    pub(crate) fn into_registry(self) -> Registry {
        std::mem::take(&mut self.registry.borrow_mut())
    }

    fn register(&self, name: &str, shape: Shape, init: Init, usage: ParamUsage) -> Param {
        let full_name = self.at(name).path;
        let mut registry = self.registry.borrow_mut();
        if registry.parameters.iter().any(|known| known.name == full_name) {
            registry.errors.push(Error::Argument {
                layer: self.path.clone(),
                what: format!("parameter {name}"),
                expected: "a name not taken yet".into(),
                got: full_name.clone(),
            });
        }
        if full_name == SAFETENSORS_HEADER {
            registry.errors.push(Error::Argument {
                layer: self.path.clone(),
                what: format!("parameter {name}"),
                expected: "another name, since safetensors files keep this one for their header"
                    .into(),
                got: full_name.clone(),
            });
        }
        if shape.elements() == 0 {
            registry.errors.push(Error::Argument {
                layer: self.path.clone(),
                what: format!("parameter {name}"),
                expected: "a shape with elements".into(),
                got: shape.to_string(),
            });
        }
        let id = ParamId::at(registry.parameters.len());
        registry.parameters.push(ParamSpec { name: full_name, shape: shape.clone(), usage });
        registry.initialisers.push(init);
        Param { id, shape }
    }
}

impl Param {
    /// The parameter's shape, as PyTorch has it.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    pub(crate) fn id(&self) -> ParamId {
        self.id
    }
}
