// SPDX-License-Identifier: MIT OR Apache-2.0
//! burn as a resident peer process; `../../README.md` says how it is spoken to.
#![recursion_limit = "256"]

mod dense;
mod dropping;
mod each;
mod images;
mod model;
mod names;
#[path = "../../protocol/mod.rs"]
mod protocol;
mod texts;
mod train;

use std::path::Path;

use burn::tensor::{Device, Distribution, Tensor};

use each::with_network;
use model::Input;
use protocol::case::{Case, ELEMENTS, MAPS, Network, Pass};
use protocol::{Library, Result, Work};
use train::Training;

/// The fastest of burn's backends on a CPU.
struct Burn {
    plain: Device,
}

fn main() -> Result<()> {
    protocol::serve(&Burn { plain: Device::flex() })
}

impl Library for Burn {
    const NAME: &'static str = "burn";
    const VERSION: &'static str = "0.22.1 (flex)";

    fn work(&self, case: &Case) -> Result<Box<dyn Work>> {
        match *case {
            Case::Net { network, batch, pass } => {
                with_network!(network, work(&self.plain, network, batch, pass))
            }
            Case::Elements => Ok(Box::new(Alone::new(&self.plain, ELEMENTS))),
            Case::Maps => Ok(Box::new(Alone::new(&self.plain, MAPS))),
        }
    }

    fn check(&self, case: &Case, directory: &Path) -> Result<f64> {
        let &Case::Net { network, pass, .. } = case else {
            return Err("dropout alone draws masks of its own".into());
        };
        with_network!(network, check(&self.plain, pass, directory))
    }
}

fn work<M: model::Model>(
    plain: &Device,
    network: Network,
    batch: usize,
    pass: Pass,
) -> Result<Box<dyn Work>> {
    let shape = network.input(batch);
    Ok(match pass {
        Pass::Eval => Box::new(train::Eval::<M>::new(plain, M::Input::random(&shape, plain))),
        _ => {
            let trained = plain.clone().autodiff();
            let x = M::Input::random(&shape, &trained);
            Box::new(Training::<M>::new(plain, pass, x, model::labels(batch, &trained)))
        }
    })
}

fn check<M: model::Model>(plain: &Device, pass: Pass, directory: &Path) -> Result<f64> {
    match pass {
        Pass::Eval => train::check_eval::<M>(plain, directory),
        _ => train::check_step::<M>(plain, pass, directory),
    }
}

/// Dropout and nothing else, with a given gradient of what it yields.
struct Alone<const D: usize> {
    plain: Device,
    x: Tensor<D>,
    gradient: Tensor<D>,
}

impl<const D: usize> Alone<D> {
    fn new(plain: &Device, shape: [usize; D]) -> Self {
        let trained = plain.clone().autodiff();
        let random = || Tensor::random(shape, Distribution::Normal(0.0, 1.0), &trained);
        Alone { plain: plain.clone(), x: random(), gradient: random() }
    }
}

impl<const D: usize> Work for Alone<D> {
    fn step(&mut self) -> Result<()> {
        let x = self.x.clone().require_grad();
        let y = match D {
            4 => dropping::of_maps(x.reshape(MAPS), 0.5).reshape(self.gradient.dims()),
            _ => dropping::of_elements(x, 0.5),
        };
        // A gradient cannot be given to `backward` otherwise.
        let _ = (y * self.gradient.clone()).sum().backward();
        Ok(self.plain.sync().map_err(|error| format!("{error:?}"))?)
    }
}
