// SPDX-License-Identifier: MIT OR Apache-2.0
//! Training: forward, loss, backward and optimiser as one plan.

mod look;
mod parts;
mod rate;
mod scaled;
mod tuned;

use crate::backend::PlanId;
use crate::exec::Number;
use crate::graph::{Graph, Var};
use crate::loss::Loss;
use crate::loss_scale::LossScale;
use crate::net::{Call, Net};
use crate::nn::Module;
use crate::non_finite::{NonFinite, Watch};
use crate::op::{Store, TensorType};
use crate::optim::{Average, Optimizer, Schedule, Tuning};
use crate::passes::{Averages, Goal, Mode, Request, StepGoal, UpdateGoal};
use crate::plan::Plan;
use crate::runner::Types;
use crate::scalars::{Scalars, TrainingState};
use crate::values::{Flat, Form, Given, Tensors, Values};
use crate::{Error, NonFiniteValue, Result, Tensor};
use parts::{check_divisible, Part};
pub(crate) use rate::is_rate;
use scaled::Skips;

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
///
/// What a step takes has the structure of what network and loss take: `In` and `Target`, one [`Var`]
/// each unless they say otherwise.
#[derive(Debug)]
pub struct Trainer<M, In: Values = Var, Out: Values = Var, Target: Values = Var> {
    net: Net<M>,
    loss: Box<dyn Loss<Out, Target>>,
    optimizer: Optimizer,
    /// The learning rate in the place of the optimiser's, if one was set.
    rate_set: Option<f64>,
    schedule: Schedule,
    tuning: Tuning,
    max_norm: Option<f64>,
    micro_batches: usize,
    average: Option<Average>,
    scale: LossScale,
    /// Which of the updates were skipped.
    skips: Skips,
    /// Skipped ones included.
    updates: u64,
    /// Updates that the averages have seen.
    averaged: u64,
    /// Types of the first batch, by which a checkpoint describes the network.
    batch: Option<BatchTypes<In, Target>>,
    watch: Watch,
}

/// Types of a batch.
#[derive(Clone, Debug)]
pub(crate) struct BatchTypes<In: Values, Target: Values> {
    pub(crate) inputs: In::Of<TensorType>,
    /// Those of the targets, where they are known.
    pub(crate) targets: Option<Target::Of<TensorType>>,
}

/// The loss of a step, read when its value is asked for: a GPU may still be at work on it, and
/// asking waits for it.
#[derive(Clone, Debug)]
pub struct StepLoss {
    parts: Vec<(Number, f64)>,
    norm: Option<Number>,
    /// The loss scale if a gradient was not finite at it, else 0.
    overflow: Option<Number>,
}

impl<M, In, Out, Target> Trainer<M, In, Out, Target>
where
    M: Module<In, Out>,
    In: Values,
    Out: Values,
    Target: Values,
{
    /// A trainer with a constant learning rate, no clipping and undivided batches. It trains all
    /// parameters, as the optimiser says.
    ///
    /// # Errors
    /// [`Error::Argument`] if the optimiser's options are out of range; [`Error::Device`] if there is no
    /// memory for moments in the place of those of an earlier training.
    pub fn new(
        mut net: Net<M>,
        loss: impl Loss<Out, Target> + 'static,
        optimizer: impl Into<Optimizer>,
    ) -> Result<Self> {
        let optimizer = optimizer.into();
        optimizer.check()?;
        net.forget_moments()?;
        let scale = LossScale::of(net.device().precision());
        let loss_scale = scale.first();
        net.set_training_state(TrainingState { loss_scale, ..TrainingState::default() })?;
        Ok(Trainer {
            tuning: Tuning::new(net.specs().clone()),
            net,
            loss: Box::new(loss),
            optimizer,
            rate_set: None,
            schedule: Schedule::Constant,
            max_norm: None,
            micro_batches: 1,
            average: None,
            scale,
            skips: Skips::default(),
            updates: 0,
            averaged: 0,
            batch: None,
            watch: Watch::new(scale),
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
    /// reports about the targets; [`Error::Argument`] for a rate of a schedule that is negative or not
    /// finite, or of dropout and not in `[0, 1)`. The parameters are unchanged then.
    ///
    /// [`Error::NonFinite`] if the loss or the gradient norm is not finite, unless the trainer is to
    /// [continue](NonFinite::Continue). The update is made then. On a GPU, where a number is looked
    /// at only when nobody has to wait for it, this comes up to four steps later, or from
    /// [`check_finite`](Trainer::check_finite).
    pub fn step(
        &mut self,
        inputs: impl Tensors<In>,
        targets: impl Tensors<Target>,
    ) -> Result<StepLoss> {
        let batch = self.batch_of(inputs, targets)?;
        let (now, later) = self.update_rates()?;
        let parts = Part::of::<Out, Target, In>(&batch, &*self.loss, self.micro_batches)?;
        let requests: Vec<Request> = (0..parts.len())
            .map(|index| self.request(index == 0, index + 1 == parts.len()))
            .collect();
        if parts.len() > 1 {
            self.check_parts(&batch, &parts[0], &requests[0])?;
        }
        let (loss, skipped) = (&*self.loss, self.skips.known() as u32);
        let behind_norm = usize::from(self.max_norm.is_some());
        let step = self.net.attempt(|net| {
            let mut scalars = net.begin_pass(Mode::Train)?;
            (scalars.learning_rate, scalars.momentum) = (now.learning_rate, now.momentum);
            (scalars.average, scalars.later) = (now.average, later);
            scalars.skipped = skipped;
            if parts.len() > 1 && batch.has_integers() {
                // One that names nothing must not come to light when other parts have run.
                for (part, request) in parts.iter().zip(requests.clone()) {
                    let given = &part.given;
                    net.check::<In, Out, Target>(&Call {
                        request,
                        loss: Some(loss),
                        given,
                        scalars,
                    })?;
                }
            }
            let room = Vec::with_capacity(parts.len());
            let mut step = StepLoss { parts: room, norm: None, overflow: None };
            for (part, request) in parts.iter().zip(requests) {
                part.tell(&mut scalars);
                let call = Call { request, loss: Some(loss), given: &part.given, scalars };
                let outputs = net.run_later::<In, Out, Target>(call)?;
                step.parts.extend(outputs.get(0).map(|loss| (loss, part.share)));
                step.norm = outputs.get(1).filter(|_| behind_norm == 1);
                step.overflow = outputs.get(1 + behind_norm);
            }
            Ok(step)
        })?;
        self.updates += 1;
        self.averaged += u64::from(self.average.is_some());
        if let Some(overflow) = &step.overflow {
            self.skips.add(overflow.clone());
            self.note_skips(if step.is_there() { 0 } else { Scalars::LATER })?;
        }
        if self.batch.is_none() {
            let (inputs, targets) = batch.types_of::<In, Target>()?;
            self.batch = Some(BatchTypes { inputs, targets: Some(targets) });
        }
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
        self.note_skips(0)?;
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
        inputs: impl Tensors<In>,
        targets: impl Tensors<Target>,
    ) -> Result<Option<NonFiniteValue>> {
        let batch = self.batch_of(inputs, targets)?;
        let request = self.request(true, true);
        self.check_targets(&batch, &batch.clone().with(self.loss.inputs()), &request)?;
        let parts = Part::of::<Out, Target, In>(&batch, &*self.loss, self.micro_batches)?;
        let (loss, groups) = (&*self.loss, self.tuning.groups().clone());
        self.net.uncounted(|net| {
            let mut scalars = net.begin_pass(Mode::Train)?;
            for part in parts {
                part.tell(&mut scalars);
                let (mode, given) = (Mode::Train, &part.given);
                let loss = Some((loss, &groups));
                let found = net.examine::<In, Out, Target>(mode, loss, given, scalars)?;
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
    pub fn loss(&self) -> &dyn Loss<Out, Target> {
        &*self.loss
    }

    /// Number of updates asked for so far: those that a [loss scale](LossScale) skipped are counted here,
    /// and nowhere else.
    pub fn updates(&self) -> u64 {
        self.updates
    }

    /// What the device keeps of the training: its own count of updates, of which bias corrections are
    /// made and which a checkpoint saves. Waits for the steps that were issued.
    ///
    /// # Errors
    /// [`Error::Device`] if the device failed meanwhile.
    pub fn training_state(&mut self) -> Result<TrainingState> {
        self.note_skips(0)?;
        self.net.training_state()
    }

    /// The learning rate of the next update; a GPU may be at work on up to four of which it is not known
    /// yet whether they are skipped, and until then they are taken for made.
    pub fn rate(&self) -> f64 {
        self.schedule.rate(self.base_rate(), self.made())
    }

    /// The momentum of the next update (Adam: its decay of the first moment) where the schedule moves
    /// it; `None` where it is the optimiser's own.
    pub fn momentum(&self) -> Option<f64> {
        self.schedule.momentum(self.made())
    }

    /// The plan of an undivided step for inputs and targets of these types.
    ///
    /// # Errors
    /// What tracing and compiling report.
    pub fn plan(
        &mut self,
        inputs: &In::Of<TensorType>,
        targets: &Target::Of<TensorType>,
    ) -> Result<&Plan> {
        let Flat { leaves: mut types, mut lists } = Flat::of::<In>(inputs.clone());
        let of_targets = Flat::of::<Target>(targets.clone());
        types.extend(of_targets.leaves);
        lists.extend(of_targets.lists);
        types.extend(self.loss.inputs().iter().map(Tensor::ty));
        let request = self.request(true, true);
        let form = Form::of::<In, Out, Target>(&lists);
        let (loss, types) = (Some(&*self.loss), Types::Are(&types));
        let plan = self.net.plan_for::<In, Out, Target>(request, loss, form, types)?;
        let targets = Some(targets.clone());
        self.batch.get_or_insert_with(|| BatchTypes { inputs: inputs.clone(), targets });
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

    pub(crate) fn batch(&self) -> Option<&BatchTypes<In, Target>> {
        self.batch.as_ref()
    }

    pub(crate) fn set_batch(&mut self, batch: Option<BatchTypes<In, Target>>) {
        self.batch = batch;
    }

    /// What a forward pass and the loss record for inputs and targets of these types.
    pub(crate) fn traced_loss(&self, mut given: Flat<TensorType>) -> Result<Graph> {
        given.leaves.extend(self.loss.inputs().iter().map(Tensor::ty));
        self.net.traced::<In, Out, Target>(Some(&*self.loss), &given)
    }

    /// Goes on where the training was of which the parameters are, which were just replaced.
    pub(crate) fn go_on(&mut self, updates: u64, state: TrainingState) -> Result<()> {
        self.updates = updates;
        self.watch.forget();
        self.skips = Skips::of(state.skipped.into());
        let state = self.scaled_on(state);
        self.net.set_training_state(state)
    }

    /// A batch that a step can take.
    fn batch_of(&self, inputs: impl Tensors<In>, targets: impl Tensors<Target>) -> Result<Given> {
        let targets = targets.tensors("targets")?;
        self.loss.check(&targets)?;
        if self.tuning.is_all_frozen() {
            return Err(Error::argument("step", "a parameter that is not frozen", "none"));
        }
        let batch = Given::inputs::<In>(inputs.tensors("inputs")?).with_targets::<Target>(targets);
        batch.check("step")?;
        batch.check_samples("step")?;
        match batch.samples() {
            0 => Err(Error::Shape {
                layer: String::new(),
                op: "step".into(),
                expected: "a batch of one sample or more".into(),
                got: batch.of_network()[0].shape().to_string(),
            }),
            _ => Ok(batch),
        }
    }

    /// Checks that the targets of a batch fit the network's outputs for all or part of it, before
    /// anything runs. Returns the plan that says what the outputs are.
    fn check_targets(&mut self, batch: &Given, part: &Given, request: &Request) -> Result<PlanId> {
        let loss = &*self.loss;
        let (form, types) = (part.form::<In, Out, Target>(), Types::Of(part.tensors()));
        let plan = self.net.planned::<In, Out, Target>(request, Some(loss), form, types)?;
        let outputs = self.net.shapes_behind_loss::<Out>(plan)?;
        loss.check_output(&batch.targets::<In, Target>()?, &outputs)?;
        Ok(plan)
    }

    /// Checks a batch that is divided.
    fn check_parts(&mut self, batch: &Given, first: &Part, request: &Request) -> Result<()> {
        let plan = self.check_targets(batch, &first.given, request)?;
        check_divisible(self.net.planned_as(plan)?, first.given.samples())
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
            scale: self.scale,
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

    /// The [loss scale](LossScale) of a step at which a gradient was not finite, so that the update was
    /// skipped; `None` of one that was made.
    ///
    /// # Errors
    /// [`Error::Device`] if the device failed meanwhile.
    pub fn overflow(&self) -> Result<Option<f32>> {
        let overflow = self.overflow.as_ref().map(Number::item).transpose()?;
        Ok(overflow.filter(|&scale| scale != 0.0))
    }

    /// Whether reading it waits for nothing.
    pub(crate) fn is_there(&self) -> bool {
        let numbers =
            self.parts.iter().map(|(loss, _)| loss).chain(&self.norm).chain(&self.overflow);
        numbers.into_iter().all(|number| matches!(number, Number::There(_)))
    }
}
