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
use super::network::Rates;
use super::peer::Stepped;
use super::workload::{trainer, DropoutAlone, Eval, SEED};
use crate::Result;

/// Largest relative difference of the losses: sums of up to millions of squares, which a library may add up one by one.
const LOSS_TOLERANCE: f64 = 1e-4;
/// Largest relative l2 distance of a parameter after the step.
const PARAMETER_TOLERANCE: f64 = 1e-4;
/// What the steps of both sides are given.
pub(super) const BATCH: &str = "batch.safetensors";
/// A change of less than this share of the parameter is rounding. A bias before batch norm has a gradient of
/// 0, which kiln knows and PyTorch sums up.
const ROUNDING: f64 = f32::EPSILON as f64;

/// Largest difference of an output in eval mode, as a share of the largest element.
const ELEMENT_TOLERANCE: f64 = 1e-4;

/// How far apart gradients may be.
#[derive(Clone, Copy, Debug)]
struct Tolerance {
    /// As a share of the largest element.
    gradient: f64,
    /// Relative l2 distance of the change that the step made to a parameter: a step is small, so that a wrong
    /// gradient could hide behind the parameter itself.
    change: f64,
    statistics: Statistics,
}

/// What becomes of the statistics of batch norms.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Statistics {
    Compared,
    /// Not with few samples: how a library divides a variance shows there, and burn's differs by 1e-4.
    Left,
}

/// Rounding to f32 alone gives changes of 1e-4.
const CLOSE: Tolerance =
    Tolerance { gradient: 1e-4, change: 1e-2, statistics: Statistics::Compared };
/// With so many inputs of ReLUs, some lie within rounding of 0, and each side decides by its own rounding whether they
/// are above: layers before them see the difference, of a few hundredths at most.
const DECIDED_BY_ROUNDING: Tolerance = Tolerance { gradient: 1e-1, change: 1e-1, ..CLOSE };

/// What gradients are multiplied by, at least, before they are added to parameters.
const RATE: f64 = 1e-2;

/// The loss of the step on both sides.
#[derive(Clone, Copy, Debug)]
pub(super) struct Losses {
    pub(super) kiln: f64,
    pub(super) peer: f64,
    /// What was dropped on both sides.
    pub(super) rates: Rates,
}

/// Whether a peer computes what kiln does.
#[derive(Debug)]
pub(super) enum Verdict {
    Same(Option<Losses>),
    /// What differs, and by how much.
    Differs(String),
}

/// A side's answer to the question of a check: it leaves `after.safetensors` in a directory and tells its loss.
pub(super) type Ask<'a> = &'a mut dyn FnMut(&Path) -> Result<Stepped>;

/// Lets a peer make a case's step, and compares.
///
/// # Errors
/// A peer that does not answer, and kiln's own.
pub(super) fn agree(case: &Case, threads: NonZeroUsize, ask: Ask<'_>) -> Result<Verdict> {
    match case.work {
        Work::Training { network, batch, rule } => {
            let whole = Start { network, batch, rule, threads, tolerance: CLOSE };
            let Some(few) = network.few_samples() else { return whole.compare(ask) };
            let tolerance = Tolerance { statistics: Statistics::Left, ..CLOSE };
            let few_samples = Start { batch: few, tolerance, ..whole };
            match few_samples.compare(ask)? {
                Verdict::Same(_) => {}
                Verdict::Differs(what) => {
                    return Ok(Verdict::Differs(format!("{what}, of {few} samples")));
                }
            }
            Start { tolerance: DECIDED_BY_ROUNDING, ..whole }.compare(ask)
        }
        Work::Eval { network, batch } => outputs_agree(Eval::new(network, batch, threads)?, ask),
        // What a library drops it decides by itself here: kiln is held to its masks, and no other.
        Work::Dropout(alone) => {
            dropout_follows_its_mask(alone, threads).map(|()| Verdict::Same(None))
        }
        // So are the places that images are cropped at.
        Work::Loading => Ok(Verdict::Same(None)),
        Work::MonteCarlo => draws_agree(threads, ask),
    }
}

/// Where a step starts from, and how closely it is compared.
#[derive(Clone, Copy)]
struct Start {
    network: Network,
    batch: usize,
    rule: Rule,
    threads: NonZeroUsize,
    tolerance: Tolerance,
}

type State = Vec<(String, Tensor)>;

impl Start {
    /// Compares under kiln's masks, and with p = 0 where the peer takes none.
    fn compare(&self, ask: Ask<'_>) -> Result<Verdict> {
        if let Some(verdict) = self.compare_at(Rates::Own, ask)? {
            return Ok(verdict);
        }
        Ok(match self.compare_at(Rates::Zero, ask)? {
            Some(Verdict::Differs(what)) => Verdict::Differs(format!("{what}, with p = 0")),
            Some(same) => same,
            None => Verdict::Differs("it takes no masks even where nothing is dropped".into()),
        })
    }

    /// Nothing if the peer takes no masks.
    fn compare_at(&self, rates: Rates, ask: Ask<'_>) -> Result<Option<Verdict>> {
        let directory = tempfile::tempdir()?;
        let (x, target) = self.network.random_batch(self.batch)?;
        let device = Device::cpu_with_threads(self.threads);
        let mut trainer = trainer(self.network, self.rule, device, rates)?;
        let before = state(trainer.net())?;
        checkpoint::save_weights(trainer.net(), directory.path().join("before.safetensors"))?;
        self.write_batch(trainer.net(), rates, directory.path(), &x, &target)?;
        let gradients = trainer.gradients(&x, &target)?;
        let kiln = f64::from(trainer.step(&x, &target)?.value()?);

        let Stepped::Loss(peer) = ask(directory.path())? else { return Ok(None) };
        let after = match After::read(directory.path()) {
            Ok(after) => after,
            Err(why) => return Ok(Some(Verdict::Differs(why))),
        };
        let mut changes = || -> std::result::Result<(), Difference> {
            within("loss", (kiln - peer).abs() / peer.abs(), LOSS_TOLERANCE)?;
            for (name, gradient) in &gradients {
                let before = before.iter().find(|(parameter, _)| parameter == name);
                let size = before.map_or(Ok(0.0), |(_, before)| before.values().map(norm))?;
                after.holds_gradient(name, gradient.values()?, size, self.tolerance)?;
            }
            for ((name, now), (_, before)) in state(trainer.net())?.iter().zip(&before) {
                let is_trained = gradients.iter().any(|(trained, _)| trained == name);
                if !is_trained && self.tolerance.statistics == Statistics::Left {
                    continue;
                }
                after.holds_change(name, before.values()?, now.values()?, self.tolerance)?;
            }
            Ok(())
        };
        verdict(changes(), Some(Losses { kiln, peer, rates })).map(Some)
    }

    /// The batch, and for each call of a dropout layer its keep bits in the first pass; where nothing is dropped,
    /// the rate 0 of each.
    fn write_batch(
        &self,
        net: &Net<Box<dyn Module>>,
        dropped: Rates,
        directory: &Path,
        x: &Tensor,
        target: &Tensor,
    ) -> Result<()> {
        let (dtype, input) = input_of(x)?;
        let labels = bytes_of(target.integers()?, i32::to_le_bytes);
        let mut rates = HashMap::new();
        let mut masks = Vec::new();
        for site in self.network.dropout_sites() {
            if dropped == Rates::Zero {
                rates.insert(format!("p.{}", site.layer), "0".to_owned());
                continue;
            }
            let drawn = net.mask::<Var, Var>(&site.layer, 0, &[x.ty()])?;
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
        let path = directory.join(BATCH);
        Ok(safetensors::serialize_to_file(tensors, Some(rates), &path)?)
    }
}

/// Outputs in eval mode.
fn outputs_agree(eval: Eval, ask: Ask<'_>) -> Result<Verdict> {
    let Eval { mut net, x } = eval;
    let directory = tempfile::tempdir()?;
    checkpoint::save_weights(&mut net, directory.path().join("before.safetensors"))?;
    let (dtype, input) = input_of(&x)?;
    let input = [("input", TensorView::new(dtype, x.shape().dims().to_vec(), &input)?)];
    safetensors::serialize_to_file(input, None, &directory.path().join(BATCH))?;
    let output = net.eval().forward(&x)?;
    ask(directory.path())?;
    let after = match After::read(directory.path()) {
        Ok(after) => after,
        Err(why) => return Ok(Verdict::Differs(why)),
    };
    verdict(after.holds("output", output.values()?, ELEMENT_TOLERANCE), None)
}

fn verdict(found: std::result::Result<(), Difference>, losses: Option<Losses>) -> Result<Verdict> {
    match found {
        Ok(()) => Ok(Verdict::Same(losses)),
        Err(Difference::Found(what)) => Ok(Verdict::Differs(what)),
        Err(Difference::Unknown(error)) => Err(error),
    }
}

/// Why two sides do not agree.
enum Difference {
    Found(String),
    /// They could not be compared.
    Unknown(Box<dyn std::error::Error>),
}

impl<E: Into<Box<dyn std::error::Error>>> From<E> for Difference {
    fn from(error: E) -> Self {
        Difference::Unknown(error.into())
    }
}

/// What a peer left.
struct After {
    bytes: Vec<u8>,
}

impl After {
    /// Otherwise what is wrong with it.
    fn read(directory: &Path) -> std::result::Result<Self, String> {
        let bytes = std::fs::read(directory.join("after.safetensors"))
            .map_err(|error| format!("it left no after.safetensors: {error}"))?;
        SafeTensors::deserialize(&bytes)
            .map_err(|error| format!("it left no tensors in after.safetensors: {error}"))?;
        Ok(After { bytes })
    }

    fn tensor(&self, name: &str, elements: usize) -> std::result::Result<Vec<f32>, Difference> {
        let tensors = SafeTensors::deserialize(&self.bytes)?;
        let tensor = tensors.tensor(name).map_err(|_| found(format!("{name}: there is none")))?;
        let values = floats(tensor.data());
        if tensor.dtype() != Dtype::F32 || values.len() != elements {
            let got = format!("{} of {:?}", tensor.dtype(), tensor.shape());
            return Err(found(format!("{name}: expected {elements} numbers, got {got}")));
        }
        Ok(values)
    }

    /// Whether a tensor is kiln's, by its largest element.
    fn holds(
        &self,
        name: &str,
        kiln: &[f32],
        tolerance: f64,
    ) -> std::result::Result<(), Difference> {
        let peer = self.tensor(name, kiln.len())?;
        within(name, largest(&subtract(kiln, &peer)) / largest(&peer), tolerance)
    }

    /// The same of a parameter's gradient; `size` is the parameter's.
    fn holds_gradient(
        &self,
        name: &str,
        kiln: &[f32],
        size: f64,
        tolerance: Tolerance,
    ) -> std::result::Result<(), Difference> {
        let name = format!("gradient.{name}");
        let peer = self.tensor(&name, kiln.len())?;
        if RATE * norm(kiln).max(norm(&peer)) <= ROUNDING * size {
            return Ok(());
        }
        self.holds(&name, kiln, tolerance.gradient)
    }

    /// Whether a parameter changed as kiln's did.
    fn holds_change(
        &self,
        name: &str,
        before: &[f32],
        after: &[f32],
        tolerance: Tolerance,
    ) -> std::result::Result<(), Difference> {
        let expected = self.tensor(name, after.len())?;
        // What begins as zeros is nothing but its change.
        if norm(before) > 0.0 {
            within(name, distance(after, &expected), PARAMETER_TOLERANCE)?;
        }
        let changes = [subtract(after, before), subtract(&expected, before)];
        if norm(&changes[0]).max(norm(&changes[1])) > ROUNDING * norm(before) {
            let difference = distance(&changes[0], &changes[1]);
            within(&format!("change of {name}"), difference, tolerance.change)?;
        }
        Ok(())
    }
}

/// Draws of the same network under the same masks.
fn draws_agree(threads: NonZeroUsize, ask: Ask<'_>) -> Result<Verdict> {
    let directory = tempfile::tempdir()?;
    let draws = MonteCarlo::new(Way::OneRun, threads)?.given(directory.path())?;
    ask(directory.path())?;
    let after = match After::read(directory.path()) {
        Ok(after) => after,
        Err(why) => return Ok(Verdict::Differs(why)),
    };
    let compare = || {
        let peers = after.tensor("draws", draws.shape().elements())?;
        within("draws", distance(draws.values()?, &peers), PARAMETER_TOLERANCE)
    };
    verdict(compare(), None)
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
pub(super) fn state(net: &mut Net<Box<dyn Module>>) -> Result<State> {
    let names: Vec<String> = net.parameter_names().into_iter().map(str::to_owned).collect();
    let floats = names.into_iter().filter(|name| !name.ends_with("num_batches_tracked"));
    floats.map(|name| Ok((name.clone(), net.parameter(&name)?))).collect()
}

fn within(what: &str, difference: f64, tolerance: f64) -> std::result::Result<(), Difference> {
    // Written so that NaN fails.
    if difference <= tolerance {
        return Ok(());
    }
    Err(found(format!("{what} differs by {difference:.1e}, more than {tolerance:.0e}")))
}

fn found(what: String) -> Difference {
    Difference::Found(what)
}

/// A batch's input as a file has it.
fn input_of(x: &Tensor) -> Result<(Dtype, Vec<u8>)> {
    Ok(match x.values() {
        Ok(values) => (Dtype::F32, bytes_of(values, f32::to_le_bytes)),
        Err(_) => (Dtype::I32, bytes_of(x.integers()?, i32::to_le_bytes)),
    })
}

/// l2 norm of the difference over that of the expected values.
fn distance(got: &[f32], expected: &[f32]) -> f64 {
    match subtract(got, expected) {
        difference if difference.iter().all(|value| *value == 0.0) => 0.0,
        difference => norm(&difference) / norm(expected),
    }
}

/// The largest magnitude; NaN if there is one.
fn largest(values: &[f32]) -> f64 {
    let larger = |largest: f64, value: &f32| match f64::from(value.abs()) {
        nan if nan.is_nan() => nan,
        value if largest.is_nan() || largest > value => largest,
        value => value,
    };
    values.iter().fold(0.0, larger)
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

#[cfg(test)]
mod tests {
    use super::*;

    /// What a peer left: some numbers under each name.
    fn after(tensors: &[(&str, &[f32])]) -> After {
        let bytes: Vec<Vec<u8>> =
            tensors.iter().map(|(_, values)| bytes_of(values, f32::to_le_bytes)).collect();
        let mut views = Vec::new();
        for ((name, values), bytes) in tensors.iter().zip(&bytes) {
            let view = TensorView::new(Dtype::F32, vec![values.len()], bytes).expect("a view");
            views.push((*name, view));
        }
        After { bytes: safetensors::serialize(views, None).expect("a file") }
    }

    fn said(found: std::result::Result<(), Difference>) -> String {
        match found {
            Ok(()) => "the same".into(),
            Err(Difference::Found(what)) => what,
            Err(Difference::Unknown(error)) => panic!("{error}"),
        }
    }

    #[test]
    fn gradients_agree_to_a_share_of_the_largest_element() {
        let peer = after(&[("gradient.w", &[4.0, 0.0, -1.0])]);
        assert_eq!(said(peer.holds_gradient("w", &[4.0, 3e-4, -1.0], 1.0, CLOSE)), "the same");
        let differs = said(peer.holds_gradient("w", &[4.0, 5e-4, -1.0], 1.0, CLOSE));
        assert_eq!(differs, "gradient.w differs by 1.3e-4, more than 1e-4");
        let rounded = peer.holds_gradient("w", &[4.0, 5e-4, -1.0], 1.0, DECIDED_BY_ROUNDING);
        assert_eq!(said(rounded), "the same");
        let wrong = said(peer.holds_gradient("w", &[4.0, 0.5, -1.0], 1.0, DECIDED_BY_ROUNDING));
        assert_eq!(wrong, "gradient.w differs by 1.2e-1, more than 1e-1");
        let nan = said(peer.holds_gradient("w", &[4.0, f32::NAN, -1.0], 1.0, CLOSE));
        assert!(nan.starts_with("gradient.w differs by NaN"), "{nan}");
        assert_eq!(said(peer.holds_gradient("v", &[1.0], 1.0, CLOSE)), "gradient.v: there is none");
        let short = said(peer.holds_gradient("w", &[1.0], 1.0, CLOSE));
        assert_eq!(short, "gradient.w: expected 1 numbers, got F32 of [3]");
    }

    /// That of a bias before batch norm is 0, which a sum finds only nearly.
    #[test]
    fn a_gradient_that_moves_nothing_is_rounding() {
        let peer = after(&[("gradient.b", &[1e-9, -2e-9])]);
        assert_eq!(said(peer.holds_gradient("b", &[0.0, 0.0], 1.0, CLOSE)), "the same");
        assert!(said(peer.holds_gradient("b", &[0.0, 0.0], 1e-6, CLOSE))
            .starts_with("gradient.b differs"));
    }

    #[test]
    fn parameters_agree_in_what_the_step_changed() {
        let peer = after(&[("w", &[1.0, 1.001])]);
        assert_eq!(said(peer.holds_change("w", &[1.0, 1.0], &[1.0, 1.001], CLOSE)), "the same");
        let differs = said(peer.holds_change("w", &[1.0, 1.0], &[1.0, 0.999], CLOSE));
        assert!(differs.starts_with("w differs by"), "{differs}");
        let change = said(peer.holds_change("w", &[1.0, 1.0], &[1.0, 1.0009], CLOSE));
        assert!(change.starts_with("change of w differs by 1.0e-1"), "{change}");
    }
}
