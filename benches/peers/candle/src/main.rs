// SPDX-License-Identifier: MIT OR Apache-2.0
//! candle as a resident peer process; `../../README.md` says how it is spoken to.

mod dropping;
mod network;
#[path = "../../protocol/mod.rs"]
mod protocol;
mod train;

use std::collections::HashMap;
use std::path::Path;

use candle_core::{Device, Tensor, Var};
use gemm as _; // For its feature alone.

use dropping::Dropping;
use protocol::case::{CLASSES, Case, ELEMENTS, MAPS, Pass, WORDS};
use protocol::files::{self, Values};
use protocol::{Library, Result, Work};
use train::{Model, Training};

struct Candle;

fn main() -> Result<()> {
    protocol::serve(&Candle)
}

impl Library for Candle {
    const NAME: &'static str = if cfg!(feature = "mkl") { "candle-mkl" } else { "candle" };
    const VERSION: &'static str = "0.11.1";

    fn work(&self, case: &Case) -> Result<Box<dyn Work>> {
        let (network, batch, pass) = match *case {
            Case::Net { network, batch, pass } => (network, batch, pass),
            Case::Elements => return Alone::new(&ELEMENTS),
            Case::Maps => return Alone::new(&MAPS),
        };
        let shape = network.input(batch);
        let x = match network {
            protocol::case::Network::Rnn => {
                let tokens = (0..shape.iter().product::<usize>() as u32)
                    .map(|i| i.wrapping_mul(2654435761) % WORDS as u32);
                Tensor::from_vec(tokens.collect(), shape, &Device::Cpu)?
            }
            _ => Tensor::randn(0f32, 1f32, shape, &Device::Cpu)?,
        };
        let labels: Vec<u32> = (0..batch as u32).map(|label| label * 7 % CLASSES as u32).collect();
        let labels = Tensor::from_vec(labels, batch, &Device::Cpu)?;
        let model = Model::new(network, None)?;
        Ok(match pass {
            Pass::Eval => Box::new(Eval { model, x }),
            _ => Box::new(Training::new(model, pass, x, labels)?),
        })
    }

    fn check(&self, case: &Case, directory: &Path) -> Result<f64> {
        let &Case::Net { network, pass, .. } = case else {
            return Err("dropout alone draws masks of its own".into());
        };
        let model = Model::new(network, Some(&directory.join("before.safetensors")))?;
        let batch = files::read_batch(directory)?;
        let x = tensor(&batch.input)?;
        let x = if network == protocol::case::Network::Rnn {
            x.to_dtype(candle_core::DType::U32)?
        } else {
            x
        };
        if pass == Pass::Eval {
            let output = model.forward(&x, &Dropping::Eval)?;
            files::write(directory, vec![("output".into(), values(&output)?)])?;
            return Ok(f64::from(output.mean_all()?.to_scalar::<f32>()?));
        }
        let labels: Vec<u32> = batch.labels.iter().map(|&label| label as u32).collect();
        let labels = Tensor::from_vec(labels, batch.labels.len(), &Device::Cpu)?;
        let masks: Result<HashMap<_, _>> = batch
            .masks
            .into_iter()
            .map(|(layer, calls)| Ok((layer, calls.iter().map(tensor).collect::<Result<_>>()?)))
            .collect();
        let mut training = Training::new(model, pass, x, labels)?;
        let (loss, gradients) = training.update(&Dropping::Given(masks?.into()))?;
        let mut after = Vec::new();
        for (name, tensor) in gradients {
            after.push((format!("gradient.{name}"), values(&tensor)?));
        }
        for (name, tensor) in training.model.state()? {
            after.push((name, values(&tensor)?));
        }
        files::write(directory, after)?;
        Ok(f64::from(loss.to_scalar::<f32>()?))
    }
}

fn tensor(values: &Values) -> Result<Tensor> {
    Ok(Tensor::from_vec(values.floats.clone(), values.shape.as_slice(), &Device::Cpu)?)
}

fn values(tensor: &Tensor) -> Result<Values> {
    Ok(Values { shape: tensor.dims().to_vec(), floats: tensor.flatten_all()?.to_vec1()? })
}

struct Eval {
    model: Model,
    x: Tensor,
}

impl Work for Eval {
    fn step(&mut self) -> Result<()> {
        self.model.forward(&self.x, &Dropping::Eval)?;
        Ok(())
    }
}

/// Dropout and nothing else, with a given gradient of what it yields.
struct Alone {
    x: Var,
    gradient: Tensor,
}

impl Alone {
    fn new(shape: &[usize]) -> Result<Box<dyn Work>> {
        let x = Var::from_tensor(&Tensor::randn(0f32, 1f32, shape, &Device::Cpu)?)?;
        Ok(Box::new(Alone { x, gradient: Tensor::randn(0f32, 1f32, shape, &Device::Cpu)? }))
    }
}

impl Work for Alone {
    fn step(&mut self) -> Result<()> {
        let y = match self.x.rank() {
            4 => dropping::of_maps(&self.x, 0.5)?,
            _ => candle_nn::ops::dropout(&self.x, 0.5)?,
        };
        // A gradient cannot be given to `backward` otherwise.
        (y * &self.gradient)?.sum_all()?.backward()?;
        Ok(())
    }
}
