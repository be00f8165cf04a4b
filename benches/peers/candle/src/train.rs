// SPDX-License-Identifier: MIT OR Apache-2.0
//! Training steps.

use std::path::Path;

use candle_core::{DType, Device, Tensor, Var};
use candle_nn::{AdamW, Optimizer, ParamsAdamW, VarBuilder, VarMap, loss};

use super::dropping::Dropping;
use super::network::Net;
use super::protocol::case::{Network, Pass};
use super::protocol::{Result, Work, files};
use super::tensor;

/// A network and its parameters.
pub struct Model {
    network: Network,
    net: Net,
    variables: VarMap,
}

impl Model {
    /// With random parameters, or those of a file.
    pub fn new(network: Network, from: Option<&Path>) -> Result<Model> {
        let mut variables = VarMap::new();
        let builder =
            |variables: &VarMap| VarBuilder::from_varmap(variables, DType::F32, &Device::Cpu);
        let mut net = Net::new(network, &builder(&variables))?;
        if let Some(path) = from {
            for (name, values) in files::read(path)? {
                if !name.ends_with("num_batches_tracked") {
                    variables.set_one(&name, tensor(&values)?)?;
                }
            }
            // Batch norms copy the statistics that they begin with.
            net = Net::new(network, &builder(&variables))?;
        }
        Ok(Model { network, net, variables })
    }

    pub fn forward(&self, x: &Tensor, dropping: &Dropping) -> Result<Tensor> {
        Ok(self.net.forward(x, dropping)?)
    }

    /// Parameters and statistics, by name.
    pub fn state(&self) -> Result<Vec<(String, Tensor)>> {
        let mut state: Vec<(String, Tensor)> =
            self.named().into_iter().map(|(name, var)| (name, var.as_tensor().clone())).collect();
        state.retain(|(name, _)| !name.contains(".running_"));
        for (name, norm) in self.net.norms() {
            state.push((format!("{name}.running_mean"), norm.running_mean().clone()));
            state.push((format!("{name}.running_var"), norm.running_var().clone()));
        }
        Ok(state)
    }

    fn named(&self) -> Vec<(String, Var)> {
        let all = self.variables.data().lock().unwrap_or_else(|error| error.into_inner());
        all.iter().map(|(name, var)| (name.clone(), var.clone())).collect()
    }
}

enum Rule {
    Adam(AdamW),
    /// candle's SGD has no momentum: users keep it themselves.
    Momentum(Vec<(Var, Tensor)>),
}

/// A network that is trained.
pub struct Training {
    pub model: Model,
    rule: Rule,
    x: Tensor,
    labels: Tensor,
}

impl Training {
    pub fn new(model: Model, pass: Pass, x: Tensor, labels: Tensor) -> Result<Training> {
        let variables = model.variables.all_vars();
        let rule = match pass {
            Pass::Adam => {
                let parameters =
                    ParamsAdamW { lr: 1e-3, weight_decay: 0.0, ..ParamsAdamW::default() };
                Rule::Adam(AdamW::new(variables, parameters)?)
            }
            _ => {
                let still: candle_core::Result<Vec<_>> =
                    variables.into_iter().map(|var| Ok((var.clone(), var.zeros_like()?))).collect();
                Rule::Momentum(still?)
            }
        };
        Ok(Training { model, rule, x, labels })
    }

    /// One step: the loss, and the gradients by name.
    pub fn update(&mut self, dropping: &Dropping) -> Result<(Tensor, Vec<(String, Tensor)>)> {
        let output = self.model.forward(&self.x, dropping)?;
        let loss = match self.model.network {
            Network::Residual | Network::Spatial => output.sqr()?.mean_all()?,
            _ => loss::cross_entropy(&output, &self.labels)?,
        };
        let gradients = loss.backward()?;
        match &mut self.rule {
            Rule::Adam(adam) => adam.step(&gradients)?,
            Rule::Momentum(velocities) => {
                for (var, velocity) in velocities {
                    if let Some(gradient) = gradients.get(var) {
                        let moved = ((&*velocity * 0.9)? + gradient)?.detach();
                        var.set(&(var.as_tensor() - (&moved * 0.01)?)?)?;
                        *velocity = moved;
                    }
                }
            }
        }
        let named = match dropping {
            Dropping::Given(_) => self.model.named(),
            _ => Vec::new(),
        };
        let named =
            named.into_iter().filter_map(|(name, var)| Some((name, gradients.get(&var)?.clone())));
        Ok((loss, named.collect()))
    }
}

impl Work for Training {
    fn step(&mut self) -> Result<()> {
        self.update(&Dropping::Train)?;
        Ok(())
    }
}
