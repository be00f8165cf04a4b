// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where layers register their parameters, under the names that PyTorch's `state_dict` would use.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::rates::{Rates, Schedules};
use super::{DropoutSchedule, Init};
use crate::graph::{LayerPath, Param, ParamId, ParamRole, ParamSpec, ParamUsage};
use crate::lint::{Code, Finding, Remarks, Severity};
use crate::scalars::RateSlot;
use crate::{DType, Error, Shape};

/// A place in the tree of layers, handed to each layer's constructor.
#[derive(Clone, Debug)]
pub struct Scope {
    registry: Arc<Mutex<Registry>>,
    path: String,
    /// What layers that drop at a rate follow in its place.
    schedules: Option<Schedules>,
}

/// What a parameter is besides its name and shape.
struct Kind {
    usage: ParamUsage,
    role: ParamRole,
    dtype: DType,
}

impl Kind {
    fn trained(usage: ParamUsage) -> Self {
        Kind { usage, role: ParamRole::Trained, dtype: DType::F32 }
    }
}

/// The one name that a tensor in a safetensors file cannot have.
const SAFETENSORS_HEADER: &str = "__metadata__";

/// Everything that layers registered.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    pub(crate) parameters: Vec<ParamSpec>,
    pub(crate) initialisers: Vec<Init>,
    pub(crate) errors: Vec<Error>,
    pub(crate) remarks: Remarks,
    /// Rates of dropout that change.
    pub(crate) rates: Rates,
    names: BTreeSet<String>,
}

impl Scope {
    /// The root of a new network.
    pub(crate) fn root() -> Self {
        Scope { registry: Arc::default(), path: String::new(), schedules: None }
    }

    /// The place of a child: `p.at("fc1")`.
    pub fn at(&self, name: &str) -> Scope {
        let path = if self.path.is_empty() { name.into() } else { format!("{}.{name}", self.path) };
        Scope { path, ..self.clone() }
    }

    /// The path from the network's root, `"encoder.fc1"`; empty at the root.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Registers a parameter of this layer.
    pub fn parameter(&self, name: &str, shape: impl Into<Shape>, init: Init) -> Param {
        self.register(name, shape.into(), init, Kind::trained(ParamUsage::Plain))
    }

    /// Registers the matrix `[out, in]` of a linear map, which backends keep in a layout of their
    /// own; it is read and written as any other parameter.
    pub fn linear_weight(&self, name: &str, outputs: usize, inputs: usize, init: Init) -> Param {
        let kind = Kind::trained(ParamUsage::LinearWeight);
        self.register(name, [outputs, inputs].into(), init, kind)
    }

    /// Registers state of this layer that is not trained, such as a running mean: PyTorch's buffers.
    pub fn state(&self, name: &str, shape: impl Into<Shape>, init: Init) -> Param {
        let kind = Kind { usage: ParamUsage::Plain, role: ParamRole::State, dtype: DType::F32 };
        self.register(name, shape.into(), init, kind)
    }

    /// Registers a counter of this layer, an `i64` that starts at 0.
    pub fn counter(&self, name: &str) -> Param {
        let kind = Kind { usage: ParamUsage::Plain, role: ParamRole::State, dtype: DType::I64 };
        self.register(name, Shape::scalar(), Init::Constant(0.0), kind)
    }

    /// Reports an argument that the layer cannot take; it comes back from the network's
    /// constructor.
    pub fn reject(&self, what: &str, expected: &str, got: impl ToString) {
        self.registry().errors.push(Error::Argument {
            layer: self.path.clone(),
            what: what.into(),
            expected: expected.into(),
            got: got.to_string(),
        });
    }

    /// The same place, about which [`lint`](crate::lint) says nothing of this code, nor about the layers below
    /// it, whatever files and options say.
    ///
    /// ```
    /// use kiln::lint::Code;
    /// use kiln::nn::{Dropout, Linear, Relu, Scope, Sequential};
    /// use kiln::{op::TensorType, Device, Net, Seed};
    ///
    /// let found = |place: fn(&Scope) -> Scope| {
    ///     let net = Net::new(Device::cpu(), Seed(7), |p| {
    ///         let hidden = Sequential::new(p).with(|p| Linear::new(p, 784, 64)).with(|_| Relu);
    ///         hidden.with(|p| Dropout::new(&place(p), 0.05)).with(|p| Linear::new(p, 64, 10))
    ///     })?;
    ///     Ok::<_, kiln::Error>(net.lint(&[TensorType::f32([8, 784].into())])?.findings)
    /// };
    /// assert_eq!(found(Scope::clone)?[0].code, Code::RateLow);
    /// assert!(found(|p| p.allow(Code::RateLow))?.is_empty());
    /// # Ok::<(), kiln::Error>(())
    /// ```
    pub fn allow(&self, code: Code) -> Scope {
        self.registry().remarks.allowed.push((self.path.clone(), code));
        self.clone()
    }

    /// The same place, where the rates of [`Dropout`](super::Dropout), [`Dropout1d`](super::Dropout1d) to
    /// `Dropout3d`, [`LockedDropout`](super::LockedDropout), [`StochasticDepth`](super::StochasticDepth), of
    /// the dropout between recurrent layers and of recurrent weights, here and below, follow a schedule: what `schedule` makes of a layer's path and the rate that it was
    /// given. So the rates of a network change that was written for constant ones.
    ///
    /// ```
    /// use kiln::models::SimpleNet;
    /// use kiln::nn::DropoutSchedule;
    /// use kiln::{Device, Net, Seed};
    ///
    /// let net = Net::new(Device::cpu(), Seed(7), |p| {
    ///     let rising = |_: &str, p| DropoutSchedule::Linear { start: 0.0, end: p, passes: 100 };
    ///     SimpleNet::new(&p.with_dropout_schedule(rising), 4, 8, 3, 0.5)
    /// })?;
    /// assert_eq!(net.dropout_rates(50)?, [("dropout1", 0.25), ("dropout2", 0.25)]);
    /// # Ok::<(), kiln::Error>(())
    /// ```
    pub fn with_dropout_schedule(
        &self,
        schedule: impl Fn(&str, f32) -> DropoutSchedule + Send + Sync + 'static,
    ) -> Scope {
        Scope { schedules: Some(Schedules::new(schedule)), ..self.clone() }
    }

    /// The schedule that a layer with this rate follows, if there is one.
    pub(super) fn schedule_of(&self, p: f32) -> Option<DropoutSchedule> {
        self.schedules.as_ref().map(|schedules| schedules.of(&self.path, p))
    }

    /// Registers a rate of this layer that changes; none if there are too many.
    pub(super) fn changing_rate(&self, schedule: DropoutSchedule) -> Option<RateSlot> {
        let layer = self.path.clone();
        self.registry().rates.add(layer, schedule)
    }

    /// Tells lint what the graph of this layer will not show.
    pub(crate) fn remark(&self, code: Code, severity: Severity, reason: impl Into<String>) {
        let (layer, reason) = (self.path.clone(), reason.into());
        self.registry().remarks.found.push(Finding { code, severity, layer, reason });
    }

    /// The path of a layer of this kind, to record its operations under.
    pub(crate) fn layer(&self, kind: &'static str) -> LayerPath {
        LayerPath { path: self.path.as_str().into(), kind }
    }

    /// Ends registration.
    pub(crate) fn into_registry(self) -> Registry {
        std::mem::take(&mut self.registry())
    }

    fn registry(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn register(&self, name: &str, shape: Shape, init: Init, kind: Kind) -> Param {
        let full_name = self.at(name).path;
        let mut registry = self.registry();
        if !registry.names.insert(full_name.clone()) {
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
        let expected = match (shape.elements(), shape.is_allowed()) {
            (0, _) => Some("a shape with elements".into()),
            (_, false) => Some(format!("a shape of at most {} elements", Shape::MOST_ELEMENTS)),
            _ => None,
        };
        if let Some(expected) = expected {
            registry.errors.push(Error::Argument {
                layer: self.path.clone(),
                what: format!("parameter {name}"),
                expected,
                got: shape.to_string(),
            });
        }
        if let Some((expected, got)) = init.refusal(&shape) {
            registry.errors.push(Error::Argument {
                layer: self.path.clone(),
                what: format!("parameter {name}"),
                expected: expected.into(),
                got,
            });
        }
        let id = ParamId::at(registry.parameters.len());
        let Kind { usage, role, dtype } = kind;
        let spec = ParamSpec { name: full_name, shape: shape.clone(), dtype, usage, role };
        registry.parameters.push(spec);
        registry.initialisers.push(init);
        Param::new(id, shape)
    }
}
