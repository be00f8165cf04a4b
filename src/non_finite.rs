// SPDX-License-Identifier: MIT OR Apache-2.0
//! NaN and infinity: noticing them while a training goes on, and finding where they came from.

use std::collections::VecDeque;

use crate::exec::Role;
use crate::graph::{Graph, NodeId, ParamId, LOSS};
use crate::loss::Loss;
use crate::net::{Call, Net};
use crate::nn::Module;
use crate::op::{Groups, Op, Store};
use crate::passes::{Goal, Mode, Request, StepGoal};
use crate::scalars::Scalars;
use crate::trainer::StepLoss;
use crate::{DType, Error, NonFiniteValue, Origin, Result, Tensor};

/// What a [`Trainer`](crate::Trainer) does about a loss or a gradient norm that is not finite.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NonFinite {
    /// [`Trainer::step`](crate::Trainer::step) fails with [`Error::NonFinite`]; also for a batch with
    /// nothing to take the mean of, such as one all of whose labels are ignored.
    #[default]
    Stop,
    /// Nothing: the training goes on, and the losses are the caller's to look at.
    Continue,
}

/// Steps whose losses a device may still be at work on. Looking at one that was issued so many
/// steps ago leaves as many queued, so the device is never idle while the host waits.
const UNREAD: usize = 4;

/// Looks at the loss and the gradient norm of each step, as soon as that costs nothing.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    pub(crate) policy: NonFinite,
    unread: VecDeque<(u64, StepLoss)>,
}

impl Watch {
    /// Takes note of an update, and fails if it or an earlier one is known not to be finite.
    pub(crate) fn add(&mut self, update: u64, step: &StepLoss) -> Result<()> {
        if self.policy == NonFinite::Continue {
            return Ok(());
        }
        if step.is_there() && self.unread.is_empty() {
            return check(update, step);
        }
        self.unread.push_back((update, step.clone()));
        self.read_down_to(UNREAD)
    }

    /// Waits for all updates, and fails if one of them is not finite.
    pub(crate) fn settle(&mut self) -> Result<()> {
        self.read_down_to(0)
    }

    /// Forgets updates whose parameters are no longer those of the network.
    pub(crate) fn forget(&mut self) {
        self.unread.clear();
    }

    fn read_down_to(&mut self, count: usize) -> Result<()> {
        while self.unread.len() > count {
            let Some((update, step)) = self.unread.pop_front() else { break };
            // What follows a failure follows from it.
            check(update, &step).inspect_err(|_| self.unread.clear())?;
        }
        Ok(())
    }
}

fn check(update: u64, step: &StepLoss) -> Result<()> {
    let broken =
        |what: &str, value| Err(Error::NonFinite { update, what: what.into(), value, first: None });
    match (step.value()?, step.gradient_norm()?) {
        (loss, _) if !loss.is_finite() => broken("the loss", loss),
        (_, Some(norm)) if !norm.is_finite() => broken("the gradient norm", norm),
        _ => Ok(()),
    }
}

impl<M: Module> Net<M> {
    /// Names of the parameters that have an element that is NaN or infinite, in order of creation.
    ///
    /// # Errors
    /// [`Error::Device`] if the device failed meanwhile.
    ///
    /// ```
    /// # use kiln::{nn::Linear, Device, Net, Seed, Tensor};
    /// let mut net = Net::new(Device::cpu(), Seed(7), |p| Linear::new(&p.at("fc"), 2, 1))?;
    /// assert!(net.non_finite_parameters()?.is_empty());
    /// net.set_parameter("fc.weight", &Tensor::new([1, 2], vec![f32::NAN, 0.0])?)?;
    /// assert_eq!(net.non_finite_parameters()?, ["fc.weight"]);
    /// # Ok::<(), kiln::Error>(())
    /// ```
    pub fn non_finite_parameters(&mut self) -> Result<Vec<String>> {
        Ok(self.non_finite()?.into_iter().map(|(name, _)| name).collect())
    }

    /// The parameters that have an element that is not finite, each with the first such element.
    pub(crate) fn non_finite(&mut self) -> Result<Vec<(String, f32)>> {
        let specs = self.specs().clone();
        let (store, backend) = self.state();
        let mut found = Vec::new();
        for (index, spec) in specs.iter().enumerate().filter(|(_, s)| s.dtype == DType::F32) {
            let mut first = None;
            store.read_in_pieces(backend, Role::Value, ParamId::at(index), |piece| {
                first = first.or(piece.iter().copied().find(|value| !value.is_finite()));
                Ok(())
            })?;
            found.extend(first.map(|value| (spec.name.clone(), value)));
        }
        Ok(found)
    }

    /// Runs the pass of these scalars with every layer's output returned, and finds the first that
    /// is not finite; with a loss, also in the loss and in the gradients of what is not frozen.
    pub(crate) fn examine(
        &mut self,
        mode: Mode,
        loss: Option<(&dyn Loss, &Groups)>,
        inputs: &[Tensor],
        scalars: Scalars,
    ) -> Result<Option<NonFiniteValue>> {
        let found = match inputs.first().map(first_of).transpose()?.flatten() {
            Some(value) => Some((Origin::Input, value)),
            None => {
                let forward = loss.map(|(loss, _)| loss);
                match (self.examine_forward(mode, forward, inputs, scalars)?, loss) {
                    (None, Some(loss)) => self.examine_gradients(mode, loss, inputs, scalars)?,
                    (found, _) => found,
                }
            }
        };
        let Some((origin, value)) = found else { return Ok(None) };
        Ok(Some(NonFiniteValue { origin, value, parameters: self.non_finite_parameters()? }))
    }

    fn examine_forward(
        &mut self,
        mode: Mode,
        loss: Option<&dyn Loss>,
        inputs: &[Tensor],
        scalars: Scalars,
    ) -> Result<Option<(Origin, f32)>> {
        let request = Request { mode, goal: Goal::Layers };
        let types: Vec<_> = inputs.iter().map(Tensor::ty).collect();
        let plan = self.plan_for(request.clone(), loss, &types)?;
        let origins: Vec<Origin> =
            plan.outputs.iter().map(|&(node, _)| origin(&plan.graph, node)).collect();
        let outputs = self.run(Call { request, loss, inputs, scalars })?;
        for (origin, output) in origins.into_iter().zip(&outputs) {
            if let Some(value) = first_of(output)? {
                return Ok(Some((origin, value)));
            }
        }
        Ok(None)
    }

    fn examine_gradients(
        &mut self,
        mode: Mode,
        (loss, groups): (&dyn Loss, &Groups),
        inputs: &[Tensor],
        scalars: Scalars,
    ) -> Result<Option<(Origin, f32)>> {
        let loss = Some(loss);
        let (store, groups) = (Store::Overwrite, groups.clone());
        let request = Request { mode, goal: Goal::Step(StepGoal { store, update: None, groups }) };
        self.run(Call { request: request.clone(), loss, inputs, scalars })?;
        // Backward begins at the last layer.
        for (parameter, gradient) in self.stored_gradients(&request, loss, inputs)?.iter().rev() {
            if let Some(value) = first_of(gradient)? {
                let parameter = parameter.clone();
                return Ok(Some((Origin::Gradient { parameter }, value)));
            }
        }
        Ok(None)
    }
}

/// The values that leave a layer: what another layer takes or the function returns.
pub(crate) fn layer_outputs(graph: &Graph) -> Vec<NodeId> {
    let users = graph.users();
    let leaves = |id: NodeId| {
        let is_loss = graph.layer(id).kind == LOSS;
        let node = graph.node(id);
        let returned = graph.outputs().contains(&id);
        let taken = |user: &NodeId| graph.node(*user).layer != node.layer;
        let given =
            matches!(node.op, Op::Input(_) | Op::Parameter(_) | Op::Constant(_) | Op::Scalar(_));
        node.ty.dtype == DType::F32
            && !given
            && (returned || (!is_loss && users[id.index()].iter().any(taken)))
    };
    graph.nodes().map(|(id, _)| id).filter(|&id| leaves(id)).collect()
}

fn origin(graph: &Graph, node: NodeId) -> Origin {
    let layer = graph.layer(node);
    match layer.kind {
        LOSS => Origin::Loss,
        _ => Origin::Layer { path: layer.path.clone(), op: graph.node(node).op.name() },
    }
}

/// The first element that is not finite; `None` for integers too.
fn first_of(tensor: &Tensor) -> Result<Option<f32>> {
    match tensor.dtype() {
        DType::I32 | DType::I64 => Ok(None),
        _ => Ok(tensor.values()?.iter().copied().find(|value| !value.is_finite())),
    }
}
