// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whether both sides compute the same: one step from the same parameters, on the same batch, under
//! kiln's masks. Times of programs that do different things are not worth comparing.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::path::Path;

use kiln::mask::Mask;
use kiln::nn::Module;
use kiln::{checkpoint, Device, Net, Tensor, Var};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use super::case::{Alone, Case, Network, Rule, Work};
use super::monte_carlo::{MonteCarlo, Way};
use super::peer::{Peer, Torch};
use super::workload::{trainer, DropoutAlone, SEED};
use crate::Result;

/// Largest relative difference of the losses: sums of a few hundred terms in another order.
const LOSS_TOLERANCE: f64 = 1e-5;
/// Largest relative l2 distance of a parameter after the step.
const PARAMETER_TOLERANCE: f64 = 1e-4;
/// Largest relative l2 distance of the change that the step made to a parameter: a step is small, so
/// that a wrong gradient could hide behind the parameter itself. Rounding to f32 alone gives 1e-4.
const CHANGE_TOLERANCE: f64 = 1e-2;
/// A change of less than this share of the parameter is rounding. A bias before batch norm has a gradient of
/// 0, which kiln knows and PyTorch sums up.
const ROUNDING: f64 = f32::EPSILON as f64;

/// The loss of the step on both sides.
#[derive(Clone, Copy, Debug)]
pub(super) struct Losses {
    pub(super) kiln: f64,
    pub(super) peer: f64,
}

/// Checks that kiln and the peer agree on a case; the losses, where the case has one.
pub(super) fn agree(
    case: &Case,
    threads: NonZeroUsize,
    peer: &mut Peer,
    torch: Torch,
) -> Result<Option<Losses>> {
    let checked = match case.work {
        Work::Training { network, batch, rule } => {
            let start = Start { network, batch, rule, threads };
            start.compare(|directory| peer.step(case, torch, directory)).map(Some)
        }
        Work::Dropout(alone) => dropout_follows_its_mask(alone, threads).map(|()| None),
        Work::MonteCarlo => {
            draws_agree(threads, |directory| peer.step(case, torch, directory)).map(|()| None)
        }
    };
    checked.map_err(|error| format!("{}, {}: {error}", case.name, torch.name()).into())
}

/// Where a step starts from.
struct Start {
    network: Network,
    batch: usize,
    rule: Rule,
    threads: NonZeroUsize,
}

type State = Vec<(String, Tensor)>;

impl Start {
    fn compare(&self, peer_step: impl FnOnce(&Path) -> Result<f64>) -> Result<Losses> {
        let directory = tempfile::tempdir()?;
        let (x, target) = self.network.random_batch(self.batch)?;
        let mut trainer = trainer(self.network, self.rule, Device::cpu_with_threads(self.threads))?;
        let before = state(trainer.net())?;
        checkpoint::save_weights(trainer.net(), directory.path().join("before.safetensors"))?;
        self.write_batch(trainer.net(), &directory.path().join("batch.safetensors"), &x, &target)?;

        let kiln = f64::from(trainer.step(&x, &target)?.value()?);
        let peer = peer_step(directory.path())?;
        within("loss", (kiln - peer).abs() / peer.abs(), LOSS_TOLERANCE)?;

        let bytes = std::fs::read(directory.path().join("after.safetensors"))?;
        let peer_state = SafeTensors::deserialize(&bytes)?;
        for ((name, after), (_, before)) in state(trainer.net())?.iter().zip(&before) {
            let expected = floats(peer_state.tensor(name)?.data());
            let (before, after) = (before.values()?, after.values()?);
            // What begins as zeros is nothing but its change.
            if norm(before) > 0.0 {
                within(name, distance(after, &expected), PARAMETER_TOLERANCE)?;
            }
            let changes = [subtract(after, before), subtract(&expected, before)];
            if norm(&changes[0]).max(norm(&changes[1])) > ROUNDING * norm(before) {
                let difference = distance(&changes[0], &changes[1]);
                within(&format!("change of {name}"), difference, CHANGE_TOLERANCE)?;
            }
        }
        Ok(Losses { kiln, peer })
    }

    /// The batch, and for each call of a dropout layer its keep bits in the first pass.
    fn write_batch(
        &self,
        net: &Net<Box<dyn Module>>,
        path: &Path,
        x: &Tensor,
        target: &Tensor,
    ) -> Result<()> {
        let (dtype, input) = match x.values() {
            Ok(values) => (Dtype::F32, bytes_of(values, f32::to_le_bytes)),
            Err(_) => (Dtype::I32, bytes_of(x.integers()?, i32::to_le_bytes)),
        };
        let labels = bytes_of(target.integers()?, i32::to_le_bytes);
        let mut rates = HashMap::new();
        let mut masks = Vec::new();
        for site in self.network.dropout_sites() {
            let drawn = net.mask::<Var, Var>(site.layer, 0, &[x.ty()])?;
            for (call, mask) in drawn.iter().enumerate() {
                let keep: Vec<u8> = mask.values()?.iter().map(|kept| *kept as u8).collect();
                let name = format!("mask.{}#{call}", site.layer);
                masks.push((name, mask.shape().dims().to_vec(), keep));
            }
            rates.insert(format!("p.{}", site.layer), site.p.to_string());
        }
        let mut tensors = vec![
            ("input", TensorView::new(dtype, x.shape().dims().to_vec(), &input)?),
            ("target", TensorView::new(Dtype::I32, vec![self.batch], &labels)?),
        ];
        for (name, dims, keep) in &masks {
            tensors.push((name.as_str(), TensorView::new(Dtype::U8, dims.clone(), keep)?));
        }
        Ok(safetensors::serialize_to_file(tensors, Some(rates), path)?)
    }
}

/// Draws of the same network under the same masks.
fn draws_agree(threads: NonZeroUsize, peer_draws: impl FnOnce(&Path) -> Result<f64>) -> Result<()> {
    let directory = tempfile::tempdir()?;
    let draws = MonteCarlo::new(Way::OneRun, threads)?.given(directory.path())?;
    peer_draws(directory.path())?;
    let bytes = std::fs::read(directory.path().join("after.safetensors"))?;
    let peers = SafeTensors::deserialize(&bytes)?;
    let peers = peers.tensor("draws")?;
    if peers.shape() != draws.shape().dims() {
        let (expected, got) = (draws.shape(), peers.shape());
        return Err(format!("draws: expected {expected}, got {got:?}").into());
    }
    within("draws", distance(draws.values()?, &floats(peers.data())), PARAMETER_TOLERANCE)
}

/// Dropout has no loss: its output and gradient must be exactly what its mask says.
fn dropout_follows_its_mask(alone: Alone, threads: NonZeroUsize) -> Result<()> {
    let DropoutAlone { mut net, x, dy } = DropoutAlone::new(alone, threads)?;
    let gradients = net.train().gradients::<Var, Var>(&x, &dy)?;
    let dx = gradients.input.ok_or("expected a gradient of the input, got none")?;
    let mask = Mask::new(SEED.0, "dropout#0", DropoutAlone::P);
    let (dims, scale) = (x.shape().dims(), mask.scale());
    let width: usize = dims[1..].iter().product();
    // Elements that share a decision: those of a feature map.
    let together = match alone {
        Alone::Elements => 1,
        Alone::Channels => width / dims[1],
    };
    for (what, given, got) in [("output", &x, &gradients.output), ("gradient", &dy, &dx)] {
        for (index, (&given, &got)) in given.values()?.iter().zip(got.values()?).enumerate() {
            let (sample, element) = (index / width, index % width);
            let kept = mask.keeps(0, sample as u32, (element / together) as u32);
            let expected = if kept { given * scale } else { 0.0 };
            if got != expected {
                let at = format!("{what}[{sample}, {element}]");
                return Err(format!("{at}: expected {expected}, got {got}").into());
            }
        }
    }
    Ok(())
}

/// The tensors that training changes little by little, counters left out.
fn state(net: &mut Net<Box<dyn Module>>) -> Result<State> {
    let names: Vec<String> = net.parameter_names().into_iter().map(str::to_owned).collect();
    let floats = names.into_iter().filter(|name| !name.ends_with("num_batches_tracked"));
    floats.map(|name| Ok((name.clone(), net.parameter(&name)?))).collect()
}

fn within(what: &str, difference: f64, tolerance: f64) -> Result<()> {
    // Written so that NaN fails.
    if difference <= tolerance {
        return Ok(());
    }
    let difference = format!("relative difference {difference:.2e}");
    Err(format!("{what}: expected a {difference} of at most {tolerance:e}").into())
}

/// l2 norm of the difference over that of the expected values.
fn distance(got: &[f32], expected: &[f32]) -> f64 {
    match subtract(got, expected) {
        difference if difference.iter().all(|value| *value == 0.0) => 0.0,
        difference => norm(&difference) / norm(expected),
    }
}

/// The l2 norm.
fn norm(values: &[f32]) -> f64 {
    values.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>().sqrt()
}

fn subtract(a: &[f32], b: &[f32]) -> Vec<f32> {
    a.iter().zip(b).map(|(a, b)| a - b).collect()
}

fn bytes_of<T: Copy>(values: &[T], bytes: impl Fn(T) -> [u8; 4]) -> Vec<u8> {
    values.iter().flat_map(|&value| bytes(value)).collect()
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    let words = bytes.chunks_exact(4);
    words.map(|word| f32::from_le_bytes([word[0], word[1], word[2], word[3]])).collect()
}
