// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tracing: running a module's `forward` once on symbolic values to record its graph.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use super::{Builder, Graph, InputId, LayerId, NodeId, Param, ParamSpec};
use crate::mask::site_of;
use crate::op::{Binary, DropRate, Dropout, Drops, Mismatch, Op, StateRule, TensorType, When};
use crate::{Error, Result, Shape};

/// A value in a network that is being traced.
///
/// Operations never fail on the spot: a mistake is noted with the layer's path, the result counts
/// as unknown from there on, and all mistakes come back together when the trace ends.
#[derive(Clone)]
pub struct Var {
    tracer: Rc<RefCell<Tracer>>,
    node: Option<NodeId>,
}

/// Where a layer stands in its network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LayerPath {
    pub(crate) path: Arc<str>,
    pub(crate) kind: &'static str,
}

/// What a trace yields.
#[derive(Clone, Debug)]
pub struct Traced {
    /// The recorded graph.
    pub graph: Graph,
    /// The node of each value that the traced function returned.
    pub results: Vec<NodeId>,
    /// Inputs, from the first on, whose gradients are returned where gradients are asked for.
    pub inputs: usize,
    /// Results, from the first on, whose gradients are given as the last inputs where backward is to
    /// start from them.
    pub seeds: usize,
}

struct Tracer {
    builder: Builder,
    layers: Vec<LayerId>,
    paths: Vec<Arc<str>>,
    calls: BTreeMap<Arc<str>, u32>,
    sites: BTreeMap<u32, String>,
    errors: Vec<Error>,
    /// Masks in the place of those that dropouts would draw.
    given: Option<GivenMasks>,
    /// Whether it belongs to no network: see [`Var::nowhere`].
    is_nowhere: bool,
}

/// Masks for the dropouts to come, in their order.
struct GivenMasks {
    masks: Vec<Option<NodeId>>,
    /// Dropouts that have asked for theirs.
    asked: usize,
}

/// Records the graph of `function`, which is called once with one value per input type.
///
/// # Errors
/// Every mistake that the function made, as one [`Error`]; [`Error::Many`] if there are several.
pub fn trace(
    parameters: Arc<Vec<ParamSpec>>,
    inputs: &[TensorType],
    function: impl FnOnce(&[Var]) -> Vec<Var>,
) -> Result<Traced> {
    let (tracer, inputs) = begun(parameters, inputs)?;
    let results = function(&inputs);
    ended(&tracer, &results)
}

/// A trace that begins, and its inputs.
fn begun(
    parameters: Arc<Vec<ParamSpec>>,
    inputs: &[TensorType],
) -> Result<(Rc<RefCell<Tracer>>, Vec<Var>)> {
    Error::check(inputs.iter().filter_map(|ty| too_large(&ty.shape)).collect())?;
    let mut builder = Builder::new(parameters);
    let nodes: Vec<NodeId> = inputs
        .iter()
        .enumerate()
        .map(|(index, ty)| builder.input(InputId(index as u32), ty.clone()))
        .collect();
    let tracer = Rc::new(RefCell::new(Tracer::new(builder)));
    let var = |node: NodeId| Var { tracer: tracer.clone(), node: Some(node) };
    let inputs = nodes.into_iter().map(var).collect();
    Ok((tracer, inputs))
}

/// What was recorded until a function returned these results.
fn ended(tracer: &Rc<RefCell<Tracer>>, results: &[Var]) -> Result<Traced> {
    if let Some(kept) = results.iter().find(|result| !result.is_of(tracer)) {
        let nowhere = kept.errors_of_nowhere();
        let mut tracer = tracer.borrow_mut();
        match tracer.errors.is_empty() && nowhere.is_empty() {
            true => tracer.note("forward", of_another_trace()),
            false => tracer.errors.extend(nowhere),
        }
    }
    let mut tracer = tracer.borrow_mut();
    Error::check(std::mem::take(&mut tracer.errors))?;
    let results: Option<Vec<NodeId>> = results.iter().map(|var| var.node).collect();
    let results = results.ok_or_else(|| Error::Internal {
        pass: "trace",
        message: "a result is unknown though no error was noted".into(),
    })?;
    let graph = tracer.builder.graph().clone();
    let traced = Traced::new(Builder::extend(graph).finish(results.clone()), results);
    traced.graph.verify("trace")?;
    Ok(traced)
}

impl Traced {
    /// A function of one input to be differentiated, whose first result has a gradient.
    pub fn new(graph: Graph, results: Vec<NodeId>) -> Self {
        Traced { graph, results, inputs: 1, seeds: 1 }
    }
}

/// An error for an input of more elements than tensors have.
fn too_large(shape: &Shape) -> Option<Error> {
    let mismatch = shape.clone().allowed().err()?;
    let (expected, got) = (mismatch.expected, mismatch.got);
    Some(Error::Shape { layer: String::new(), op: "input".into(), expected, got })
}

impl Var {
    /// The value's shape; `None` if a mistake made it unknown.
    pub fn shape(&self) -> Option<Shape> {
        let tracer = self.tracer.borrow();
        self.node.map(|node| tracer.builder.shape(node).clone())
    }

    /// Applies an operation to this value and further ones.
    pub(crate) fn apply(&self, op: Op, others: &[&Var]) -> Var {
        if let Some(kept) = others.iter().find(|other| !self.is_of(&other.tracer)) {
            for (from, to) in [(*kept, self), (self, *kept)] {
                let nowhere = from.errors_of_nowhere();
                if !nowhere.is_empty() {
                    to.tracer.borrow_mut().errors.extend(nowhere);
                    return to.unknown();
                }
            }
            // In both traces, since either may be the one that is running.
            kept.tracer.borrow_mut().note(op.name(), of_another_trace());
            return self.mistake(op.name(), of_another_trace());
        }
        let mut inputs = Vec::with_capacity(1 + others.len());
        for var in std::iter::once(self).chain(others.iter().copied()) {
            match var.node {
                Some(node) => inputs.push(node),
                None => return self.unknown(),
            }
        }
        let added = self.tracer.borrow_mut().add(op, &inputs);
        Var { tracer: self.tracer.clone(), node: added }
    }

    /// A parameter of the network as a value; `self` only says which trace is meant.
    pub fn parameter(&self, parameter: &Param) -> Var {
        let mut tracer = self.tracer.borrow_mut();
        let specs = &tracer.builder.graph().parameters;
        let known = specs.get(parameter.id().index()).map(|spec| &spec.shape);
        let node = if known == Some(parameter.shape()) {
            Some(tracer.builder.parameter(parameter.id()))
        } else {
            let expected = "a parameter registered in the scope of this network";
            let got = format!("one of shape {} from elsewhere", parameter.shape());
            tracer.note("parameter", Mismatch::new(expected, got));
            None
        };
        Var { tracer: self.tracer.clone(), node }
    }

    /// A value that needs no other; `self` only says which trace is meant.
    pub(crate) fn leaf(&self, op: Op) -> Var {
        let node = self.tracer.borrow_mut().add(op, &[]);
        Var { node, ..self.clone() }
    }

    /// What a mistake yields that was made without any value, and so in no trace. The trace that
    /// meets it notes the mistake.
    pub(crate) fn nowhere(op: &str, mismatch: Mismatch) -> Var {
        let mut tracer = Tracer::new(Builder::new(Arc::default()));
        tracer.note(op, mismatch);
        tracer.is_nowhere = true;
        Var { tracer: Rc::new(RefCell::new(tracer)), node: None }
    }

    /// A further result of the operation that yielded this value, counted from 1.
    pub(crate) fn result(&self, index: usize) -> Var {
        let Some(node) = self.node else { return self.clone() };
        let mut tracer = self.tracer.borrow_mut();
        let result = tracer.builder.result(node, index);
        let node = result.map_err(|mismatch| tracer.note("result", mismatch)).ok();
        drop(tracer);
        Var { node, ..self.clone() }
    }

    /// Changes state in train mode; the new state. `self` only says which trace is meant.
    pub(crate) fn set_state(&self, state: &Param, rule: StateRule, inputs: &[&Var]) -> Var {
        let op = Op::SetState(state.id(), rule);
        match inputs.split_first() {
            Some((first, others)) => first.apply(op, others),
            None => self.leaf(op),
        }
    }

    /// Records what `body` does as part of a layer.
    pub(crate) fn within(&self, layer: &LayerPath, body: impl FnOnce(&Var) -> Var) -> Var {
        self.tracer.borrow_mut().enter(layer);
        let result = body(self);
        self.tracer.borrow_mut().leave();
        result
    }

    /// Dropout at the next site of the current layer: each call of a layer draws its own mask.
    pub(crate) fn dropout(&self, rate: DropRate, drops: Drops) -> Var {
        self.dropout_at(self.next_site(), rate, drops)
    }

    /// The number of the next site of the current layer.
    pub(crate) fn next_site(&self) -> u32 {
        self.tracer.borrow_mut().next_site()
    }

    /// Dropout at a site that the caller has numbered.
    pub(crate) fn dropout_at(&self, site: u32, rate: DropRate, drops: Drops) -> Var {
        let given = self.tracer.borrow_mut().next_mask();
        match given {
            Some(node) => self.masked(&Var { node, ..self.clone() }, drops),
            None => self.apply(Op::Dropout(Dropout { site, rate, drops }), &[]),
        }
    }

    /// Runs `body`, in which each dropout multiplies by the next of these masks and draws none. `self`
    /// only says which trace is meant.
    pub(crate) fn with_masks<R>(&self, masks: &[Var], body: impl FnOnce() -> R) -> R {
        let own = masks.iter().all(|mask| mask.is_of(&self.tracer));
        if !own {
            self.tracer.borrow_mut().note("masks", of_another_trace());
        }
        let masks: Vec<Option<NodeId>> =
            masks.iter().map(|mask| mask.node.filter(|_| own)).collect();
        let count = masks.len();
        let outer = self.tracer.borrow_mut().given.replace(GivenMasks { masks, asked: 0 });
        let result = body();
        let mut tracer = self.tracer.borrow_mut();
        let asked = std::mem::replace(&mut tracer.given, outer).map_or(0, |given| given.asked);
        if asked != count {
            let expected = format!("{asked} masks, one for each dropout");
            tracer.note("masks", Mismatch::new(expected, count));
        }
        result
    }

    /// This value times a mask where dropout would draw one, itself elsewhere.
    fn masked(&self, mask: &Var, drops: Drops) -> Var {
        let (Some(shape), Some(of_mask)) = (self.shape(), mask.shape()) else {
            return self.unknown();
        };
        let expected = drops.mask_shape(&shape);
        if of_mask != expected {
            let expected = format!("a mask of shape {expected}");
            return self.mistake("dropout", Mismatch::new(expected, of_mask));
        }
        let mask = match of_mask == shape {
            true => mask.clone(),
            false => mask.apply(Op::Broadcast(shape), &[]),
        };
        let kept = self.apply(Op::Binary(Binary::Multiply), &[&mask]);
        kept.apply(Op::ByMode(When::Random), &[self])
    }

    /// Notes a mistake and yields an unknown value.
    pub(crate) fn mistake(&self, op: &str, mismatch: Mismatch) -> Var {
        self.tracer.borrow_mut().note(op, mismatch);
        self.unknown()
    }

    fn errors_of_nowhere(&self) -> Vec<Error> {
        let mut tracer = self.tracer.borrow_mut();
        match tracer.is_nowhere {
            true => std::mem::take(&mut tracer.errors),
            false => Vec::new(),
        }
    }

    fn is_of(&self, tracer: &Rc<RefCell<Tracer>>) -> bool {
        Rc::ptr_eq(&self.tracer, tracer)
    }

    fn unknown(&self) -> Var {
        Var { tracer: self.tracer.clone(), node: None }
    }
}

/// A module that keeps a value may meet it again in a later forward pass, whose graph does not have
/// it.
fn of_another_trace() -> Mismatch {
    Mismatch::new("values of one forward pass", "one kept from another")
}

impl Tracer {
    fn new(builder: Builder) -> Self {
        Tracer {
            builder,
            layers: vec![],
            paths: vec![],
            calls: BTreeMap::new(),
            sites: BTreeMap::new(),
            errors: vec![],
            given: None,
            is_nowhere: false,
        }
    }

    fn add(&mut self, op: Op, inputs: &[NodeId]) -> Option<NodeId> {
        let name = op.name();
        match self.builder.add(op, inputs) {
            Ok(node) => Some(node),
            Err(mismatch) => {
                self.note(name, mismatch);
                None
            }
        }
    }

    fn note(&mut self, op: &str, mismatch: Mismatch) {
        self.errors.push(Error::Shape {
            layer: self.paths.last().map_or(String::new(), |path| path.to_string()),
            op: op.into(),
            expected: mismatch.expected,
            got: mismatch.got,
        });
    }

    fn enter(&mut self, layer: &LayerPath) {
        let id = self.builder.layer(&layer.path, layer.kind);
        self.layers.push(id);
        self.paths.push(layer.path.clone());
        self.builder.set_layer(id);
    }

    fn leave(&mut self) {
        self.layers.pop();
        self.paths.pop();
        self.builder.set_layer(self.layers.last().copied().unwrap_or(LayerId(0)));
    }

    fn next_site(&mut self) -> u32 {
        let path = self.paths.last().cloned().unwrap_or_else(|| "".into());
        let call = self.calls.entry(path.clone()).or_default();
        let name = format!("{path}#{call}");
        *call += 1;
        let site = site_of(&name);
        if let Some(other) = self.sites.insert(site, name.clone()) {
            let got = format!("{name} and {other}, which share the hash {site:#010x}");
            self.note("dropout", Mismatch::new("sites with hashes of their own", got));
        }
        site
    }

    /// Where masks are given, the next of them: none where there are too few.
    fn next_mask(&mut self) -> Option<Option<NodeId>> {
        let given = self.given.as_mut()?;
        given.asked += 1;
        Some(given.masks.get(given.asked - 1).copied().flatten())
    }
}

impl fmt::Debug for Var {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Var").field("node", &self.node).field("shape", &self.shape()).finish()
    }
}
