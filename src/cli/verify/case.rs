// SPDX-License-Identifier: MIT OR Apache-2.0
//! kiln's side of a comparison: what both sides are given, and what kiln finds.

use std::collections::BTreeMap;
use std::sync::Arc;

use kiln::data::{Loader, LoaderConfig, Shuffle};
use kiln::loss::CrossEntropy;
use kiln::optim::{Adam, AdamW, Optimizer};
use kiln::{Device, DrawnMask, Result, StepLoss, Tensor, Trainer};

use super::difference::Stage;
use super::files::Named;
use super::seeded::{self, PytorchSeed};
use crate::cli::data::Sets;
use crate::cli::interrupt::{Interrupt, Signal};
use crate::cli::network::{self, AnyNet, AnyTrainer};
use crate::cli::settings::{NetSettings, Rule, StepSettings};

/// What Adam adds to its divisor, instead of 1e-8: gradients that are 0 but for rounding would otherwise move a
/// parameter as far as others do, in a direction that rounding decides.
pub(super) const EPS: f64 = 1e-3;

/// Steps to be compared.
pub(super) struct Case {
    pub(super) net: NetSettings,
    pub(super) step: StepSettings,
    pub(super) steps: usize,
    pub(super) seed: u64,
    /// PyTorch's, if parameters and masks come from there.
    pub(super) torch_seed: Option<u64>,
    pub(super) device: Device,
    pub(super) sets: Sets,
}

/// Tensors that PyTorch is given, and those that kiln finds.
pub(super) struct Sides {
    pub(super) given: Named,
    pub(super) found: Named,
}

/// What kiln's side comes to.
pub(super) enum Ours {
    Done(Sides),
    Stopped(Signal),
}

impl Case {
    /// What is compared, in order.
    pub(super) fn stages(&self) -> Vec<Stage> {
        let drawn = self.torch_seed.map(|_| Stage::Initial);
        let several = (self.steps > 1).then_some(Stage::After(self.steps));
        let always = [Stage::Forward, Stage::Gradient, Stage::After(1)];
        drawn.into_iter().chain(always).chain(several).collect()
    }

    pub(super) fn optimizer(&self) -> Optimizer {
        let StepSettings { rule, lr, weight_decay, .. } = self.step;
        match rule {
            Rule::Sgd { .. } => self.step.optimizer(),
            Rule::Adam => Adam { weight_decay, eps: EPS, ..Adam::new(lr) }.into(),
            Rule::Adamw => AdamW { weight_decay, eps: EPS, ..AdamW::new(lr) }.into(),
        }
    }

    /// Runs kiln's side. A signal ends it between two steps.
    pub(super) fn run(&self, interrupt: &Interrupt) -> Result<Ours> {
        let mut seeded = self.torch_seed.map(PytorchSeed::new);
        let mut first = self.fresh(None)?;
        let mut sides = Sides { given: vec![], found: vec![] };
        let start = match &mut seeded {
            Some(seed) => {
                let start = seed.parameters(&mut first)?;
                let named =
                    |(name, value): &(String, Tensor)| (format!("initial.{name}"), value.clone());
                sides.found.extend(start.iter().map(named));
                Some(start)
            }
            None => {
                sides.given.extend(below("parameter.", parameters(&mut first)?));
                None
            }
        };
        let mut batches = Vec::with_capacity(self.steps);
        let mut loader = self.loader()?;
        for step in 0..self.steps {
            let (mut x, labels) = self.net.feed().tensors(loader.next_batch()?)?;
            let named = |(index, x): (usize, &Tensor)| (format!("input.{step}.{index}"), x.clone());
            sides.given.extend(x.iter().enumerate().map(named));
            sides.given.push((format!("target.{step}"), labels.clone()));
            let types: Vec<_> = x.iter().map(Tensor::ty).collect();
            let masks = first.masks(step as u32, &types)?;
            match &mut seeded {
                Some(seed) => x.extend(seed.masks(&masks, self.net, x.get(1))?),
                None => sides.given.extend(below(&format!("mask.{step}."), by_call(masks))),
            }
            batches.push((x, labels));
        }
        if let Some(signal) = interrupt.caught() {
            return Ok(Ours::Stopped(signal));
        }
        self.first_step(&batches[0], start.as_ref(), &mut sides.found)?;
        if let Some(signal) = interrupt.caught() {
            return Ok(Ours::Stopped(signal));
        }
        let net = self.fresh(start.as_ref())?;
        let mut trainer: AnyTrainer = Trainer::new(net, CrossEntropy::default(), self.optimizer())?;
        if let Some(norm) = self.step.clip {
            trainer = trainer.with_clipping(norm)?;
        }
        let mut losses: Vec<StepLoss> = Vec::with_capacity(self.steps);
        for (step, (x, labels)) in batches.iter().enumerate() {
            losses.push(trainer.step(x, labels)?);
            if step == 0 || step + 1 == self.steps {
                let prefix = Stage::After(step + 1).prefix();
                sides.found.extend(below(&prefix, parameters(trainer.net())?));
            }
            if let Some(signal) = interrupt.caught() {
                return Ok(Ours::Stopped(signal));
            }
        }
        if self.steps > 1 {
            let values: Result<Vec<f32>> = losses.iter().map(StepLoss::value).collect();
            let losses = Tensor::new([self.steps], values?)?;
            sides.found.push((format!("{}losses", Stage::After(self.steps).prefix()), losses));
        }
        Ok(Ours::Done(sides))
    }

    /// Outputs and gradients of the first step.
    fn first_step(
        &self,
        (x, labels): &(Vec<Tensor>, Tensor),
        start: Option<&Named>,
        found: &mut Named,
    ) -> Result<()> {
        let criterion = CrossEntropy::default();
        // Each in a network of its own, so that each is the first pass.
        let (loss, scores) = self.fresh(start)?.train().loss_and_output(&criterion, x, labels)?;
        found.push(("forward.loss".into(), loss));
        found.push(("forward.scores".into(), scores));
        let mut net = self.fresh(start)?;
        let gradients = net.train().loss_gradients(&criterion, x, labels)?;
        found.extend(below("gradient.", gradients.parameters));
        Ok(())
    }

    /// The network as it begins: with these parameters, and masks that it is given, if there are any.
    fn fresh(&self, start: Option<&Named>) -> Result<AnyNet> {
        let (sizes, device) = (self.sets.sizes(), self.device.clone());
        let Some(start) = start else { return network::net(self.net, sizes, device, self.seed) };
        let given = |module| seeded::given_masks(module, self.net);
        let mut net = network::net_within(given, self.net, sizes, device, self.seed, None)?;
        for (name, value) in start {
            net.set_parameter(name, value)?;
        }
        Ok(net)
    }

    fn loader(&self) -> Result<Loader> {
        let config = LoaderConfig {
            batch_size: self.step.batch.get(),
            shuffle: Shuffle::Seeded(self.seed),
            sample_shape: self.net.feed().sample_shape(),
            ..LoaderConfig::default()
        };
        Loader::new(Arc::clone(&self.sets.train), config)
    }
}

/// Parameters and state, in order of creation.
fn parameters(net: &mut AnyNet) -> Result<Named> {
    let names: Vec<String> = net.parameter_names().into_iter().map(str::to_owned).collect();
    names.into_iter().map(|name| Ok((name.clone(), net.parameter(&name)?))).collect()
}

fn below(prefix: &str, tensors: Named) -> Named {
    tensors.into_iter().map(|(name, tensor)| (format!("{prefix}{name}"), tensor)).collect()
}

/// Masks under the path of their layer and the number of the call.
fn by_call(masks: Vec<DrawnMask>) -> Named {
    let mut calls: BTreeMap<String, usize> = BTreeMap::new();
    let named = |mask: DrawnMask| {
        let call = calls.entry(mask.layer.clone()).or_default();
        *call += 1;
        (format!("{}#{}", mask.layer, *call - 1), mask.factors)
    };
    masks.into_iter().map(named).collect()
}
