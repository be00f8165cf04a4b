// SPDX-License-Identifier: MIT OR Apache-2.0
//! burn on a GPU as a resident peer process, `peer-burn-cuda [--device cuda:0]`: what it answers, the first lines of
//! `../../pytorch_cuda.py` say. It knows one mode, `default`, and no products. burn has no mixed precision: a check in
//! bf16, or of a network that is not here, is answered by `{"none": ...}`.
#![recursion_limit = "256"]
// The peer on a processor does more of what these modules have.
#![allow(dead_code)]

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

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use burn::tensor::{Device, DeviceType, Distribution, Tensor};
use serde_json::{Value, json};

use each::with_network;
use model::{Input, Model};
use protocol::Result;
use protocol::case::{Network, Pass, WORDS};
use protocol::files::Values;
use train::Training;

const VERSION: &str = "0.22.1 (cuda)";
const WARM_UP: usize = 3;
/// Steps between two looks at the clock, which wait for the device.
const STEPS: usize = 10;

fn main() -> ExitCode {
    let done = guarded(open).and_then(|plain| {
        let mut peer = Peer { plain, kept: None };
        let greeting = json!({"ready": true, "peer": "burn", "version": VERSION});
        protocol::listen(&greeting, |words| guarded(|| peer.answer(words)))
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = protocol::answer(&json!({"error": error.to_string()}));
            ExitCode::FAILURE
        }
    }
}

/// What burn panics about becomes an error.
fn guarded<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        Err(format!("burn panicked: {}", text.unwrap_or("it does not say why")).into())
    })
}

/// The device that the arguments name, once it has computed something.
fn open() -> Result<Device> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let ordinal = match &words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] | ["--device", "cuda"] => 0,
        ["--device", name] => {
            let ordinal = name.strip_prefix("cuda:").and_then(|ordinal| ordinal.parse().ok());
            ordinal.ok_or_else(|| format!("expected cuda:ORDINAL, got {name}"))?
        }
        _ => return Err("expected --device cuda:ORDINAL".into()),
    };
    let devices = Device::enumerate(DeviceType::Cuda).into_vec().len();
    if ordinal >= devices {
        return Err(format!("burn finds {devices} CUDA devices, and none is cuda:{ordinal}").into());
    }
    let device = Device::cuda(ordinal);
    let ones = Tensor::<1>::ones([2], &device).sum().into_scalar::<f32>();
    match ones {
        2.0 => Ok(device),
        other => Err(format!("1 + 1 = {other} on cuda:{ordinal}").into()),
    }
}

struct Peer {
    plain: Device,
    /// The training of the case at hand: others' memory is given back.
    kept: Option<(String, Box<dyn Steps>)>,
}

/// Where a batch is when a step begins.
#[derive(Clone, Copy, PartialEq)]
enum Feed {
    Resident,
    FromHost,
}

/// A training whose steps follow each other.
trait Steps {
    /// The batch from host memory, as a loader leaves it there.
    fn feed(&mut self);

    fn begin(&mut self) -> Result<()>;

    fn finish(&self) -> Result<()>;
}

impl Peer {
    fn answer(&mut self, words: &[&str]) -> Result<Value> {
        match *words {
            ["check", case, "default", dtype, folder] => {
                if !["f32", "tf32"].contains(&dtype) {
                    return Ok(json!({"none": format!("burn has no mixed precision for {dtype}")}));
                }
                let Some((network, _, pass)) = step(case)? else {
                    return Ok(json!({"none": format!("there is no network of {case}")}));
                };
                let plain = &self.plain;
                let loss: f64 = with_network!(network, check(plain, pass, Path::new(folder)))?;
                Ok(json!({"loss": loss}))
            }
            ["time", case, "default", _, feed, milliseconds] => {
                let feed = match feed {
                    "resident" => Feed::Resident,
                    "from-host" => Feed::FromHost,
                    _ => return Err(format!("there is no feed {feed}").into()),
                };
                let budget = Duration::from_secs_f64(milliseconds.parse::<f64>()? / 1e3);
                let us = median_us(self.training(case)?, feed, budget)?;
                Ok(json!({"us": us}))
            }
            _ => Err(format!("there is no command {}", words.join(" ")).into()),
        }
    }

    fn training(&mut self, case: &str) -> Result<&mut dyn Steps> {
        if self.kept.as_ref().is_none_or(|(kept, _)| kept != case) {
            self.kept = None;
            let (network, batch, pass) = step(case)?.ok_or("there is no such network")?;
            let plain = &self.plain;
            let training = with_network!(network, training(plain, network, batch, pass));
            self.kept = Some((case.to_owned(), training));
        }
        let (_, training) = self.kept.as_mut().ok_or("the training is gone")?;
        Ok(training.as_mut())
    }
}

/// The training step that is called NETWORK:BATCH:RULE; none of a network that is not here.
fn step(case: &str) -> Result<Option<(Network, usize, Pass)>> {
    let words: Vec<&str> = case.split(':').collect();
    let [network, batch, rule] = words[..] else {
        return Err(format!("expected NETWORK:BATCH:RULE, got {case}").into());
    };
    let network = match network {
        "simple" => Network::Simple,
        "variable" => Network::Variable,
        "cnn" => Network::Cnn,
        "rnn" => Network::Rnn,
        "residual" => Network::Residual,
        "spatial" => Network::Spatial,
        "resnet_small" => Network::ResnetSmall,
        _ => return Ok(None),
    };
    let pass = match rule {
        "sgd" => Pass::Sgd,
        "adam" => Pass::Adam,
        _ => return Err(format!("there is no rule {rule}").into()),
    };
    Ok(Some((network, batch.parse()?, pass)))
}

fn check<M: Model>(plain: &Device, pass: Pass, folder: &Path) -> Result<f64> {
    train::check_step::<M>(plain, pass, folder)
}

/// A training and its batch in host memory.
struct Fed<M: Model> {
    training: Training<M>,
    trained: Device,
    host: Values,
    batch: usize,
}

fn training<M: Model>(
    plain: &Device,
    network: Network,
    batch: usize,
    pass: Pass,
) -> Box<dyn Steps> {
    let trained = plain.clone().autodiff();
    let shape = network.input(batch);
    let count = shape.iter().product();
    let floats = match network {
        Network::Rnn => (0..count).map(|token| (token * 7919 % WORDS) as f32).collect(),
        _ => {
            let normal = Distribution::Normal(0.0, 1.0);
            let numbers = Tensor::<1>::random([count], normal, plain);
            numbers.into_data().iter::<f32>().collect()
        }
    };
    let host = Values { shape, floats };
    let x = M::Input::given(&host, &trained);
    let training = Training::<M>::new(plain, pass, x, model::labels(batch, &trained));
    Box::new(Fed { training, trained, host, batch })
}

impl<M: Model> Steps for Fed<M> {
    fn feed(&mut self) {
        self.training.x = M::Input::given(&self.host, &self.trained);
        self.training.labels = model::labels(self.batch, &self.trained);
    }

    fn begin(&mut self) -> Result<()> {
        self.training.begin()
    }

    fn finish(&self) -> Result<()> {
        self.training.finish()
    }
}

/// Microseconds of a step, the median over samples of some behind each other.
fn median_us(training: &mut dyn Steps, feed: Feed, budget: Duration) -> Result<f64> {
    let mut steps = |count: usize| -> Result<f64> {
        let begin = Instant::now();
        for _ in 0..count {
            if feed == Feed::FromHost {
                training.feed();
            }
            training.begin()?;
        }
        training.finish()?;
        Ok(begin.elapsed().as_secs_f64() / count as f64 * 1e6)
    };
    steps(WARM_UP)?;
    let mut times = Vec::new();
    let begin = Instant::now();
    while times.is_empty() || begin.elapsed() < budget {
        times.push(steps(STEPS)?);
    }
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 2])
}
