// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whether both sides compute the same: one step from the same parameters, on the same batch, under kiln's masks.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use kiln::nn::Module;
use kiln::{checkpoint, Precision, Tensor, Trainer, Var};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use tempfile::TempDir;

use super::measure::Place;
use super::networks::{Case, Rates};
use super::peer::{Rival, Stepped, Team};
use super::Result;

/// How far apart both sides may be.
#[derive(Clone, Copy, Debug)]
struct Tolerance {
    /// Largest relative difference of the loss, and l2 distance of a parameter over its norm. A first step of Adam is as
    /// large for a small gradient as for any, so that in few bits some go the other way.
    step: f64,
    /// Largest l2 distance of a gradient over its norm. Inputs of ReLUs that lie within rounding of 0 are decided by each
    /// side's own rounding, one element by all that passes there: what few bits do to gradients is more than to the rest.
    gradient: f64,
}

/// A gradient whose norm is less than this share of all gradients' is held to that share: that of a bias before batch norm
/// is 0, which kiln knows and others sum up.
const LEAST_SHARE: f64 = 1e-2;

const AFTER: &str = "after.safetensors";

fn tolerance(precision: Precision) -> Tolerance {
    match precision {
        Precision::F32 => Tolerance { step: 1e-4, gradient: 5e-3 },
        Precision::Tf32 => Tolerance { step: 1e-2, gradient: 5e-2 },
        Precision::Bf16 | Precision::F16 => Tolerance { step: 5e-2, gradient: 2e-1 },
    }
}

/// What became of a rival.
#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    /// It computes what kiln does, under these rates.
    Same(Rates),
    /// It computes something else.
    Differs(String),
    /// It gave no figures.
    Broken(String),
    /// Its library has no such network or precision.
    HasNone(String),
}

/// Lets a rival make a case's step, and compares: under kiln's masks, and with p = 0 where it takes none.
///
/// # Errors
/// kiln's own.
pub(crate) fn verdict(
    case: &Case,
    precision: Precision,
    references: &mut References,
    team: &mut Team,
    rival: &Rival,
) -> Result<Outcome> {
    for rates in [Rates::Own, Rates::Zero] {
        let reference = references.with(case, precision, rates)?;
        let after = reference.folder.path().join(AFTER);
        if after.exists() {
            std::fs::remove_file(&after)?; // another rival's
        }
        return Ok(match team.check(rival, &case.id(), precision, reference.folder.path()) {
            Ok(Stepped::TakesNoMasks) if rates == Rates::Own => continue,
            Ok(Stepped::TakesNoMasks) => break,
            Ok(Stepped::HasNone(why)) => Outcome::HasNone(why),
            Ok(Stepped::Loss(loss)) => match reference.compare(loss, tolerance(precision)) {
                Ok(()) => Outcome::Same(rates),
                Err(what) if rates == Rates::Zero => {
                    Outcome::Differs(format!("{what}, with p = 0"))
                }
                Err(what) => Outcome::Differs(what),
            },
            Err(why) => Outcome::Broken(why.to_string()),
        });
    }
    Ok(Outcome::Differs("it takes no masks even where nothing is dropped".into()))
}

/// kiln's side of a case's check, made when it is first asked for.
#[derive(Debug)]
pub(crate) struct References {
    place: Place,
    made: Vec<(Rates, Reference)>,
}

/// What a step begins with, in a folder, and what comes of it.
#[derive(Debug)]
struct Reference {
    folder: TempDir,
    loss: f64,
    gradients: Vec<(String, Tensor)>,
    /// Parameters and statistics.
    after: Vec<(String, Tensor)>,
}

impl References {
    pub(crate) fn new(place: Place) -> Self {
        References { place, made: Vec::new() }
    }

    fn with(&mut self, case: &Case, precision: Precision, rates: Rates) -> Result<&Reference> {
        let at = match self.made.iter().position(|(made, _)| *made == rates) {
            Some(at) => at,
            None => {
                self.made.push((rates, Reference::new(case, precision, rates, self.place)?));
                self.made.len() - 1
            }
        };
        Ok(&self.made[at].1)
    }
}

impl Reference {
    fn new(case: &Case, precision: Precision, rates: Rates, place: Place) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let (x, target) = case.data()?;
        let mut trainer = case.trainer(place.device(precision)?, rates)?;
        checkpoint::save_weights(trainer.net(), folder.path().join("before.safetensors"))?;
        let batch = folder.path().join("batch.safetensors");
        write_batch(&mut trainer, rates, &batch, &x, &target)?;
        let gradients = trainer.gradients(&x, &target)?.into_iter().collect();
        let loss = f64::from(trainer.step(&x, &target)?.value()?);
        let names = trainer.net().parameter_names().into_iter().map(str::to_owned);
        let names: Vec<String> =
            names.filter(|name| !name.ends_with("num_batches_tracked")).collect();
        let after = names.into_iter().map(|name| {
            let values = trainer.net().parameter(&name)?;
            Ok((name, values))
        });
        let after = after.collect::<Result<_>>()?;
        Ok(Reference { folder, loss, gradients, after })
    }

    /// Otherwise what differs.
    fn compare(&self, loss: f64, tolerance: Tolerance) -> std::result::Result<(), String> {
        within("loss", (self.loss - loss).abs() / loss.abs(), tolerance.step)?;
        let bytes = std::fs::read(self.folder.path().join(AFTER))
            .map_err(|error| format!("it left no {AFTER}: {error}"))?;
        let tensors = SafeTensors::deserialize(&bytes)
            .map_err(|error| format!("it left no tensors in {AFTER}: {error}"))?;
        let of = |name: &str| {
            let tensor = tensors.tensor(name).map_err(|_| format!("{name}: there is none"))?;
            Ok::<_, String>(floats(tensor.data()))
        };
        let own = |tensor: &Tensor| -> std::result::Result<Vec<f32>, String> {
            Ok(tensor.values().map_err(|error| error.to_string())?.to_vec())
        };
        let mut all = 0.0;
        for (_, gradient) in &self.gradients {
            all += norm(&own(gradient)?).powi(2);
        }
        for (name, gradient) in &self.gradients {
            let name = format!("gradient.{name}");
            let least = LEAST_SHARE * all.sqrt();
            within(&name, distance(&own(gradient)?, &of(&name)?, least), tolerance.gradient)?;
        }
        for (name, values) in &self.after {
            // What is nothing but its change is told by a norm of 1e-3.
            within(name, distance(&own(values)?, &of(name)?, 1e-3), tolerance.step)?;
        }
        Ok(())
    }
}

/// What a step takes, and what each call of a layer that drops something multiplies by in the first pass; where nothing is
/// dropped, that.
fn write_batch(
    trainer: &mut Trainer<Box<dyn Module>>,
    rates: Rates,
    path: &Path,
    x: &Tensor,
    target: &Tensor,
) -> Result<()> {
    let (dtype, input) = match x.values() {
        Ok(values) => (Dtype::F32, bytes_of(values, f32::to_le_bytes)),
        Err(_) => (Dtype::I32, bytes_of(x.integers()?, i32::to_le_bytes)),
    };
    let labels = bytes_of(target.integers()?, i32::to_le_bytes);
    let mut calls: BTreeMap<String, usize> = BTreeMap::new();
    let mut masks = Vec::new();
    let drawn = match rates {
        Rates::Own => trainer.net().masks::<Var, Var>(0, &[x.ty()])?,
        Rates::Zero => Vec::new(),
    };
    for mask in drawn {
        let call = calls.entry(mask.layer.clone()).or_default();
        let shape = mask.factors.shape().dims().to_vec();
        let bytes = bytes_of(mask.factors.values()?, f32::to_le_bytes);
        masks.push((format!("mask.{}#{call}", mask.layer), shape, bytes));
        *call += 1;
    }
    let samples = target.shape().dims().to_vec();
    let mut tensors = vec![
        ("input", TensorView::new(dtype, x.shape().dims().to_vec(), &input)?),
        ("target", TensorView::new(Dtype::I32, samples, &labels)?),
    ];
    for (name, shape, bytes) in &masks {
        tensors.push((name.as_str(), TensorView::new(Dtype::F32, shape.clone(), bytes)?));
    }
    let about = match rates {
        Rates::Own => None,
        Rates::Zero => Some(HashMap::from([("p".to_owned(), "0".to_owned())])),
    };
    Ok(safetensors::serialize_to_file(tensors, about, path)?)
}

fn within(what: &str, difference: f64, most: f64) -> std::result::Result<(), String> {
    // Written so that NaN fails.
    if difference <= most {
        return Ok(());
    }
    Err(format!("{what} differs by {difference:.1e}, more than {most:.0e}"))
}

/// l2 norm of the difference over that of the expected values, or over `least`.
fn distance(got: &[f32], expected: &[f32], least: f64) -> f64 {
    if got.len() != expected.len() {
        return f64::INFINITY;
    }
    let difference: Vec<f32> = got.iter().zip(expected).map(|(a, b)| a - b).collect();
    match norm(&difference) {
        0.0 => 0.0,
        difference => difference / norm(expected).max(least),
    }
}

fn norm(values: &[f32]) -> f64 {
    values.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>().sqrt()
}

fn bytes_of<T: Copy>(values: &[T], bytes: impl Fn(T) -> [u8; 4]) -> Vec<u8> {
    values.iter().flat_map(|&value| bytes(value)).collect()
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    let words = bytes.chunks_exact(4);
    words.map(|word| f32::from_le_bytes([word[0], word[1], word[2], word[3]])).collect()
}
