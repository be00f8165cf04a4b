// SPDX-License-Identifier: MIT OR Apache-2.0
//! Parameters and masks as PyTorch draws them from its seed, for a script that is left as it is.

use kiln::models::{Cnn, VariableDropoutNet};
use kiln::nn::{GivenMasks, Module};
use kiln::torch_random::{linear_bound, TorchRandom};
use kiln::{DrawnMask, Error, Result, Tensor, Var};

use super::files::Named;
use crate::cli::network::{AnyModule, AnyNet, Feed};
use crate::cli::rates::Rates;
use crate::cli::settings::NetSettings;

/// PyTorch's generator on its way through a script: first the layers' constructors, then pass after pass.
pub(super) struct PytorchSeed(TorchRandom);

/// A network whose list of inputs ends with masks.
struct Masked {
    module: GivenMasks<AnyModule>,
    /// Inputs before the masks.
    inputs: usize,
}

impl Module<Vec<Var>> for Masked {
    fn forward(&self, given: &Vec<Var>) -> Var {
        let (inputs, masks) = given.split_at(self.inputs.min(given.len()));
        self.module.forward(&(inputs.to_vec(), masks.to_vec()))
    }
}

/// The network with masks behind its inputs.
pub(super) fn given_masks(module: AnyModule, net: NetSettings) -> AnyModule {
    let inputs = match net.feed() {
        Feed::Rows | Feed::Images => 1,
        Feed::Texts => 2,
    };
    Box::new(Masked { module: GivenMasks(module), inputs })
}

impl PytorchSeed {
    pub(super) fn new(seed: u64) -> Self {
        PytorchSeed(TorchRandom::new(seed))
    }

    /// The first values of all trained parameters: layers are constructed in the order in which kiln
    /// registers them.
    pub(super) fn parameters(&mut self, net: &mut AnyNet) -> Result<Named> {
        let names: Vec<String> = net.parameter_names().into_iter().map(str::to_owned).collect();
        let mut drawn: Named = Vec::new();
        // Inputs to one output of the layer under way, if it has a weight that is drawn.
        let mut fan_in = None;
        for name in names {
            let shape = net.parameter(&name)?.shape().clone();
            let (layer, of_layer) = name.rsplit_once('.').unwrap_or(("", &name));
            let count = shape.elements();
            let values = match of_layer {
                "weight" if layer == "embedding" => self.0.normal(count),
                "weight" if shape.rank() >= 2 => {
                    let inputs = shape.sample_elements();
                    fan_in = Some(inputs);
                    self.0.uniform(linear_bound(inputs), count)
                }
                // Of a batch norm, as its state.
                "weight" => {
                    fan_in = None;
                    vec![1.0; count]
                }
                "bias" => match fan_in {
                    Some(inputs) => self.0.uniform(1.0 / (inputs as f64).sqrt(), count),
                    None => vec![0.0; count],
                },
                _ if layer == "lstm" || layer == "gru" => {
                    self.0.uniform(1.0 / (hidden(net, layer)? as f64).sqrt(), count)
                }
                _ => continue,
            };
            drawn.push((name, Tensor::new(shape, values)?));
        }
        Ok(drawn)
    }

    /// What the dropouts of the next pass multiply by, for the masks that kiln would draw. `lengths` are those of
    /// texts.
    pub(super) fn masks(
        &mut self,
        kilns: &[DrawnMask],
        net: NetSettings,
        lengths: Option<&Tensor>,
    ) -> Result<Vec<Tensor>> {
        let rates = net.rates_of_layers();
        let mut drawn = Vec::with_capacity(kilns.len());
        for mask in kilns {
            // kiln's rates are rounded, PyTorch's are not.
            let off = |rate: &f64| (rate - mask.p).abs();
            let rate = rates.iter().copied().min_by(|a, b| off(a).total_cmp(&off(b)));
            let rate = rate.unwrap_or(mask.p);
            let shape = mask.factors.shape();
            let values = match (lengths, shape.dims()) {
                (Some(lengths), &[_, steps, width])
                    if mask.layer == "lstm" || mask.layer == "gru" =>
                {
                    self.packed(rate, lengths.integers()?, steps, width)
                }
                _ => self.0.dropout(rate, shape.elements()),
            };
            drawn.push(Tensor::new(shape.clone(), values)?);
        }
        Ok(drawn)
    }

    /// The mask between recurrent layers, whose outputs PyTorch keeps packed: those of the first step of all
    /// texts, the longest first, then those of the second step of the texts that have one.
    fn packed(&mut self, rate: f64, lengths: &[i32], steps: usize, width: usize) -> Vec<f32> {
        let mut longest_first: Vec<usize> = (0..lengths.len()).collect();
        longest_first.sort_by_key(|sample| std::cmp::Reverse(lengths[*sample]));
        let mut values = vec![0.0; lengths.len() * steps * width];
        for step in 0..steps {
            let lasting = longest_first.iter().filter(|sample| lengths[**sample] > step as i32);
            for sample in lasting {
                let at = (sample * steps + step) * width;
                values[at..at + width].copy_from_slice(&self.0.dropout(rate, width));
            }
        }
        values
    }
}

/// Units of a recurrent layer.
fn hidden(net: &mut AnyNet, layer: &str) -> Result<usize> {
    let shape = net.parameter(&format!("{layer}.weight_hh_l0"))?.shape().clone();
    match shape.dims() {
        [_, hidden] => Ok(*hidden),
        _ => Err(Error::argument(layer, "a matrix of hidden states", &shape)),
    }
}

impl NetSettings {
    /// The rates of its dropouts, as they are written.
    pub(super) fn rates_of_layers(self) -> Vec<f64> {
        match (self.given_rates(), self) {
            (Some(Rates::All(rate)), _) => vec![decimal(rate)],
            (Some(Rates::Each(list)), _) => list.as_slice().iter().copied().map(decimal).collect(),
            (None, NetSettings::Variable { .. }) => VariableDropoutNet::RATES.map(decimal).to_vec(),
            (None, _) => Cnn::RATES.map(decimal).to_vec(),
        }
    }
}

/// The number that a user wrote, not the nearest `f32`.
fn decimal(number: f32) -> f64 {
    number.to_string().parse().unwrap_or(f64::from(number))
}
