// SPDX-License-Identifier: MIT OR Apache-2.0
//! Training steps and passes in eval mode.

use std::path::Path;

use burn::optim::momentum::MomentumConfig;
use burn::optim::{AdamConfig, GradientsParams, ModuleOptimizer, SgdConfig};
use burn::tensor::{Device, Int, Tensor};

use super::dropping::Dropping;
use super::model::{Input, Model, Output};
use super::names;
use super::protocol::case::Pass;
use super::protocol::files::{self, Values};
use super::protocol::{Result, Work};

/// A network that is trained.
pub struct Training<M: Model> {
    plain: Device,
    /// `None` while a step takes it.
    model: Option<M>,
    optimizer: ModuleOptimizer,
    rate: f64,
    /// Its batch.
    pub x: M::Input,
    pub labels: Tensor<1, Int>,
}

impl<M: Model> Training<M> {
    pub fn new(plain: &Device, pass: Pass, x: M::Input, labels: Tensor<1, Int>) -> Self {
        let momentum = MomentumConfig::new().with_momentum(0.9).with_dampening(0.0);
        let (optimizer, rate) = match pass {
            Pass::Adam => (AdamConfig::new().with_epsilon(1e-8).init(), 1e-3),
            _ => (SgdConfig::new().with_momentum(Some(momentum)).init(), 1e-2),
        };
        let model = Some(M::new(&plain.clone().autodiff()));
        Training { plain: plain.clone(), model, optimizer, rate, x, labels }
    }

    /// One step: the loss, and the gradients as the step before it left the network.
    fn update(
        &mut self,
        dropping: &Dropping,
        wanted: Wanted,
    ) -> Result<(Tensor<1>, Vec<(String, Values)>)> {
        let model = self.model.take().ok_or("a step failed before this one")?;
        let loss = model.forward(self.x.clone(), dropping).loss(self.labels.clone());
        let gradients = GradientsParams::from_grads(loss.backward(), &model);
        let named = match wanted {
            Wanted::Gradients => names::gradients(&model, &gradients),
            Wanted::Nothing => Vec::new(),
        };
        self.model = Some(self.optimizer.step(self.rate, model, gradients));
        Ok((loss, named))
    }

    /// One step that need not be over when this returns.
    pub fn begin(&mut self) -> Result<()> {
        self.update(&Dropping::AsDevice, Wanted::Nothing).map(drop)
    }

    /// Waits until nothing is under way.
    pub fn finish(&self) -> Result<()> {
        Ok(self.plain.sync().map_err(|error| format!("{error:?}"))?)
    }
}

/// What a step is asked for beside its loss.
enum Wanted {
    Nothing,
    Gradients,
}

impl<M: Model> Work for Training<M> {
    fn step(&mut self) -> Result<()> {
        self.begin()?;
        self.finish()
    }
}

/// A network that is asked.
pub struct Eval<M: Model> {
    plain: Device,
    model: M,
    x: M::Input,
}

impl<M: Model> Eval<M> {
    pub fn new(plain: &Device, x: M::Input) -> Self {
        Eval { plain: plain.clone(), model: M::new(plain), x }
    }
}

impl<M: Model> Work for Eval<M> {
    fn step(&mut self) -> Result<()> {
        self.model.forward(self.x.clone(), &Dropping::AsDevice);
        Ok(self.plain.sync().map_err(|error| format!("{error:?}"))?)
    }
}

/// A pass in eval mode from the parameters of a directory; the mean of what it yields.
pub fn check_eval<M: Model>(plain: &Device, directory: &Path) -> Result<f64> {
    let model = names::load(M::new(plain), files::read(&directory.join("before.safetensors"))?)?;
    let batch = files::read_batch(directory)?;
    let output = model.forward(M::Input::given(&batch.input, plain), &Dropping::AsDevice).values();
    let output = names::values(output);
    let mean = output.floats.iter().map(|&value| f64::from(value)).sum::<f64>()
        / output.floats.len() as f64;
    files::write(directory, vec![("output".into(), output)])?;
    Ok(mean)
}

/// A training step from the parameters of a directory; its loss.
pub fn check_step<M: Model>(plain: &Device, pass: Pass, directory: &Path) -> Result<f64> {
    let trained = plain.clone().autodiff();
    let batch = files::read_batch(directory)?;
    let labels: Vec<i32> = batch.labels;
    let labels = Tensor::<1, Int>::from_data(&labels[..], &trained);
    let mut training =
        Training::<M>::new(plain, pass, M::Input::given(&batch.input, &trained), labels);
    let before = files::read(&directory.join("before.safetensors"))?;
    training.model = training.model.map(|model| names::load(model, before)).transpose()?;
    let (loss, gradients) =
        training.update(&Dropping::Given(batch.masks.into()), Wanted::Gradients)?;
    let model = training.model.ok_or("the step left no network")?;
    let mut after = names::state(&model.valid());
    after.extend(gradients.into_iter().map(|(name, values)| (format!("gradient.{name}"), values)));
    files::write(directory, after)?;
    Ok(f64::from(loss.into_scalar::<f32>()))
}
