// SPDX-License-Identifier: MIT OR Apache-2.0
//! NaN and infinity: noticing them while a training goes on, and finding where they came from.

use std::collections::VecDeque;

use crate::exec::Role;
use crate::graph::{Graph, NodeId, ParamId, LOSS};
use crate::loss::Loss;
use crate::loss_scale::LossScale;
use crate::net::{Call, Net};
use crate::nn::Module;
use crate::op::{Groups, Op, Store};
use crate::passes::{Goal, Mode, Request, StepGoal};
use crate::runner::Types;
use crate::scalars::Scalars;
use crate::trainer::StepLoss;
use crate::values::{Given, Values};
use crate::{DType, Error, NonFiniteValue, Origin, Result, Tensor};

/// What a [`Trainer`](crate::Trainer) does about a loss or a gradient norm that is not finite.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NonFinite {
    /// [`Trainer::step`](crate::Trainer::step) fails with [`Error::NonFinite`]; also for a batch with
    /// nothing to take the mean of, such as one all of whose labels are ignored. Gradients that are not
    /// finite because of a [loss scale](crate::LossScale) above 1 that can fall are none of it.
    #[default]
    Stop,
    /// Nothing: the training goes on, and the losses are the caller's to look at.
    Continue,
}

/// Steps whose losses a device may still be at work on. Looking at one that was issued so many
/// steps ago leaves as many queued, so the device is never idle while the host waits.
const UNREAD: usize = 4;

/// Looks at the loss and the gradient norm of each step, as soon as that costs nothing.
#[derive(Debug)]
pub(crate) struct Watch {
    pub(crate) policy: NonFinite,
    /// What the loss is multiplied by.
    pub(crate) scale: LossScale,
    unread: VecDeque<(u64, StepLoss)>,
}

impl Watch {
    /// Stops at what is not finite, of a loss that is multiplied so.
    pub(crate) fn new(scale: LossScale) -> Self {
        Watch { policy: NonFinite::default(), scale, unread: VecDeque::new() }
    }

    /// Takes note of an update, and fails if it or an earlier one is known not to be finite.
    pub(crate) fn add(&mut self, update: u64, step: &StepLoss) -> Result<()> {
        if self.policy == NonFinite::Continue {
            return Ok(());
        }
        if step.is_there() && self.unread.is_empty() {
            return self.check(update, step);
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

    fn check(&self, update: u64, step: &StepLoss) -> Result<()> {
        let broken =
            |what: String, value| Err(Error::NonFinite { update, what, value, first: None });
        let (loss, norm) = (step.value()?, step.gradient_norm()?);
        let overflow = step.overflow()?;
        match (norm.filter(|norm| !norm.is_finite()), overflow) {
            _ if !loss.is_finite() => broken("the loss".into(), loss),
            // A lower scale may be to some use.
            (_, Some(scale)) if scale > 1.0 && matches!(self.scale, LossScale::Dynamic { .. }) => {
                Ok(())
            }
            (norm, Some(scale)) => {
                let what = format!("a gradient, at a loss scale of {scale},");
                broken(what, norm.unwrap_or(f32::NAN))
            }
            (Some(norm), None) => broken("the gradient norm".into(), norm),
            (None, None) => Ok(()),
        }
    }

    fn read_down_to(&mut self, count: usize) -> Result<()> {
        while self.unread.len() > count {
            let Some((update, step)) = self.unread.pop_front() else { break };
            // What follows a failure follows from it.
            self.check(update, &step).inspect_err(|_| self.unread.clear())?;
        }
        Ok(())
    }
}

impl<M> Net<M> {
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
    pub(crate) fn examine<I: Values, O: Values, T: Values>(
        &mut self,
        mode: Mode,
        loss: Option<(&dyn Loss<O, T>, &Groups)>,
        given: &Given,
        scalars: Scalars,
    ) -> Result<Option<NonFiniteValue>>
    where
        M: Module<I, O>,
    {
        let found = match examine_inputs(given.of_network())? {
            None => {
                let forward = loss.map(|(loss, _)| loss);
                match (self.examine_forward::<I, O, T>(mode, forward, given, scalars)?, loss) {
                    (None, Some(loss)) => {
                        self.examine_gradients::<I, O, T>(mode, loss, given, scalars)?
                    }
                    (found, _) => found,
                }
            }
            found => found,
        };
        let Some((origin, value)) = found else { return Ok(None) };
        Ok(Some(NonFiniteValue { origin, value, parameters: self.non_finite_parameters()? }))
    }

    fn examine_forward<I: Values, O: Values, T: Values>(
        &mut self,
        mode: Mode,
        loss: Option<&dyn Loss<O, T>>,
        given: &Given,
        scalars: Scalars,
    ) -> Result<Option<(Origin, f32)>>
    where
        M: Module<I, O>,
    {
        let request = Request { mode, goal: Goal::Layers };
        let (form, types) = (given.form::<I, O, T>(), Types::Of(given.tensors()));
        let plan = self.plan_for::<I, O, T>(request.clone(), loss, form, types)?;
        let origins: Vec<Origin> =
            plan.outputs.iter().map(|&(node, _)| origin(&plan.graph, node)).collect();
        let outputs = self.run::<I, O, T>(Call { request, loss, given, scalars })?;
        for (origin, output) in origins.into_iter().zip(&outputs.tensors) {
            if let Some(value) = first_of(output)? {
                return Ok(Some((origin, value)));
            }
        }
        Ok(None)
    }

    fn examine_gradients<I: Values, O: Values, T: Values>(
        &mut self,
        mode: Mode,
        (loss, groups): (&dyn Loss<O, T>, &Groups),
        given: &Given,
        scalars: Scalars,
    ) -> Result<Option<(Origin, f32)>>
    where
        M: Module<I, O>,
    {
        let (store, groups, scale) = (Store::Overwrite, groups.clone(), LossScale::Off);
        let request =
            Request { mode, goal: Goal::Step(StepGoal { store, update: None, groups, scale }) };
        let call = Call { request, loss: Some(loss), given, scalars };
        let plan = self.run::<I, O, T>(call)?.plan;
        // Backward begins at the last layer.
        for (parameter, gradient) in self.stored_gradients(plan)?.iter().rev() {
            if let Some(value) = first_of(gradient)? {
                let parameter = parameter.clone();
                return Ok(Some((Origin::Gradient { parameter }, value)));
            }
        }
        Ok(None)
    }
}

/// The first input that has a value in it that is not finite.
fn examine_inputs(inputs: &[Tensor]) -> Result<Option<(Origin, f32)>> {
    for (index, input) in inputs.iter().enumerate() {
        if let Some(value) = first_of(input)? {
            return Ok(Some((Origin::Input { index, of: inputs.len() }, value)));
        }
    }
    Ok(None)
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
