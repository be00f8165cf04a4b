// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whether both sides compute the same: one step from the same parameters, on the same batch, under
//! kiln's masks. Times of programs that do different things are not worth comparing.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::path::Path;

use kiln::mask::Mask;
use kiln::Tensor;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use super::case::{Case, Network, Rule, Work};
use super::peer::{Optimiser, Peer};
use super::workload::{random_batch, trainer, DropoutAlone, SEED};
use crate::Result;

/// Largest relative difference of the losses: sums of a few hundred terms in another order.
const LOSS_TOLERANCE: f64 = 1e-5;
/// Largest relative l2 distance of a parameter after the step.
const PARAMETER_TOLERANCE: f64 = 1e-4;
/// Largest relative l2 distance of the change that the step made to a parameter: a step is small, so
/// that a wrong gradient could hide behind the parameter itself. Rounding to f32 alone gives 1e-4.
const CHANGE_TOLERANCE: f64 = 1e-2;

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
    optimiser: Optimiser,
) -> Result<Option<Losses>> {
    let checked = match case.work {
        Work::Training { network, batch, rule } => {
            let start = Start { network, batch, rule, threads };
            start.compare(|directory| peer.step(case, optimiser, directory)).map(Some)
        }
        Work::Dropout => dropout_follows_its_mask(threads).map(|()| None),
    };
    checked.map_err(|error| format!("{}, {}: {error}", case.name, optimiser.peer_name()).into())
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
        let (x, target) = random_batch(self.batch)?;
        let mut trainer = trainer(self.network, self.rule, self.threads)?;
        let before = state(trainer.net())?;
        write_state(&directory.path().join("before.safetensors"), &before)?;
        self.write_batch(&directory.path().join("batch.safetensors"), &x, &target)?;

        let kiln = f64::from(trainer.step(&x, &target)?.value()?);
        let peer = peer_step(directory.path())?;
        within("loss", (kiln - peer).abs() / peer.abs(), LOSS_TOLERANCE)?;

        let bytes = std::fs::read(directory.path().join("after.safetensors"))?;
        let peer_state = SafeTensors::deserialize(&bytes)?;
        for ((name, after), (_, before)) in state(trainer.net())?.iter().zip(&before) {
            let expected = floats(peer_state.tensor(name)?.data());
            let (before, after) = (before.values()?, after.values()?);
            within(name, distance(after, &expected), PARAMETER_TOLERANCE)?;
            let changes = [subtract(after, before), subtract(&expected, before)];
            let difference = distance(&changes[0], &changes[1]);
            within(&format!("change of {name}"), difference, CHANGE_TOLERANCE)?;
        }
        Ok(Losses { kiln, peer })
    }

    /// The batch, and for each dropout layer its keep bits in the first pass.
    fn write_batch(&self, path: &Path, x: &Tensor, target: &Tensor) -> Result<()> {
        let input = bytes_of(x.values()?, f32::to_le_bytes);
        let labels = bytes_of(target.integers()?, i32::to_le_bytes);
        let mut tensors = vec![
            ("input".to_owned(), TensorView::new(Dtype::F32, x.shape().dims().to_vec(), &input)?),
            ("target".to_owned(), TensorView::new(Dtype::I32, vec![self.batch], &labels)?),
        ];
        let mut rates = HashMap::new();
        let sites = self.network.dropout_sites();
        let masks = sites.map(|site| keep_bits(site.layer, site.p, [self.batch, site.features]));
        for (site, mask) in sites.iter().zip(&masks) {
            let view = TensorView::new(Dtype::U8, vec![self.batch, site.features], mask)?;
            tensors.push((format!("mask.{}", site.layer), view));
            rates.insert(format!("p.{}", site.layer), site.p.to_string());
        }
        Ok(safetensors::serialize_to_file(tensors, Some(rates), path)?)
    }
}

/// Dropout has no loss: its output and gradient must be exactly what its mask says.
fn dropout_follows_its_mask(threads: NonZeroUsize) -> Result<()> {
    let DropoutAlone { mut net, x, dy } = DropoutAlone::new(threads)?;
    let gradients = net.train().gradients(&x, &dy)?;
    let dx = gradients.input.ok_or("expected a gradient of the input, got none")?;
    let mask = Mask::new(SEED.0, "dropout#0", DropoutAlone::P);
    let (width, scale) = (x.shape().last(), mask.scale());
    for (what, given, got) in [("output", &x, &gradients.output), ("gradient", &dy, &dx)] {
        for (index, (&given, &got)) in given.values()?.iter().zip(got.values()?).enumerate() {
            let (sample, element) = (index / width, index % width);
            let kept = mask.keeps(0, sample as u32, element as u32);
            let expected = if kept { given * scale } else { 0.0 };
            if got != expected {
                let at = format!("{what}[{sample}, {element}]");
                return Err(format!("{at}: expected {expected}, got {got}").into());
            }
        }
    }
    Ok(())
}

fn keep_bits(layer: &str, p: f32, [samples, features]: [usize; 2]) -> Vec<u8> {
    let mask = Mask::new(SEED.0, &format!("{layer}#0"), p);
    let pairs = (0..samples as u32).flat_map(|s| (0..features as u32).map(move |e| (s, e)));
    pairs.map(|(sample, element)| u8::from(mask.keeps(0, sample, element))).collect()
}

fn state<M: kiln::nn::Module>(net: &mut kiln::Net<M>) -> Result<State> {
    let names: Vec<String> = net.parameter_names().into_iter().map(str::to_owned).collect();
    let read = |name: String| Ok((name.clone(), net.parameter(&name)?));
    names.into_iter().map(read).collect()
}

fn write_state(path: &Path, state: &State) -> Result<()> {
    let mut stored = Vec::with_capacity(state.len());
    for (name, value) in state {
        stored.push((name, value.shape().dims(), bytes_of(value.values()?, f32::to_le_bytes)));
    }
    let mut views = Vec::with_capacity(stored.len());
    for (name, dims, bytes) in &stored {
        views.push((name.as_str(), TensorView::new(Dtype::F32, dims.to_vec(), bytes)?));
    }
    Ok(safetensors::serialize_to_file(views, None, path)?)
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
    let norm = |values: &[f32]| values.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>().sqrt();
    norm(&subtract(got, expected)) / norm(expected)
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
