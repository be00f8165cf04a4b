// SPDX-License-Identifier: MIT OR Apache-2.0
//! Training: forward, loss, backward and optimiser as one plan.

mod tuned;

use crate::exec::Number;
use crate::graph::Node;
use crate::loss::Loss;
use crate::net::{Call, Net};
use crate::nn::Module;
use crate::non_finite::{NonFinite, Watch};
use crate::op::{Op, Store, TensorType};
use crate::optim::{Average, Optimizer, Schedule, Tuning};
use crate::passes::{Averages, Goal, Mode, Request, StepGoal, UpdateGoal};
use crate::plan::Plan;
use crate::scalars::Scalars;
use crate::{Error, NonFiniteValue, Result, Tensor};

/// Trains a network: holds it together with its loss, optimiser and schedule.
///
/// A step runs in train mode by construction; evaluation goes through the network's views.
///
/// A training that has met NaN or infinity does not recover by itself, so it stops there unless
/// [`with_non_finite`](Trainer::with_non_finite) says otherwise. The update is made by then: go
/// back to a checkpoint, and [`first_non_finite`](Trainer::first_non_finite) before the step says
/// which layer is the first to blame:
///
/// ```
/// use kiln::{loss::Mse, nn::Linear, optim::Sgd, Device, Error, Net, Seed, Tensor, Trainer};
///
/// let fit = || {
///     let net = Net::new(Device::cpu(), Seed(7), |p| Linear::new(&p.at("fc"), 1, 1))?;
///     Trainer::new(net, Mse::default(), Sgd::new(0.1))
/// };
/// let (x, target) = (Tensor::new([1, 1], vec![3e30])?, Tensor::zeros([1, 1]));
/// let stopped = fit()?.step(&x, &target).unwrap_err();
/// assert!(matches!(stopped, Error::NonFinite { update: 1, .. }), "{stopped}");
///
/// let first = fit()?.first_non_finite(&x, &target)?.expect("the loss of that step");
/// assert_eq!(first.to_string(), "all layers' outputs are finite, the loss is inf");
/// # Ok::<(), kiln::Error>(())
/// ```
#[derive(Debug)]
pub struct Trainer<M> {
    net: Net<M>,
    loss: Box<dyn Loss>,
    optimizer: Optimizer,
    schedule: Schedule,
    tuning: Tuning,
    max_norm: Option<f64>,
    micro_batches: usize,
    average: Option<Average>,
    updates: u64,
    /// Updates that the averages have seen.
    averaged: u64,
    /// Type of the first batch, by which a checkpoint describes the network.
    batch: Option<TensorType>,
    watch: Watch,
}

/// Some samples of a batch.
struct Part {
    start: usize,
    end: usize,
    /// What its loss counts in that of the batch.
    share: f64,
}

/// The loss of a step, read when its value is asked for: a GPU may still be at work on it, and
/// asking waits for it.
#[derive(Clone, Debug)]
pub struct StepLoss {
    parts: Vec<(Number, f64)>,
    norm: Option<Number>,
}

impl<M: Module> Trainer<M> {
    /// A trainer with a constant learning rate, no clipping and undivided batches. It trains all
    /// parameters, as the optimiser says.
    ///
    /// # Errors
    /// [`Error::Argument`] if the optimiser's options are out of range; [`Error::Device`] if there is no
    /// memory for moments in the place of those of an earlier training.
    pub fn new(
        mut net: Net<M>,
        loss: impl Loss + 'static,
        optimizer: impl Into<Optimizer>,
    ) -> Result<Self> {
        let optimizer = optimizer.into();
        optimizer.check()?;
        net.forget_moments()?;
        Ok(Trainer {
            tuning: Tuning::new(net.specs().clone()),
            net,
            loss: Box::new(loss),
            optimizer,
            schedule: Schedule::Constant,
            max_norm: None,
            micro_batches: 1,
            average: None,
            updates: 0,
            averaged: 0,
            batch: None,
            watch: Watch::default(),
        })
    }

    /// Lets the learning rate, and with [`Schedule::OneCycle`] the momentum, follow a schedule.
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

    /// Says what happens when the loss or the gradient norm of a step is NaN or infinite;
    /// [`NonFinite::Stop`] if nothing is said. The norm is looked at where it is computed: with
    /// [clipping](Trainer::with_clipping).
    pub fn with_non_finite(mut self, policy: NonFinite) -> Self {
        self.watch.policy = policy;
        self
    }

    /// One step on a batch: forward in train mode, loss, backward, update. On a GPU it returns when
    /// the step is issued; what goes wrong on the device later shows at the next call.
    ///
    /// # Errors
    /// [`Error::Shape`] with the layer's path if a layer cannot take its input; what the loss
    /// reports about the targets. The parameters are unchanged then.
    ///
    /// [`Error::NonFinite`] if the loss or the gradient norm is not finite, unless the trainer is to
    /// [continue](NonFinite::Continue). The update is made then. On a GPU, where a number is looked
    /// at only when nobody has to wait for it, this comes up to four steps later, or from
    /// [`check_finite`](Trainer::check_finite).
    pub fn step(&mut self, x: &Tensor, target: &Tensor) -> Result<StepLoss> {
        self.check_batch(x, target)?;
        let (rate, momentum) = (self.rate() as f32, self.momentum());
        let average = self.average.map_or(1.0, |average| average.weight(self.averaged));
        let update = u32::try_from(self.updates + 1).unwrap_or(u32::MAX);
        let parts = self.parts(x, target)?;
        let requests: Vec<Request> = (0..parts.len())
            .map(|index| self.request(index == 0, index + 1 == parts.len()))
            .collect();
        let loss = &*self.loss;
        if parts.len() > 1 {
            let types: Vec<TensorType> =
                parts[0].inputs(x, target, loss)?.iter().map(Tensor::ty).collect();
            let plan = self.net.plan_for(requests[0].clone(), Some(loss), &types)?;
            if let Some(output) = plan.results().get(1) {
                loss.check_output(target, output)?;
            }
            check_divisible(plan, parts[0].end - parts[0].start)?;
        }
        let step = self.net.attempt(|net| {
            let mut scalars = net.begin_pass(Mode::Train);
            (scalars.update, scalars.learning_rate) = (update, rate);
            scalars.momentum = momentum;
            scalars.average = average;
            let mut step = StepLoss { parts: Vec::with_capacity(parts.len()), norm: None };
            for (part, request) in parts.iter().zip(requests) {
                part.tell(&mut scalars);
                let inputs = part.inputs(x, target, loss)?;
                let call = Call { request, loss: Some(loss), inputs: &inputs, scalars };
                let outputs = net.run_later(call)?;
                step.parts.extend(outputs.get(0).map(|loss| (loss, part.share)));
                step.norm = outputs.get(2);
            }
            Ok(step)
        })?;
        self.updates += 1;
        self.averaged += u64::from(self.average.is_some());
        self.batch.get_or_insert_with(|| x.ty());
        self.watch.add(self.updates, &step)?;
        Ok(step)
    }

    /// Waits for all steps, and looks at their losses and gradient norms and at the parameters that
    /// they left; [`checkpoint::save`](crate::checkpoint::save) does so before it writes over an older
    /// checkpoint. It does nothing if the trainer is to [continue](NonFinite::Continue).
    ///
    /// # Errors
    /// [`Error::NonFinite`] if one of them is not finite, [`Error::Device`] if the device failed
    /// meanwhile.
    pub fn check_finite(&mut self) -> Result<()> {
        self.watch.settle()?;
        if self.watch.policy == NonFinite::Continue {
            return Ok(());
        }
        match self.net.non_finite()?.into_iter().next() {
            None => Ok(()),
            Some((name, value)) => {
                let what = format!("an element of {name}");
                Err(Error::NonFinite { update: self.updates, what, value, first: None })
            }
        }
    }

    /// What the next step on this batch would be the first to compute that is NaN or infinite:
    /// forward, loss and gradients with the masks of that step. Nothing is updated and no pass is
    /// counted. Much slower than a step.
    ///
    /// # Errors
    /// As [`step`](Trainer::step), without [`Error::NonFinite`].
    pub fn first_non_finite(
        &mut self,
        x: &Tensor,
        target: &Tensor,
    ) -> Result<Option<NonFiniteValue>> {
        self.check_batch(x, target)?;
        let output = self.plan(&x.ty(), &target.ty())?.results().get(1).copied().cloned();
        if let Some(output) = output {
            self.loss.check_output(target, &output)?;
        }
        let parts = self.parts(x, target)?;
        let (loss, groups) = (&*self.loss, self.tuning.groups().clone());
        self.net.uncounted(|net| {
            let mut scalars = net.begin_pass(Mode::Train);
            for part in parts {
                part.tell(&mut scalars);
                let inputs = part.inputs(x, target, loss)?;
                let found = net.examine(Mode::Train, Some((loss, &groups)), &inputs, scalars)?;
                if found.is_some() {
                    return Ok(found);
                }
            }
            Ok(None)
        })
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

    /// The momentum of the next update (Adam: its decay of the first moment) where the schedule moves
    /// it; `None` where it is the optimiser's own.
    pub fn momentum(&self) -> Option<f64> {
        self.schedule.momentum(self.updates)
    }

    /// The plan of an undivided step for inputs and targets of these types.
    ///
    /// # Errors
    /// What tracing and compiling report.
    pub fn plan(&mut self, x: &TensorType, target: &TensorType) -> Result<&Plan> {
        let mut inputs = vec![x.clone(), target.clone()];
        inputs.extend(self.loss.inputs().iter().map(Tensor::ty));
        let request = self.request(true, true);
        let plan = self.net.plan_for(request, Some(&*self.loss), &inputs)?;
        self.batch.get_or_insert_with(|| x.clone());
        Ok(plan)
    }

    /// The optimiser, with the moments that the schedule needs.
    pub(crate) fn optimizer(&self) -> Optimizer {
        Optimizer { rule: self.schedule.rule(self.optimizer.rule), ..self.optimizer }
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

    pub(crate) fn batch(&self) -> Option<&TensorType> {
        self.batch.as_ref()
    }

    pub(crate) fn set_batch(&mut self, batch: Option<TensorType>) {
        self.batch = batch;
    }

    /// Sets the number of updates that the parameters, which were just replaced, have seen.
    pub(crate) fn set_updates(&mut self, updates: u64) {
        self.updates = updates;
        self.watch.forget();
    }

    fn check_batch(&self, x: &Tensor, target: &Tensor) -> Result<()> {
        self.loss.check(target)?;
        if self.tuning.is_all_frozen() {
            return Err(Error::argument("step", "a parameter that is not frozen", "none"));
        }
        if x.shape().samples() != target.shape().samples() || x.shape().rank() == 0 {
            return Err(Error::Shape {
                layer: String::new(),
                op: "step".into(),
                expected: format!(
                    "targets for {} samples, as in {}",
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
        Ok(())
    }

    /// How a batch with this target is divided.
    fn parts(&self, x: &Tensor, target: &Tensor) -> Result<Vec<Part>> {
        let samples = target.shape().samples();
        // However many samples of no elements there are, they are not worth dividing.
        let ranges = split(samples, self.micro_batches.min(x.shape().elements().max(1)));
        if ranges.len() == 1 {
            return Ok(vec![Part { start: 0, end: samples, share: 1.0 }]);
        }
        let whole = self.loss.weight(target);
        let part = |&(start, end): &(usize, usize)| {
            let share = match (self.loss.weight(&target.samples(start, end)?), whole) {
                (Some(part), Some(whole)) => part / whole,
                _ => 1.0,
            };
            Ok(Part { start, end, share })
        };
        ranges.iter().map(part).collect()
    }

    /// What the plan of a micro-batch is for.
    fn request(&self, first: bool, last: bool) -> Request {
        let averages = self.average.map_or(Averages::None, Average::goal);
        let (rule, max_norm) = (self.optimizer().rule, self.max_norm);
        let update = UpdateGoal { rule, max_norm, averages };
        let step = StepGoal {
            store: if first { Store::Overwrite } else { Store::Accumulate },
            update: last.then_some(update),
            groups: self.tuning.groups().clone(),
        };
        Request { mode: Mode::Train, goal: Goal::Step(step) }
    }
}

impl Part {
    fn tell(&self, scalars: &mut Scalars) {
        scalars.share = self.share as f32;
        scalars.sample_offset = self.start as u32;
    }

    /// What a run of this part of a batch takes.
    fn inputs(&self, x: &Tensor, target: &Tensor, loss: &dyn Loss) -> Result<Vec<Tensor>> {
        let of = |whole: &Tensor| match self.end - self.start == whole.shape().samples() {
            true => Ok(whole.clone()),
            false => whole.samples(self.start, self.end),
        };
        let mut inputs = vec![of(x)?, of(target)?];
        inputs.extend(loss.inputs());
        Ok(inputs)
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

    /// Whether reading it waits for nothing.
    pub(crate) fn is_there(&self) -> bool {
        let numbers = self.parts.iter().map(|(loss, _)| loss).chain(&self.norm);
        numbers.into_iter().all(|number| matches!(number, Number::There(_)))
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
    let start = |part: usize| (part as u128 * samples as u128 / parts as u128) as usize;
    (0..parts).map(|part| (start(part), start(part + 1))).collect()
}
