// SPDX-License-Identifier: MIT OR Apache-2.0
//! Keeping the inputs of kinks away from 0.
//!
//! Two devices add up a product in different orders. Where it is nearly 0, ReLU's input is then positive
//! on one and negative on the other, and the gradient flows on one alone: a large difference that
//! condemns a good device. So biases are chosen that leave a gap around 0.

use crate::graph::Var;
use crate::nn::{Dropout, Linear, Module, Scope};
use crate::{Device, Net, Result, Seed, Tensor};

/// Least distance of a kink's input from 0: some hundred times what rounding activations to 8 bits
/// changes of a sum.
const MARGIN: f32 = 0.01;

/// Linear layers `fc1`, `fc2`, ... with ReLU and dropout between them.
#[derive(Debug)]
pub(super) struct Stack {
    layers: Vec<Linear>,
    dropouts: Vec<Dropout>,
}

impl Stack {
    /// One layer from each width to the next; a rate for each but the last.
    fn new(p: &Scope, widths: &[usize], rates: &[f32]) -> Self {
        let layer = |(index, pair): (usize, &[usize])| {
            Linear::new(&p.at(&format!("fc{}", index + 1)), pair[0], pair[1])
        };
        let layers: Vec<Linear> = widths.windows(2).enumerate().map(layer).collect();
        let rates = rates.iter().take(layers.len().saturating_sub(1)).enumerate();
        let dropout = |(index, &rate): (usize, &f32)| {
            Dropout::new(&p.at(&format!("dropout{}", index + 1)), rate)
        };
        Stack { dropouts: rates.map(dropout).collect(), layers }
    }
}

impl Module for Stack {
    fn forward(&self, x: &Var) -> Var {
        let mut x = x.clone();
        for (index, layer) in self.layers.iter().enumerate() {
            x = layer.forward(&x);
            if let Some(dropout) = self.dropouts.get(index) {
                x = dropout.forward(&x.relu());
            }
        }
        x
    }
}

/// Biases with which a network of layers named as in [`Stack`] keeps off 0 what goes into ReLU in its
/// first training step on `x`. `rates` has one rate for each ReLU.
pub(super) fn biases(
    reference: &Device,
    seed: Seed,
    widths: &[usize],
    rates: &[f32],
    x: &Tensor,
) -> Result<Vec<(String, Tensor)>> {
    let mut biases: Vec<(String, Tensor)> = Vec::new();
    for depth in 1..=rates.len() {
        let make = |p: &Scope| Stack::new(p, &widths[..=depth], rates);
        let mut before = Net::new(reference.clone(), seed, make)?;
        for (name, bias) in &biases {
            before.set_parameter(name, bias)?;
        }
        let name = format!("fc{depth}.bias");
        let inputs = before.train().forward(x)?;
        let bias = off_zero(&inputs, &before.parameter(&name)?)?;
        biases.push((name, bias));
    }
    Ok(biases)
}

/// The bias with which these results `[rows, units]` of a layer keep off 0: each unit's results are
/// moved so that 0 lies in the widest gap among the middle third of them, or where all gaps are too
/// narrow, beyond them.
pub(super) fn off_zero(results: &Tensor, bias: &Tensor) -> Result<Tensor> {
    let (values, units) = (results.values()?, bias.shape().elements());
    let mut moved = Vec::with_capacity(units);
    for (unit, bias) in bias.values()?.iter().enumerate() {
        let mut column: Vec<f32> = values.iter().skip(unit).step_by(units).copied().collect();
        column.sort_by(f32::total_cmp);
        let beyond = match (column.first(), column.last()) {
            (Some(least), Some(_)) if unit % 2 == 0 => least - 2.0 * MARGIN,
            (Some(_), Some(most)) => most + 2.0 * MARGIN,
            _ => 0.0,
        };
        let gaps = column.windows(2).map(|pair| (pair[1] - pair[0], (pair[0] + pair[1]) / 2.0));
        let middle = gaps.skip(column.len() / 3).take(column.len().div_ceil(3));
        let widest = middle.max_by(|a, b| a.0.total_cmp(&b.0));
        moved.push(bias - widest.filter(|gap| gap.0 > 2.0 * MARGIN).map_or(beyond, |gap| gap.1));
    }
    Tensor::new(bias.shape().clone(), moved)
}

#[cfg(test)]
mod tests {
    use super::super::numbers;
    use super::*;

    #[test]
    fn inputs_of_relu_keep_off_zero() {
        let (reference, seed) = (Device::cpu(), Seed(3));
        let (widths, rates) = ([20, 70, 30, 5], [0.2, 0.5]);
        let x = numbers(1, [33, 20]).expect("numbers");
        let biases = biases(&reference, seed, &widths, &rates, &x).expect("biases");
        assert_eq!(biases.len(), 2);
        for depth in 1..=2 {
            let make = |p: &Scope| Stack::new(p, &widths[..=depth], &rates);
            let mut net = Net::new(reference.clone(), seed, make).expect("a network");
            for (name, bias) in &biases[..depth] {
                net.set_parameter(name, bias).expect("a bias");
            }
            let inputs = net.train().forward(&x).expect("a pass");
            let inputs = inputs.values().expect("f32");
            let least = inputs.iter().fold(f32::INFINITY, |least, x| least.min(x.abs()));
            assert!(least > 0.9 * MARGIN, "layer {depth}: {least}");
            // Units are on for some samples and off for others.
            let positive = inputs.iter().filter(|x| **x > 0.0).count();
            assert!((inputs.len() / 4..inputs.len() * 3 / 4).contains(&positive), "{positive}");
        }
    }

    #[test]
    fn results_without_gaps_go_to_one_side() {
        let results = Tensor::new([3, 2], vec![0.0, 0.0, 1e-4, 1e-4, -1e-4, -1e-4]).expect("six");
        let moved = off_zero(&results, &Tensor::zeros([2])).expect("two");
        let expected = [2.0 * MARGIN + 1e-4, -2.0 * MARGIN - 1e-4];
        assert_eq!(moved.values().expect("f32"), expected);
    }
}
