// SPDX-License-Identifier: MIT OR Apache-2.0
//! Random chains of what may follow a layer that takes others along: reshapes, transposes,
//! convolutions, activations and dropouts, which kernels fuse where they can. Every mask is compared
//! with its definition in `src/mask.rs`, and forward with backward.

mod links;
mod loops;

use kiln::nn::Bias;
use kiln::{Gradients, Precision, Tensor};

use crate::common::close::{compare, doubles, Tolerance};
use crate::common::summary;
use crate::common::targets::{targets, Target};
use crate::common::Numbers;
use links::{Activation, Chain, Link};
use loops::Run;

/// Chains tried on every backend.
const CHAINS: u64 = 80;

/// Further chains, tried on the CPU alone, where a chain takes a millisecond.
const MORE_CHAINS: u64 = 220;

/// Largest difference of sums in a chain, as a share of the largest element.
const SUMS: f64 = 1e-4;

/// The same where factors and values are rounded to 8 bits.
const ROUNDED_SUMS: f64 = 5e-2;

/// Two passes in train mode and one in eval mode: output and all gradients.
fn check(chain: &Chain, target: &Target) -> Result<f64, String> {
    let mut net = chain.net(target.device());
    let x = Numbers::new(1).tensor(&chain.input);
    let mut worst = 0.0f64;
    for pass in [Some(0), Some(1), None] {
        let run = Run::new(chain, &mut net, &x, pass);
        let dy = Numbers::new(2).tensor(run.output_shape());
        let mut view = match pass {
            Some(_) => net.train(),
            None => net.eval(),
        };
        let found = view.gradients(&x, &dy).map_err(|error| error.to_string())?;
        if !run.is_delicate() {
            let judged = judge(&run, &found, doubles(&dy));
            worst = worst.max(judged.map_err(|what| format!("pass {pass:?}: {what}"))?);
        }
    }
    Ok(worst)
}

fn judge(run: &Run<'_>, found: &Gradients, dy: Vec<f64>) -> Result<f64, String> {
    check_zeros(&found.output, run)?;
    let meant = run.backward(dy);
    let input = found.input.as_ref().ok_or("no gradient of the input")?;
    let mut expected: Vec<(String, &[f64])> = vec![];
    for (layer, meant) in meant.layers.iter().enumerate() {
        expected.push((format!("layer{layer}.weight"), &meant.weight));
        expected.extend(meant.bias.as_ref().map(|bias| (format!("layer{layer}.bias"), &bias[..])));
    }
    let mut worst = close("output", &found.output, run.output(), SUMS)?;
    worst = worst.max(close("gradient of the input", input, &meant.input, SUMS)?);
    let names: Vec<&String> = found.parameters.iter().map(|(name, _)| name).collect();
    if names != expected.iter().map(|(name, _)| name).collect::<Vec<_>>() {
        return Err(format!("gradients of {names:?}"));
    }
    for ((name, got), (_, meant)) in found.parameters.iter().zip(&expected) {
        worst = worst.max(close(&format!("gradient of {name}"), got, meant, SUMS)?);
    }
    Ok(worst)
}

/// Dropped elements are 0, not nearly so.
fn check_zeros(got: &Tensor, run: &Run<'_>) -> Result<(), String> {
    let got = doubles(got);
    let wrong = |(got, meant): (&f64, &f64)| *meant == 0.0 && *got != 0.0;
    match got.iter().zip(run.output()).position(wrong) {
        None => Ok(()),
        Some(at) => Err(format!("element {at} of the output is not dropped")),
    }
}

/// What sums may lose, as a share of the largest; a wrong mask is off by whole elements.
fn close(what: &str, got: &Tensor, meant: &[f64], share: f64) -> Result<f64, String> {
    let largest = meant.iter().fold(1.0, |largest: f64, x| largest.max(x.abs()));
    let tolerance = Tolerance { absolute: share * largest, relative: share };
    compare(what, got.shape().dims(), &doubles(got), meant, tolerance)
}

/// The reshape of attention heads: 6 samples become 12.
#[test]
fn heads_have_samples_of_their_own() {
    for activation in [None, Some(Activation::Tanh), Some(Activation::Relu)] {
        let mut links = vec![
            Link::Linear { layer: 0, outputs: 8, bias: Bias::Added },
            Link::Reshape(vec![12, 4]),
            Link::Dropout { layer: 0, p: 0.5, call: 0 },
        ];
        if let Some(function) = activation {
            links.insert(1, Link::Activation(function));
        }
        let chain = Chain { input: vec![6, 5], links };
        for target in targets() {
            check(&chain, &target).unwrap_or_else(|what| panic!("{}: {what}", target.name));
        }
    }
}

#[test]
fn masks_behind_fused_layers_are_the_definition() {
    let (mut cases, mut failures, mut worst) = (0, Vec::new(), 0.0f64);
    for target in targets() {
        let count = if target.family == "cpu" { CHAINS + MORE_CHAINS } else { CHAINS };
        for seed in 0..count {
            let chain = Chain::random(seed);
            match check(&chain, &target) {
                Ok(share) => worst = worst.max(share),
                Err(what) => {
                    failures.push(format!("chain {seed} on {}: {what}\n  {chain:?}", target.name));
                }
            }
            cases += 1;
        }
    }
    summary(&format!("chains: {cases}, worst {:.0} %", worst * 100.0));
    assert!(failures.is_empty(), "{} failed:\n{}", failures.len(), failures.join("\n"));
}

/// Tensor cores have tails of their own, the quickest for whole tiles of bias, ReLU and dropout.
#[test]
fn masks_are_the_definition_in_every_precision() {
    let relu = Link::Activation(Activation::Relu);
    let dropout = Link::Dropout { layer: 0, p: 0.5, call: 0 };
    let linear = Link::Linear { layer: 0, outputs: 64, bias: Bias::Added };
    let mut chains: Vec<Chain> = [[64, 64], [128, 32], [32, 128], [1, 4096]]
        .iter()
        .map(|to| Link::Reshape(to.to_vec()))
        .map(|reshape| vec![linear.clone(), relu.clone(), reshape, dropout.clone()])
        .map(|links| Chain { input: vec![64, 64], links })
        .collect();
    chains.extend((0..CHAINS / 2).map(Chain::random));
    for target in targets().iter().skip(2) {
        for precision in [Precision::Tf32, Precision::Bf16, Precision::F16] {
            for chain in &chains {
                let mut net = chain.net(target.device().with_precision(precision));
                let x = Numbers::new(1).tensor(&chain.input);
                let run = Run::new(chain, &mut net, &x, Some(0));
                let y = net.train().forward(&x).expect("a pass");
                // Rounding decides what ReLU makes of sums near 0, which no mask does.
                let judged = close("output", &y, run.output(), ROUNDED_SUMS);
                judged.unwrap_or_else(|what| {
                    panic!("{precision} on {}: {what}\n  {chain:?}", target.name)
                });
            }
        }
    }
}
