// SPDX-License-Identifier: MIT OR Apache-2.0
//! Training: forward, loss, backward and optimiser as one plan.

use crate::exec::Number;
use crate::graph::Node;
use crate::loss::Loss;
use crate::net::{Call, Net};
use crate::nn::Module;
use crate::op::{Op, Store, TensorType};
use crate::optim::{Optimizer, Schedule};
use crate::passes::{Goal, Mode, Request, StepGoal, UpdateGoal};
use crate::plan::Plan;
use crate::{Error, Result, Tensor};

/// Trains a network: holds it together with its loss, optimiser and schedule.
///
/// A step runs in train mode by construction; evaluation goes through the network's views.
#[derive(Debug)]
pub struct Trainer<M> {
    net: Net<M>,
    loss: Box<dyn Loss>,
    optimizer: Optimizer,
    schedule: Schedule,
    max_norm: Option<f64>,
    micro_batches: usize,
    updates: u64,
}

/// The loss of a step, read when its value is asked for: a GPU may still be at work on it, and
/// asking waits for it.
#[derive(Clone, Debug)]
pub struct StepLoss {
    parts: Vec<(Number, f64)>,
    norm: Option<Number>,
}

impl<M: Module> Trainer<M> {
    /// A trainer with a constant learning rate, no clipping and undivided batches.
    ///
    /// # Errors
    /// [`Error::Argument`] if the optimiser's options are out of range.
    pub fn new(
        net: Net<M>,
        loss: impl Loss + 'static,
        optimizer: impl Into<Optimizer>,
    ) -> Result<Self> {
        let optimizer = optimizer.into();
        optimizer.check()?;
        Ok(Trainer {
            net,
            loss: Box::new(loss),
            optimizer,
            schedule: Schedule::Constant,
            max_norm: None,
            micro_batches: 1,
            updates: 0,
        })
    }

    /// Lets the learning rate follow a schedule.
    ///
    /// # Errors
    /// [`Error::Argument`] if the schedule's options are out of range.
    pub fn with_schedule(mut self, schedule: Schedule) -> Result<Self> {
        schedule.check()?;
        self.schedule = schedule;
        Ok(self)
    }

    /// Scales all gradients down together where their global norm exceeds `max_norm`, as
    /// `torch.nn.utils.clip_grad_norm_` (Pascanu et al. 2012, arXiv:1211.5063).
    ///
    /// # Errors
    /// [`Error::Argument`] unless `max_norm` is more than 0.
    pub fn with_clipping(mut self, max_norm: f64) -> Result<Self> {
        if max_norm.is_nan() || max_norm <= 0.0 {
            return Err(Error::argument("max_norm", "more than 0", max_norm));
        }
        self.max_norm = Some(max_norm);
        Ok(self)
    }

    /// Runs each batch in `count` parts whose gradients add up, to save memory. Masks, and up to
    /// rounding the result, are those of the undivided batch; a step says so where that cannot be,
    /// since a dropout counts other samples than the batch has (behind a reshape or a transpose).
    ///
    /// # Errors
    /// [`Error::Argument`] if `count` is 0.
    pub fn with_micro_batches(mut self, count: usize) -> Result<Self> {
        if count == 0 {
            return Err(Error::argument("micro_batches", "1 or more", count));
        }
        self.micro_batches = count;
        Ok(self)
    }

    /// One step on a batch: forward in train mode, loss, backward, update. On a GPU it returns when
    /// the step is issued; what goes wrong on the device later shows at the next call.
    ///
    /// # Errors
    /// [`Error::Shape`] with the layer's path if a layer cannot take its input; what the loss
    /// reports about the targets. The parameters are unchanged then.
    pub fn step(&mut self, x: &Tensor, target: &Tensor) -> Result<StepLoss> {
        self.loss.check(target)?;
        if x.shape().samples() != target.shape().samples() || x.shape().rank() == 0 {
            return Err(Error::Shape {
                layer: String::new(),
                op: "step".into(),
                expected: format!(
                    "targets for the {} samples of {}",
                    x.shape().samples(),
                    x.shape()
                ),
                got: target.shape().to_string(),
            });
        }
        if x.shape().samples() == 0 {
            return Err(Error::Shape {
                layer: String::new(),
                op: "step".into(),
                expected: "a batch of one sample or more".into(),
                got: x.shape().to_string(),
            });
        }
        let rate = self.rate() as f32;
        let update = u32::try_from(self.updates + 1).unwrap_or(u32::MAX);
        let ranges = split(x.shape().samples(), self.micro_batches);
        let requests: Vec<Request> = (0..ranges.len())
            .map(|index| self.request(index == 0, index + 1 == ranges.len()))
            .collect();
        let loss = &*self.loss;
        if ranges.len() > 1 {
            let (start, end) = ranges[0];
            let mut types = vec![x.samples(start, end)?.ty(), target.samples(start, end)?.ty()];
            types.extend(loss.inputs().iter().map(Tensor::ty));
            let plan = self.net.plan_for(requests[0].clone(), Some(loss), &types)?;
            if let Some(output) = plan.results().get(1) {
                loss.check_output(target, output)?;
            }
            check_divisible(plan, end - start)?;
        }
        let whole = loss.weight(target);
        let step = self.net.attempt(|net| {
            let mut scalars = net.begin_pass(Mode::Train);
            (scalars.update, scalars.learning_rate) = (update, rate);
            let mut step = StepLoss { parts: Vec::with_capacity(ranges.len()), norm: None };
            for (&(start, end), request) in ranges.iter().zip(requests) {
                let (x, target) = match ranges.len() {
                    1 => (x.clone(), target.clone()),
                    _ => (x.samples(start, end)?, target.samples(start, end)?),
                };
                let share = match (loss.weight(&target), whole) {
                    (Some(part), Some(whole)) if ranges.len() > 1 => part / whole,
                    _ => 1.0,
                };
                scalars.share = share as f32;
                scalars.sample_offset = start as u32;
                let mut inputs = vec![x, target];
                inputs.extend(loss.inputs());
                let call = Call { request, loss: Some(loss), inputs: &inputs, scalars };
                let outputs = net.run_later(call)?;
                step.parts.extend(outputs.number(0).map(|loss| (loss, share)));
                step.norm = outputs.number(2);
            }
            Ok(step)
        })?;
        self.updates += 1;
        Ok(step)
    }

    /// The network, to evaluate it between steps.
    pub fn net(&mut self) -> &mut Net<M> {
        &mut self.net
    }

    /// Gives the network back.
    pub fn into_net(self) -> Net<M> {
        self.net
    }

    /// The loss.
    pub fn loss(&self) -> &dyn Loss {
        &*self.loss
    }

    /// Number of updates made so far.
    pub fn updates(&self) -> u64 {
        self.updates
    }

    /// The learning rate of the next update.
    pub fn rate(&self) -> f64 {
        self.schedule.rate(self.optimizer.rate, self.updates)
    }

    /// The plan of an undivided step for inputs and targets of these types.
    ///
    /// # Errors
    /// What tracing and compiling report.
    pub fn plan(&mut self, x: &TensorType, target: &TensorType) -> Result<&Plan> {
        let mut inputs = vec![x.clone(), target.clone()];
        inputs.extend(self.loss.inputs().iter().map(Tensor::ty));
        let request = self.request(true, true);
        self.net.plan_for(request, Some(&*self.loss), &inputs)
    }

    pub(crate) fn optimizer(&self) -> &Optimizer {
        &self.optimizer
    }

    pub(crate) fn schedule(&self) -> &Schedule {
        &self.schedule
    }

    pub(crate) fn max_norm(&self) -> Option<f64> {
        self.max_norm
    }

    pub(crate) fn micro_batches(&self) -> usize {
        self.micro_batches
    }

    pub(crate) fn set_updates(&mut self, updates: u64) {
        self.updates = updates;
    }

    /// What the plan of a micro-batch is for.
    fn request(&self, first: bool, last: bool) -> Request {
        let update = UpdateGoal { rule: self.optimizer.rule, max_norm: self.max_norm };
        let step = StepGoal {
            store: if first { Store::Overwrite } else { Store::Accumulate },
            update: last.then_some(update),
        };
        Request { mode: Mode::Train, goal: Goal::Step(step) }
    }
}

impl StepLoss {
    /// The loss of the batch, as it was before the update.
    ///
    /// # Errors
    /// [`Error::Device`] if the device failed meanwhile.
    pub fn value(&self) -> Result<f32> {
        let mut sum = 0.0;
        for (loss, share) in self.parts.iter().filter(|(_, share)| *share != 0.0) {
            sum += f64::from(loss.item()?) * share;
        }
        Ok(sum as f32)
    }

    /// The global norm of the gradients before clipping; `None` without clipping.
    ///
    /// # Errors
    /// [`Error::Device`] if the device failed meanwhile.
    pub fn gradient_norm(&self) -> Result<Option<f32>> {
        self.norm.as_ref().map(Number::item).transpose()
    }
}

/// Whether the parts of a batch draw the masks of the whole: a mask counts samples from the part's
/// first on, so every dropout must count the batch's samples.
fn check_divisible(part: &Plan, samples: usize) -> Result<()> {
    let counts_others =
        |node: &&Node| matches!(node.op, Op::Dropout(_)) && node.ty.shape.samples() != samples;
    let mut nodes = part.graph.nodes();
    let Some((id, node)) = nodes.find(|(_, node)| counts_others(node)) else { return Ok(()) };
    Err(Error::Shape {
        layer: part.graph.layer(id).path.clone(),
        op: node.op.name().into(),
        expected: format!(
            "the samples of the batch, since micro-batches must draw the masks of the whole \
             ({samples} in a part)"
        ),
        got: node.ty.shape.samples().to_string(),
    })
}

/// `samples` in `parts` ranges of almost equal length, none empty.
fn split(samples: usize, parts: usize) -> Vec<(usize, usize)> {
    let parts = parts.clamp(1, samples.max(1));
    (0..parts).map(|part| (part * samples / parts, (part + 1) * samples / parts)).collect()
}
