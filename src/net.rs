// SPDX-License-Identifier: MIT OR Apache-2.0
//! Networks: a module, its parameters on a device, and the views that run it.

use std::num::NonZeroUsize;
use std::sync::Arc;

use crate::backend::{Backend, PlanId};
use crate::device::Device;
use crate::error::list;
use crate::exec::{Numbers, Store};
use crate::graph::{
    trace, Builder, Graph, LayerPath, ParamId, ParamRole, ParamSpec, Traced, Var, LOSS,
};
use crate::lint::Remarks;
use crate::loss::Loss;
use crate::monte_carlo::MonteCarlo;
use crate::nn::init::streams;
use crate::nn::{Module, Rates, Registry, Scope};
use crate::non_finite::layer_outputs;
use crate::op::{InputId, TensorType};
use crate::passes::{self, Draws, Goal, Mode, Request};
use crate::plan::Plan;
use crate::predictor::Predictor;
use crate::runner::{Recorded, Runner, Types, Wanted};
use crate::scalars::{Scalars, TrainingState, MONTE_CARLO_PASS};
use crate::values::{join, structured, Flat, Form, Given, Values};
use crate::view::View;
use crate::{DType, Error, Result, Shape, Tensor};

/// The number that all random draws of a network come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seed(pub u64);

/// A module with parameters on a device.
///
/// There is no bare forward pass: [`train`](Net::train), [`eval`](Net::eval) and
/// [`monte_carlo`](Net::monte_carlo) hand out views, and only a view runs. A forgotten mode does
/// not compile:
///
/// ```compile_fail
/// # use kiln::{nn::{Linear, Module}, Device, Net, Seed, Tensor};
/// let mut net = Net::new(Device::cpu(), Seed(7), |p| Linear::new(&p.at("fc"), 3, 2))?;
/// net.forward(&Tensor::zeros([1, 3]))?; // no method named `forward`
/// # Ok::<(), kiln::Error>(())
/// ```
#[derive(Debug)]
pub struct Net<M> {
    module: Arc<M>,
    device: Device,
    runner: Runner,
    seed: Seed,
    pass: u32,
    monte_carlo_pass: u32,
    /// Rates of dropout that change.
    rates: Rates,
    /// What its layers say to lint.
    remarks: Remarks,
}

/// A run of a network, as views and trainers ask for it.
pub(crate) struct Call<'a, O: Values, T: Values> {
    pub(crate) request: Request,
    pub(crate) loss: Option<&'a dyn Loss<O, T>>,
    pub(crate) given: &'a Given,
    pub(crate) scalars: Scalars,
}

/// What a run returns.
pub(crate) struct Outputs {
    /// The loss, where there is one, the network's outputs and then gradients of inputs.
    pub(crate) tensors: Vec<Tensor>,
    /// Lengths of the lists among the network's outputs.
    pub(crate) lists: Vec<usize>,
    /// The inputs whose gradients are there.
    pub(crate) gradients: Vec<InputId>,
    pub(crate) plan: PlanId,
}

impl<M> Net<M> {
    /// Builds a network: `make` constructs the module and registers its parameters, which get
    /// their initial values from the seed and their names.
    ///
    /// # Errors
    /// Everything that layers rejected about their arguments, at once; [`Error::Device`] if the
    /// device cannot be opened or has too little memory.
    pub fn new(device: Device, seed: Seed, make: impl FnOnce(&Scope) -> M) -> Result<Self> {
        let scope = Scope::root();
        let module = Arc::new(make(&scope));
        let (runner, rates, remarks) = started(&device, seed, scope.into_registry())?;
        Ok(Net { module, device, runner, seed, pass: 0, monte_carlo_pass: 0, rates, remarks })
    }

    /// The network in train mode: dropout draws masks. Each pass draws fresh ones.
    pub fn train(&mut self) -> View<'_, M> {
        View::new(self, Mode::Train)
    }

    /// The network in eval mode: nothing is random, and equal inputs give equal bits.
    pub fn eval(&mut self) -> View<'_, M> {
        View::new(self, Mode::Eval)
    }

    /// The network with dropout left on at inference, to see how sure it is (Gal & Ghahramani
    /// 2015, arXiv:1506.02142): every sample is drawn `draws` times, 2 or more. Other layers behave as in
    /// eval mode. See [`MonteCarlo`].
    pub fn monte_carlo(&mut self, draws: usize) -> MonteCarlo<'_, M> {
        MonteCarlo::new(self, Draws::new(draws))
    }

    /// The network in eval mode as it is now, for other threads: see [`Predictor`]. It costs no
    /// copy of the parameters on the CPU until the network is trained further, and one on a GPU.
    ///
    /// # Errors
    /// [`Error::Device`] if the device has too little memory.
    pub fn predictor(&mut self) -> Result<Predictor<M>> {
        let most_plans = self.runner.most_plans();
        let (store, backend) = self.runner.state();
        let frozen = store.freeze(backend)?;
        Ok(Predictor::new(self.module.clone(), frozen, self.seed, most_plans))
    }

    /// As [`predictor`](Net::predictor), with moving averages in the place of parameters.
    pub(crate) fn averaged_predictor(&mut self) -> Result<Predictor<M>> {
        let most_plans = self.runner.most_plans();
        let (store, backend) = self.runner.state();
        let frozen = store.freeze_averages(backend)?;
        Ok(Predictor::new(self.module.clone(), frozen, self.seed, most_plans))
    }

    /// Puts the moving averages in the place of parameters.
    pub(crate) fn take_averages(&mut self) -> Result<()> {
        let specs = self.specs().clone();
        let (store, backend) = self.runner.state();
        for (index, _) in specs.iter().enumerate().filter(|(_, s)| s.dtype == DType::F32) {
            let average = store.read_average(backend, ParamId::at(index))?;
            store.write(backend, ParamId::at(index), &average)?;
        }
        Ok(())
    }

    /// Keeps moments of these parameters alone; those of parameters that had some stay.
    pub(crate) fn keep_moments(&mut self, keeps: &[bool]) -> Result<()> {
        self.runner.keep_moments(keeps)
    }

    /// Forgets the moments of an earlier training.
    pub(crate) fn forget_moments(&mut self) -> Result<()> {
        self.runner.forget_moments()
    }

    /// Keeps plans for at most this many kinds of run: mode, what is computed, and shapes of the
    /// inputs. The least recently used goes; to run it again, it is planned again. 32 at first.
    pub fn keep_plans(&mut self, most: NonZeroUsize) {
        self.runner.keep(most);
    }

    /// Number of plans that are kept now.
    pub fn plans(&self) -> usize {
        self.runner.plans()
    }

    /// The module.
    pub fn module(&self) -> &M {
        &self.module
    }

    /// The device it lives on.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The seed of all random draws.
    pub fn seed(&self) -> Seed {
        self.seed
    }

    /// Names of the parameters and of the state that is not trained, in order of creation, as
    /// PyTorch's `state_dict` has them.
    pub fn parameter_names(&self) -> Vec<&str> {
        self.specs().iter().map(|spec| spec.name.as_str()).collect()
    }

    /// Number of trained numbers.
    pub fn parameter_count(&self) -> usize {
        let trained = self.specs().iter().filter(|spec| spec.role == ParamRole::Trained);
        trained.map(|spec| spec.shape.elements()).sum()
    }

    /// A parameter's value.
    ///
    /// # Errors
    /// [`Error::Argument`] if there is no parameter of this name.
    pub fn parameter(&mut self, name: &str) -> Result<Tensor> {
        let id = self.find(name)?;
        let (store, backend) = self.runner.state();
        store.read(backend, id)
    }

    /// Sets a parameter's value.
    ///
    /// # Errors
    /// [`Error::Argument`] if there is no parameter of this name, [`Error::Shape`] if its shape
    /// is another.
    pub fn set_parameter(&mut self, name: &str, value: &Tensor) -> Result<()> {
        let id = self.find(name)?;
        let spec = &self.specs()[id.index()];
        let expected = TensorType { shape: spec.shape.clone(), dtype: spec.dtype };
        if value.ty() != expected {
            return Err(Error::Shape {
                layer: name.into(),
                op: "set_parameter".into(),
                expected: expected.to_string(),
                got: value.ty().to_string(),
            });
        }
        let (store, backend) = self.runner.state();
        store.write(backend, id, value)
    }

    /// Number of the next train-mode pass.
    pub fn pass(&self) -> u32 {
        self.pass
    }

    /// The plan that a forward pass in this mode would run for inputs of these types.
    ///
    /// # Errors
    /// [`Error::Argument`] if the network takes another number of inputs; what tracing and compiling
    /// report.
    pub fn plan<I: Values, O: Values>(&mut self, mode: Mode, inputs: &[TensorType]) -> Result<&Plan>
    where
        M: Module<I, O>,
    {
        let structure = structured::<I, TensorType>("inputs", inputs.to_vec())?;
        let lists = Flat::of::<I>(structure).lists;
        let form = Form::of::<I, O, ()>(&lists);
        let request = Request { mode, goal: Goal::Forward };
        self.plan_for::<I, O, ()>(request, None, form, Types::Are(inputs))
    }

    pub(crate) fn plan_for<I: Values, O: Values, T: Values>(
        &mut self,
        request: Request,
        loss: Option<&dyn Loss<O, T>>,
        form: Form<'_>,
        inputs: Types<'_>,
    ) -> Result<&Plan>
    where
        M: Module<I, O>,
    {
        let id = self.planned::<I, O, T>(&request, loss, form, inputs)?;
        self.runner.plan(id)
    }

    /// What a forward pass records, with the loss where one is given.
    pub(crate) fn traced<I: Values, O: Values, T: Values>(
        &self,
        loss: Option<&dyn Loss<O, T>>,
        given: &Flat<TensorType>,
    ) -> Result<Graph>
    where
        M: Module<I, O>,
    {
        let request = Request { mode: Mode::Train, goal: Goal::Forward };
        let form = Form::of::<I, O, T>(&given.lists);
        let inputs = Types::Are(&given.leaves);
        let wanted = Wanted { request: &request, loss: None, form, inputs };
        let specs = self.specs().clone();
        Ok(record::<M, I, O, T>(&self.module, specs, loss, &wanted)?.traced.graph)
    }

    pub(crate) fn rates(&self) -> &Rates {
        &self.rates
    }

    pub(crate) fn rates_mut(&mut self) -> &mut Rates {
        &mut self.rates
    }

    pub(crate) fn remarks(&self) -> &Remarks {
        &self.remarks
    }

    pub(crate) fn planned_as(&self, plan: PlanId) -> Result<&Plan> {
        self.runner.plan(plan)
    }

    /// Shapes of the network's outputs in a plan, where a loss comes before them.
    pub(crate) fn shapes_behind_loss<O: Values>(&self, plan: PlanId) -> Result<O::Of<Shape>> {
        let types = self.runner.plan(plan)?.results.iter().skip(1);
        let mut lists = self.runner.lists(plan).iter().copied();
        join::<O, _>(&mut types.map(|ty| ty.shape.clone()), &mut lists).ok_or_else(unstructured)
    }

    pub(crate) fn specs(&self) -> &Arc<Vec<ParamSpec>> {
        self.runner.store().specs()
    }

    pub(crate) fn set_pass(&mut self, pass: u32) {
        self.pass = pass;
    }

    pub(crate) fn monte_carlo_pass(&self) -> u32 {
        self.monte_carlo_pass
    }

    pub(crate) fn set_monte_carlo_pass(&mut self, pass: u32) {
        self.monte_carlo_pass = pass;
    }

    /// The seed changes only when a checkpoint is resumed: its masks go on where they were.
    pub(crate) fn set_seed(&mut self, seed: Seed) {
        self.seed = seed;
    }

    pub(crate) fn runner(&self) -> &Runner {
        &self.runner
    }

    pub(crate) fn runner_mut(&mut self) -> &mut Runner {
        &mut self.runner
    }

    pub(crate) fn state(&mut self) -> (&mut Store, &mut dyn Backend) {
        self.runner.state()
    }

    /// What the device keeps of the training, when all that was issued is done.
    pub(crate) fn training_state(&mut self) -> Result<TrainingState> {
        let (store, backend) = self.runner.state();
        store.training_state(backend)
    }

    /// Lets the device count on from here.
    pub(crate) fn set_training_state(&mut self, state: TrainingState) -> Result<()> {
        let (store, backend) = self.runner.state();
        store.set_training_state(backend, state)
    }

    /// Scalars of the next pass in a mode, which counts it.
    ///
    /// # Errors
    /// [`Error::Argument`] for a rate of dropout that a schedule should not give.
    pub(crate) fn begin_pass(&mut self, mode: Mode) -> Result<Scalars> {
        let scalars = Scalars::new(self.seed.0);
        counted(scalars, mode, &self.rates, (&mut self.pass, &mut self.monte_carlo_pass))
    }

    /// Runs `body`; if it fails, no pass has been counted.
    pub(crate) fn attempt<T>(&mut self, body: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let counters = (self.pass, self.monte_carlo_pass);
        body(self).inspect_err(|_| (self.pass, self.monte_carlo_pass) = counters)
    }

    /// Runs `body` as if it had not been run: its passes are not counted, and state that is not
    /// trained is as it was.
    pub(crate) fn uncounted<T>(&mut self, body: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let counters = (self.pass, self.monte_carlo_pass);
        let kept = self.runner.untrained()?;
        let result = body(self);
        (self.pass, self.monte_carlo_pass) = counters;
        self.runner.set_parameters(kept)?;
        result
    }

    /// Compiles a call and checks what it is given, as far as its run would before anything runs.
    pub(crate) fn check<I: Values, O: Values, T: Values>(
        &mut self,
        call: &Call<'_, O, T>,
    ) -> Result<()>
    where
        M: Module<I, O>,
    {
        let plan = self.prepare::<I, O, T>(call)?;
        self.runner.check(plan, call.given.tensors())
    }

    /// Runs a call; its plan is compiled at the first call of its kind.
    pub(crate) fn run<I: Values, O: Values, T: Values>(
        &mut self,
        call: Call<'_, O, T>,
    ) -> Result<Outputs>
    where
        M: Module<I, O>,
    {
        let plan = self.prepare::<I, O, T>(&call)?;
        outputs(&mut self.runner, plan, &call.scalars, call.given)
    }

    /// As [`run`](Net::run) with a loss, without waiting for a device that works on its own; only
    /// numbers are brought back: the loss, and of a step with clipping the norm.
    pub(crate) fn run_later<I: Values, O: Values, T: Values>(
        &mut self,
        call: Call<'_, O, T>,
    ) -> Result<Numbers>
    where
        M: Module<I, O>,
    {
        let id = self.prepare::<I, O, T>(&call)?;
        self.runner.run_later(id, &call.scalars, call.given.tensors())
    }

    /// A call's plan, once its inputs are known to fit.
    fn prepare<I: Values, O: Values, T: Values>(&mut self, call: &Call<'_, O, T>) -> Result<PlanId>
    where
        M: Module<I, O>,
    {
        let Call { request, loss, given, .. } = call;
        let (form, types) = (given.form::<I, O, T>(), Types::Of(given.tensors()));
        let plan = self.planned::<I, O, T>(request, *loss, form, types)?;
        if let Some(loss) = loss.filter(|_| request.goal != Goal::Layers) {
            loss.check_output(&given.targets::<I, T>()?, &self.shapes_behind_loss::<O>(plan)?)?;
        }
        Ok(plan)
    }

    /// The gradients that the last run of a plan stored, by parameter.
    pub(crate) fn stored_gradients(&mut self, plan: PlanId) -> Result<Vec<(String, Tensor)>> {
        self.runner.stored_gradients(plan)
    }

    /// The plan for a request, compiled if there is none yet.
    pub(crate) fn planned<I: Values, O: Values, T: Values>(
        &mut self,
        request: &Request,
        loss: Option<&dyn Loss<O, T>>,
        form: Form<'_>,
        inputs: Types<'_>,
    ) -> Result<PlanId>
    where
        M: Module<I, O>,
    {
        let key = loss.map(Loss::key);
        let wanted = Wanted { request, loss: key.as_deref(), form, inputs };
        let specs = self.runner.store().specs().clone();
        let module = &*self.module;
        let record = || record::<M, I, O, T>(module, specs, loss, &wanted);
        self.runner.plan_for(&wanted, record)
    }

    pub(crate) fn find(&self, name: &str) -> Result<ParamId> {
        self.runner.store().find(name).ok_or_else(|| {
            let expected = format!("one of {}", list(self.parameter_names(), ", "));
            Error::argument("parameter", expected, name)
        })
    }
}

// What follows does not hang on the module's type, for each of which Rust compiles the above anew.

/// A network's state on its device, with the initial values of its parameters.
fn started(device: &Device, seed: Seed, registry: Registry) -> Result<(Runner, Rates, Remarks)> {
    let Registry { parameters, initialisers, errors, rates, remarks, .. } = registry;
    Error::check(errors)?;
    let mut backend = device.open()?;
    let store = Store::new(&mut *backend, Arc::new(parameters))?;
    // A network on paper may be larger than this machine.
    let initialised = if device.is_on_paper() { 0 } else { initialisers.len() };
    let streams = streams(store.specs());
    for (index, init) in initialisers.into_iter().enumerate().take(initialised) {
        let spec = &store.specs()[index];
        // Counters start at 0, as everything that is reserved does.
        if spec.dtype == DType::F32 {
            let values = init.values(spec, streams[index], seed.0)?;
            let value = Tensor::new(spec.shape.clone(), values)?;
            store.write(&mut *backend, ParamId::at(index), &value)?;
        }
    }
    Ok((Runner::new(store, backend), rates, remarks))
}

/// The scalars of the next pass in a mode, which is counted among those of its kind.
fn counted(
    mut scalars: Scalars,
    mode: Mode,
    rates: &Rates,
    (pass, monte_carlo_pass): (&mut u32, &mut u32),
) -> Result<Scalars> {
    if mode != Mode::Eval {
        scalars.dropout = rates.of_pass(*pass)?;
    }
    match mode {
        Mode::Train => {
            scalars.pass = *pass;
            *pass = (*pass + 1) % MONTE_CARLO_PASS;
        }
        Mode::MonteCarlo(_) => {
            scalars.pass = MONTE_CARLO_PASS | *monte_carlo_pass;
            *monte_carlo_pass = (*monte_carlo_pass + 1) % MONTE_CARLO_PASS;
        }
        Mode::Eval => {}
    }
    Ok(scalars)
}

/// Runs a plan.
fn outputs(runner: &mut Runner, plan: PlanId, scalars: &Scalars, given: &Given) -> Result<Outputs> {
    let tensors = runner.run(plan, scalars, given.tensors())?;
    let lists = runner.lists(plan).to_vec();
    let gradients = runner.plan(plan)?.gradients.clone();
    Ok(Outputs { tensors, lists, gradients, plan })
}

/// Records a module and, with a loss, the loss: the loss and then the outputs, or the outputs of all
/// layers, where those are asked for.
pub(crate) fn record<M: Module<I, O> + ?Sized, I: Values, O: Values, T: Values>(
    module: &M,
    specs: Arc<Vec<ParamSpec>>,
    loss: Option<&dyn Loss<O, T>>,
    wanted: &Wanted<'_>,
) -> Result<Recorded> {
    let mut returned = None;
    let types = wanted.inputs.to_vec();
    let traced = trace(specs, &types, |given: &[Var]| {
        let mut rest = given.iter().cloned();
        let mut lists = wanted.form.lists.iter().copied();
        let Some(inputs) = join::<I, Var>(&mut rest, &mut lists) else { return vec![] };
        let taken = given.len() - rest.len();
        let outputs = module.forward(&I::from_vars(inputs));
        let Some(loss) = loss else {
            let outputs = Flat::of::<O>(outputs.into_vars());
            returned = Some((taken, outputs.lists));
            return outputs.leaves;
        };
        let Some(targets) = join::<T, Var>(&mut rest, &mut lists) else { return vec![] };
        let (targets, own) = (T::from_vars(targets), &given[given.len() - rest.len()..]);
        let own = &own[..own.len().min(loss.inputs().len())];
        let layer = LayerPath { path: "".into(), kind: LOSS };
        let value = given[0].within(&layer, |_| loss.forward(&outputs, &targets, own));
        let outputs = Flat::of::<O>(outputs.into_vars());
        returned = Some((taken, outputs.lists));
        std::iter::once(value).chain(outputs.leaves).collect()
    })?;
    let returned = returned.ok_or_else(unstructured)?;
    let seeds = loss.map(|_| 1);
    recorded(traced, returned, (types.len(), seeds), wanted)
}

/// A trace of so many inputs, of which `inputs` are the network's, with outputs in lists of these
/// lengths; backward starts from so many results, from all if nothing is said.
fn recorded(
    mut traced: Traced,
    (inputs, lists): (usize, Vec<usize>),
    (types, seeds): (usize, Option<usize>),
    wanted: &Wanted<'_>,
) -> Result<Recorded> {
    let given = types - inputs;
    if seeds.is_none()
        && wanted.request.goal == Goal::Gradients(passes::Seed::Input)
        && given != traced.results.len()
    {
        let expected = format!("{} tensors, one for each output", traced.results.len());
        return Err(Error::argument("gradients", expected, given));
    }
    traced.inputs = inputs;
    traced.seeds = seeds.unwrap_or(traced.results.len());
    if wanted.request.goal == Goal::Layers {
        let results = layer_outputs(&traced.graph);
        let graph = Builder::extend(traced.graph).finish(results.clone());
        return Ok(Recorded { traced: Traced { graph, results, ..traced }, lists });
    }
    Ok(Recorded { traced, lists })
}

fn unstructured() -> Error {
    Error::Internal { pass: "net", message: "values are not in the structure that is known".into() }
}
