// SPDX-License-Identifier: MIT OR Apache-2.0
//! Batches in parts: what a training comes to that takes them one after another.

use kiln::loss::{Mse, Reduction};
use kiln::nn::Module;
use kiln::optim::Sgd;
use kiln::{Net, Trainer};

use super::Numbers;

/// A training of a network with two outputs on sequences of 4 steps, six to a batch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Course {
    pub(crate) rate: f64,
    pub(crate) steps: u64,
    pub(crate) features: usize,
}

impl Course {
    /// All parameters behind the last step, where a batch is divided into so many parts.
    fn parameters<M: Module>(self, net: Net<M>, parts: usize) -> Vec<f32> {
        let loss = Mse { reduction: Reduction::Mean };
        let mut fit = Trainer::new(net, loss, Sgd::new(self.rate)).expect("options");
        fit = fit.with_micro_batches(parts).expect("parts");
        for step in 0..self.steps {
            let x = Numbers::new(step).tensor(&[6, 4, self.features]);
            fit.step(&x, &Numbers::new(9 + step).tensor(&[6, 2])).expect("a step");
        }
        let names: Vec<String> =
            fit.net().parameter_names().into_iter().map(String::from).collect();
        let values = names.iter().map(|name| fit.net().parameter(name).expect("its name"));
        values.flat_map(|value| value.values().expect("f32").to_vec()).collect()
    }

    /// The largest difference that so many parts make to any parameter.
    pub(crate) fn difference<M: Module>(self, net: impl Fn() -> Net<M>, parts: usize) -> f32 {
        let [whole, divided] = [1, parts].map(|parts| self.parameters(net(), parts));
        whole.iter().zip(&divided).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
    }
}
