// SPDX-License-Identifier: MIT OR Apache-2.0
//! Networks: a module, its parameters on a device, and the views that run it.

use std::sync::Arc;

use crate::backend::Backend;
use crate::device::Device;
use crate::error::list;
use crate::exec::{Executable, Outputs, Store};
use crate::graph::{trace, Builder, LayerPath, ParamId, ParamRole, ParamSpec, Traced, Var, LOSS};
use crate::loss::Loss;
use crate::nn::init::streams;
use crate::nn::{Module, Registry, Scope};
use crate::non_finite::layer_outputs;
use crate::op::TensorType;
use crate::passes::{self, Goal, Mode, Request};
use crate::plan::Plan;
use crate::scalars::{Scalars, MONTE_CARLO_PASS};
use crate::view::View;
use crate::{DType, Error, Result, Tensor};

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
    module: M,
    device: Device,
    backend: Box<dyn Backend>,
    store: Store,
    seed: Seed,
    pass: u32,
    monte_carlo_pass: u32,
    plans: Vec<(Key, Executable)>,
}

/// What a plan depends on.
#[derive(Clone, Debug, PartialEq)]
struct Key {
    request: Request,
    loss: Option<String>,
    inputs: Vec<TensorType>,
}

/// A run of a network, as views and trainers ask for it.
pub(crate) struct Call<'a> {
    pub(crate) request: Request,
    pub(crate) loss: Option<&'a dyn Loss>,
    pub(crate) inputs: &'a [Tensor],
    pub(crate) scalars: Scalars,
}

impl<M: Module> Net<M> {
    /// Builds a network: `make` constructs the module and registers its parameters, which get
    /// their initial values from the seed and their names.
    ///
    /// # Errors
    /// Everything that layers rejected about their arguments, at once; [`Error::Device`] if the
    /// device cannot be opened or has too little memory.
    pub fn new(device: Device, seed: Seed, make: impl FnOnce(&Scope) -> M) -> Result<Self> {
        let scope = Scope::root();
        let module = make(&scope);
        let Registry { parameters, initialisers, errors, .. } = scope.into_registry();
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
        let plans = Vec::new();
        Ok(Net { module, device, backend, store, seed, pass: 0, monte_carlo_pass: 0, plans })
    }

    /// The network in train mode: dropout draws masks. Each pass draws fresh ones.
    pub fn train(&mut self) -> View<'_, M> {
        View::new(self, Mode::Train, 1)
    }

    /// The network in eval mode: nothing is random, and equal inputs give equal bits.
    pub fn eval(&mut self) -> View<'_, M> {
        View::new(self, Mode::Eval, 1)
    }

    /// The network with dropout left on at inference, to see how sure it is (Gal & Ghahramani
    /// 2015, arXiv:1506.02142): each forward pass runs every sample `draws` times and returns
    /// `[draws, samples, ...]`. Other layers behave as in eval mode.
    pub fn monte_carlo(&mut self, draws: usize) -> View<'_, M> {
        View::new(self, Mode::MonteCarlo, draws)
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
        self.store.read(&mut *self.backend, id)
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
        self.store.write(&mut *self.backend, id, value)
    }

    /// Number of the next train-mode pass.
    pub fn pass(&self) -> u32 {
        self.pass
    }

    /// The plan that a forward pass in this mode would run for inputs of these types.
    ///
    /// # Errors
    /// What tracing and compiling report.
    pub fn plan(&mut self, mode: Mode, inputs: &[TensorType]) -> Result<&Plan> {
        let request = Request { mode, goal: Goal::Forward };
        let index = self.executable(request, None, inputs.to_vec())?;
        Ok(self.plans[index].1.plan())
    }

    pub(crate) fn plan_for(
        &mut self,
        request: Request,
        loss: Option<&dyn Loss>,
        inputs: &[TensorType],
    ) -> Result<&Plan> {
        let index = self.executable(request, loss, inputs.to_vec())?;
        Ok(self.plans[index].1.plan())
    }

    pub(crate) fn specs(&self) -> &Arc<Vec<ParamSpec>> {
        self.store.specs()
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

    pub(crate) fn state(&mut self) -> (&mut Store, &mut dyn Backend) {
        (&mut self.store, &mut *self.backend)
    }

    /// Scalars of the next pass in a mode, which counts it.
    pub(crate) fn begin_pass(&mut self, mode: Mode) -> Scalars {
        let mut scalars = Scalars::new(self.seed.0);
        match mode {
            Mode::Train => {
                scalars.pass = self.pass;
                self.pass = (self.pass + 1) % MONTE_CARLO_PASS;
            }
            Mode::MonteCarlo => {
                scalars.pass = MONTE_CARLO_PASS | self.monte_carlo_pass;
                self.monte_carlo_pass = (self.monte_carlo_pass + 1) % MONTE_CARLO_PASS;
            }
            Mode::Eval => {}
        }
        scalars
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
        let states = self.specs().iter().enumerate().filter(|(_, s)| s.role == ParamRole::State);
        let ids: Vec<ParamId> = states.map(|(index, _)| ParamId::at(index)).collect();
        let mut kept = Vec::with_capacity(ids.len());
        for id in ids {
            kept.push((id, self.store.read(&mut *self.backend, id)?));
        }
        let result = body(self);
        (self.pass, self.monte_carlo_pass) = counters;
        for (id, value) in kept {
            self.store.write(&mut *self.backend, id, &value)?;
        }
        result
    }

    /// Runs a call; its plan is compiled at the first call of its kind.
    pub(crate) fn run(&mut self, call: Call<'_>) -> Result<Vec<Tensor>> {
        let index = self.prepare(&call)?;
        self.plans[index].1.run(&mut *self.backend, &self.store, &call.scalars, call.inputs)
    }

    /// As [`run`](Net::run), without waiting for a device that works on its own.
    pub(crate) fn run_later(&mut self, call: Call<'_>) -> Result<Outputs> {
        let index = self.prepare(&call)?;
        self.plans[index].1.run_later(&mut *self.backend, &self.store, &call.scalars, call.inputs)
    }

    /// Position of a call's plan, once its inputs are known to fit.
    fn prepare(&mut self, call: &Call<'_>) -> Result<usize> {
        let inputs = call.inputs.iter().map(Tensor::ty).collect();
        let index = self.executable(call.request.clone(), call.loss, inputs)?;
        if let Some(loss) = call.loss.filter(|_| call.request.goal != Goal::Layers) {
            if let Some(output) = self.plans[index].1.plan().results().get(1) {
                loss.check_output(&call.inputs[1], output)?;
            }
        }
        Ok(index)
    }

    /// The gradients that the last run of a plan stored, by parameter.
    pub(crate) fn stored_gradients(
        &mut self,
        request: &Request,
        loss: Option<&dyn Loss>,
        inputs: &[Tensor],
    ) -> Result<Vec<(String, Tensor)>> {
        let types = inputs.iter().map(Tensor::ty).collect();
        let index = self.executable(request.clone(), loss, types)?;
        let stored: Vec<ParamId> = self.plans[index].1.plan().stored_gradients().collect();
        let read = |id: ParamId| {
            let name = self.store.specs()[id.index()].name.clone();
            Ok((name, self.store.read_gradient(&mut *self.backend, id)?))
        };
        stored.into_iter().map(read).collect()
    }

    /// Position of the plan for a request, compiled if there is none yet.
    fn executable(
        &mut self,
        request: Request,
        loss: Option<&dyn Loss>,
        inputs: Vec<TensorType>,
    ) -> Result<usize> {
        let key = Key { request, loss: loss.map(Loss::key), inputs };
        if let Some(index) = self.plans.iter().position(|(known, _)| *known == key) {
            return Ok(index);
        }
        let traced = self.trace(&key, loss)?;
        let plan = passes::compile(traced, &key.request, self.backend.facts())?;
        match &key.request.goal {
            Goal::Forward | Goal::Layers => {}
            Goal::Gradients(_) => self.store.ensure_gradients(&mut *self.backend)?,
            Goal::Step(step) => {
                self.store.ensure_gradients(&mut *self.backend)?;
                let rule = step.update.as_ref().map(|update| update.rule);
                let moments = rule.map_or(0, |rule| rule.moments());
                self.store.ensure_moments(&mut *self.backend, moments)?;
            }
        }
        let executable = Executable::new(plan, &mut *self.backend)?;
        self.plans.push((key, executable));
        Ok(self.plans.len() - 1)
    }

    /// Records the module and, with a loss, the loss: `[loss, output]` or `[output]`; or the
    /// outputs of all layers, where those are asked for.
    fn trace(&self, key: &Key, loss: Option<&dyn Loss>) -> Result<Traced> {
        let traced = trace(self.specs().clone(), &key.inputs, |inputs: &[Var]| {
            let output = self.module.forward(&inputs[0]);
            match loss {
                Some(loss) => {
                    let own = 2 + loss.inputs().len();
                    let layer = LayerPath { path: "".into(), kind: LOSS };
                    let taken = &inputs[1..own.min(inputs.len())];
                    let value = output.within(&layer, |output| loss.forward(output, taken));
                    vec![value, output]
                }
                None => vec![output],
            }
        })?;
        match key.request.goal {
            Goal::Layers => {
                let outputs = layer_outputs(&traced.graph);
                let graph = Builder::extend(traced.graph).finish(outputs.clone());
                Ok(Traced { graph, results: outputs })
            }
            _ => Ok(traced),
        }
    }

    fn find(&self, name: &str) -> Result<ParamId> {
        let index = self.specs().iter().position(|spec| spec.name == name);
        index.map(ParamId::at).ok_or_else(|| {
            let expected = format!("one of {}", list(self.parameter_names(), ", "));
            Error::argument("parameter", expected, name)
        })
    }
}
