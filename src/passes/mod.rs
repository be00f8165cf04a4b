// SPDX-License-Identifier: MIT OR Apache-2.0
//! From a traced graph to a plan, in named passes; the graph is verified after each.

mod assemble;
mod draws;
mod fuse;
mod gradient;
mod layout;
mod memory;
mod mode;
mod precision;
mod schedule;
mod simplify;
mod tripwire;
mod update;

use crate::graph::{Graph, Node, ParamRole, Traced};
use crate::kernel::Facts;
use crate::loss_scale::LossScale;
use crate::op::{Groups, InputId, Store, TensorType, UpdateRule};
use crate::plan::Plan;
use crate::{Error, Result};
pub use draws::{Draws, Dropouts, Masks};

/// How random layers behave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Dropout draws masks.
    Train,
    /// Nothing is random.
    Eval,
    /// Dropout draws masks from the counters of Monte Carlo passes; all else is as in eval mode.
    MonteCarlo(Draws),
}

/// What a plan is for; together with the input types it is the key under which plans are kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// How random layers behave.
    pub mode: Mode,
    /// What is computed.
    pub goal: Goal,
}

/// What a plan computes. A traced function with a loss returns it and then the outputs, one without
/// returns the outputs.
#[derive(Clone, Debug, PartialEq)]
pub enum Goal {
    /// The results of the traced function.
    Forward,
    /// The output of every layer, in the order in which they are computed.
    Layers,
    /// Also the gradients with respect to the network's inputs and all parameters. Returns the
    /// results and the gradients of those inputs that have one.
    Gradients(Seed),
    /// A training step: the loss's gradients and what is done with them. Returns the loss and,
    /// with clipping, the norm; with a loss scale also the overflow of [`Unscale`](crate::op::Unscale).
    Step(StepGoal),
}

/// Where backward starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seed {
    /// The last inputs are the gradients of as many first results ([`Traced::seeds`]).
    Input,
    /// The first result is a loss; its gradient is 1.
    One,
}

/// What a training step does with the gradients.
#[derive(Clone, Debug, PartialEq)]
pub struct StepGoal {
    /// How they meet the gradients of earlier micro-batches.
    pub store: Store,
    /// The update that ends the step; `None` if more micro-batches follow.
    pub update: Option<UpdateGoal>,
    /// How each parameter is trained.
    pub groups: Groups,
    /// What the loss is multiplied by.
    pub scale: LossScale,
}

/// The update that ends a training step.
#[derive(Clone, Debug, PartialEq)]
pub struct UpdateGoal {
    /// The optimiser's rule.
    pub rule: UpdateRule,
    /// Largest global norm of the gradients, if they are clipped.
    pub max_norm: Option<f64>,
    /// Of what moving averages are kept.
    pub averages: Averages,
}

/// Of what a step moves averages along.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Averages {
    /// Of nothing.
    #[default]
    None,
    /// Of all parameters, frozen ones too.
    Parameters,
    /// Also of the state that is not trained, but for counters.
    ParametersAndState,
}

impl Averages {
    /// What changes the parameters whose averages are kept.
    pub fn roles(self) -> &'static [ParamRole] {
        match self {
            Averages::None => &[],
            Averages::Parameters => &[ParamRole::Trained],
            Averages::ParametersAndState => &[ParamRole::Trained, ParamRole::State],
        }
    }
}

/// Compiles a traced function for a backend.
///
/// # Errors
/// [`Error::Shape`] if the request does not fit the function (a step without a scalar loss) or if
/// its values are more than any memory holds; [`Error::Internal`] if a pass breaks an invariant.
pub fn compile(traced: Traced, request: &Request, facts: &Facts) -> Result<Plan> {
    let (results, span) =
        (traced.results.len(), Span { inputs: traced.inputs, seeds: traced.seeds });
    let graph = verified("mode", mode::specialise(traced.graph, request.mode))?;
    let graph = match request.mode {
        Mode::MonteCarlo(draws) => verified("draws", draws::repeat(graph, draws, &request.goal))?,
        Mode::Train | Mode::Eval => graph,
    };
    let types = graph.outputs[..results].iter().map(|&id| graph.node(id).ty.clone()).collect();
    let (graph, results) = returned(graph, &request.goal, results);
    let (graph, gradients) = gradient::append(graph, &request.goal, span)?;
    let graph = verified("gradient", Ok(graph))?;
    let graph = verified("update", update::append(graph, &request.goal, results))?;
    let graph = verified("simplify", simplify::rewrite(graph))?;
    let graph = verified("precision", Ok(precision::assign(graph, facts.precision)))?;
    let graph = verified("layout", layout::assign(graph, facts))?;
    within_reach(&graph)?;
    let clusters = fuse::clusters(&graph, facts)?;
    let count = clusters.len();
    let schedule = schedule::order(&graph, clusters, facts);
    if schedule.steps.len() != count {
        let message = format!("{} of {count} steps have an order", schedule.steps.len());
        return Err(Error::Internal { pass: "schedule", message });
    }
    let placement = memory::place(&graph, &schedule, facts);
    let returned = Returned { results, types, gradients };
    let plan = assemble::plan(graph, schedule, placement, returned, facts)?;
    tripwire::check(&plan, request).map(|()| plan)
}

/// What a graph becomes in a mode: without dropout where nothing is dropped, and with changes of state
/// in train mode alone.
pub(crate) fn in_mode(graph: &Graph, mode: Mode) -> Result<Graph> {
    verified("mode", mode::specialise(graph.clone(), mode))
}

/// What of a function is differentiated.
#[derive(Clone, Copy)]
struct Span {
    /// Inputs whose gradients are returned.
    inputs: usize,
    /// Results whose gradients are given.
    seeds: usize,
}

/// The function with those of its results that a run returns: of a training step the loss alone, so that
/// what only its outputs need is not computed.
fn returned(mut graph: Graph, goal: &Goal, results: usize) -> (Graph, usize) {
    match goal {
        Goal::Step(_) => {
            graph.outputs.truncate(1);
            (graph, results.min(1))
        }
        Goal::Forward | Goal::Layers | Goal::Gradients(_) => (graph, results),
    }
}

/// What a graph returns first: results, and then the gradients of these inputs.
struct Returned {
    results: usize,
    /// Of all results of the function.
    types: Vec<TensorType>,
    gradients: Vec<InputId>,
}

fn verified(pass: &'static str, graph: Result<Graph>) -> Result<Graph> {
    let graph = graph?;
    graph.verify(pass)?;
    Ok(graph)
}

/// So much less than can be addressed that the memory pass may add sizes up as it likes.
const MOST_BYTES: u128 = isize::MAX as u128 >> 4;

fn within_reach(graph: &Graph) -> Result<()> {
    let size = |node: &Node| node.ty.shape.elements() as u128 * node.ty.dtype.bytes() as u128;
    let bytes: u128 = graph.nodes().map(|(_, node)| size(node)).sum();
    if bytes <= MOST_BYTES {
        return Ok(());
    }
    Err(Error::Shape {
        layer: String::new(),
        op: "plan".into(),
        expected: format!("values of at most {MOST_BYTES} bytes in all"),
        got: bytes.to_string(),
    })
}

/// Wraps a shape rule's complaint about a node that a pass appended.
fn broken(pass: &'static str) -> impl Fn(crate::op::Mismatch) -> Error {
    move |m| Error::Internal { pass, message: format!("expected {}, got {}", m.expected, m.got) }
}
