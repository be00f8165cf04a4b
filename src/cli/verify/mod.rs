// SPDX-License-Identifier: MIT OR Apache-2.0
//! `kiln verify`: training steps here and in the user's PyTorch, tensor by tensor.

mod args;
mod case;
mod difference;
mod files;
mod python;
mod seeded;
mod ties;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use kiln::{Error, Result};
use serde_json::{json, Value};

use super::args::{Common, DeviceName, DirectionsName, PrecisionName};
use super::data::Choice;
use super::interrupt::{Interrupt, Signal};
use super::network::{self, Feed, FEATURES};
use super::outcome::{Ending, Failure, Outcome};
use super::output::{self, Output};
use super::settings::{at_least_one, NetSettings, Rule, StepSettings, TokenSettings};
pub(super) use args::VerifyArgs;
use case::{Case, Ours, Sides, EPS};
use difference::{compare, table, Difference, Stage, ROUNDING};
use python::{Python, Ran};
use ties::Ties;

/// Samples in a batch, unless another number is asked for: few, so that hardly a ReLU's input is so near
/// to 0 that rounding decides its slope.
const BATCH: usize = 16;
const BATCH_OF_IMAGES: usize = 4;

/// Exit code 1 is that of tensors that differ; everything else that can go wrong is owed to what was asked
/// for or found here.
pub(super) fn run(args: &VerifyArgs, common: &Common, output: &mut Output) -> Outcome {
    let case = case(args, common).map_err(Failure::of_use)?;
    let python = Python::new(args);
    let compared = both_sides(&case, &python).map_err(Failure::of_use)?;
    let (differences, torch, ties) = match compared {
        Both::Done { differences, torch, ties } => (differences, torch, ties),
        Both::Stopped(signal) => {
            output::to_stderr(&format!("{} before the comparison", signal.verb()));
            return Ok(Ending::Stopped(signal));
        }
    };
    output.note(&case.describe(&torch))?;
    output.result(&table(&differences))?;
    output.json(&object(&case, &python, &torch, &differences, &ties))?;
    if let Some(ties) = ties.describe() {
        output.note(&ties)?;
    }
    match beyond(&differences) {
        Some(error) => Err(error.into()),
        None => {
            let worst = differences.iter().map(|row| row.difference).fold(0.0, f64::max);
            let count = differences.len();
            output
                .note(&format!("{count} tensors agree, the largest difference is {worst:.1e}"))?;
            Ok(Ending::Done)
        }
    }
}

/// What both sides come to.
enum Both {
    /// The differences, the version of PyTorch, and what it was told to decide as kiln does.
    Done {
        differences: Vec<Difference>,
        torch: String,
        ties: Ties,
    },
    Stopped(Signal),
}

fn case(args: &VerifyArgs, common: &Common) -> Result<Case> {
    if let Some(precision) = common.precision.filter(|name| *name != PrecisionName::F32) {
        let got = precision.precision();
        return Err(Error::argument("precision", "f32, which PyTorch is compared with", got));
    }
    if let (Some(_), DeviceName::Cuda(_)) = (args.torch_seed, common.device) {
        let expected = "the CPU, since PyTorch draws otherwise on a GPU";
        return Err(Error::argument("torch-seed", expected, "--device cuda"));
    }
    let net = NetSettings::new(&args.net)?;
    let source = args.data.data.clone().unwrap_or(net.usual_data());
    net.feed().check(net.name(), &source)?;
    let tokens = TokenSettings::new(&args.data, &source)?;
    args.net.check_tokens(&source)?;
    let bad_images = args.data.bad_images.unwrap_or_default().what();
    let train_samples = args.data.train_samples;
    let choice = Choice { train_samples, tokens, bad_images, ..Choice::default() };
    // Gradients are compared, so texts too are learned by a rule that is linear in them.
    let usual = match (net.feed(), args.step.optimizer) {
        (Feed::Texts, None) => Feed::Rows,
        (feed, _) => feed,
    };
    let step = StepSettings::new(&args.step, usual)?;
    let usual = if net.feed() == Feed::Images { BATCH_OF_IMAGES } else { BATCH };
    let batch = args.step.batch.unwrap_or(at_least_one(usual));
    Ok(Case {
        net,
        step: StepSettings { batch, ..step },
        steps: args.steps.get(),
        seed: args.seed,
        torch_seed: args.torch_seed,
        device: match args.torch_seed {
            Some(_) => network::chosen(&on_cpu(common))?,
            None => network::device(common)?,
        },
        sets: source.load(&choice, None)?,
    })
}

/// The options, for the CPU where it was left open.
fn on_cpu(common: &Common) -> Common {
    Common { device: DeviceName::Cpu, ..*common }
}

fn both_sides(case: &Case, python: &Python) -> Result<Both> {
    let interrupt = Interrupt::default();
    interrupt.watch()?;
    let Sides { given, found } = match case.run(&interrupt)? {
        Ours::Done(sides) => sides,
        Ours::Stopped(signal) => return Ok(Both::Stopped(signal)),
    };
    let folder = tempfile::Builder::new().prefix("kiln-verify-").tempdir();
    let folder = folder.map_err(Error::io("create", std::env::temp_dir()))?;
    files::write(&given, &folder.path().join("given.safetensors"))?;
    files::write(&found, &folder.path().join("kiln.safetensors"))?;
    write_task(&case.task(), &folder.path().join("task.json"))?;
    let (torch, ties) = match python.run(folder.path(), &interrupt)? {
        Ran::Done { torch, ties } => (torch, ties),
        Ran::Stopped(signal) => return Ok(Both::Stopped(signal)),
    };
    let nonsense = |what: String| python.refused("all tensors that kiln has", what);
    let theirs = files::read(&folder.path().join("found.safetensors")).map_err(nonsense)?;
    let mut differences = Vec::new();
    for stage in case.stages() {
        differences.extend(compare(stage, &found, &theirs)?.map_err(nonsense)?);
    }
    Ok(Both::Done { differences, torch, ties })
}

fn write_task(task: &Value, path: &Path) -> Result<()> {
    fs::write(path, task.to_string()).map_err(Error::io("write", path))
}

impl Case {
    /// What the script is to build and do.
    fn task(&self) -> Value {
        let sizes = self.sets.sizes();
        let classes = sizes.classes;
        let rates = self.net.rates_of_layers();
        let (first, last) = (rates.first(), rates.last());
        let constructor = match self.net {
            NetSettings::Simple { hidden, .. } => {
                json!({ "inputs": FEATURES, "hidden": hidden, "classes": classes, "p": first })
            }
            NetSettings::Variable { .. } => json!({ "p1": first, "p2": last }),
            NetSettings::Cnn { .. } => json!({ "classes": classes, "p_conv": first, "p_fc": last }),
            NetSettings::SpatialCnn { .. }
            | NetSettings::Residual { .. }
            | NetSettings::ResnetSmall { .. } => json!({ "classes": classes, "p": first }),
            NetSettings::Rnn(rnn) => json!({
                "tokens": sizes.tokens,
                "features": sizes.features,
                "embedding": rnn.embedding,
                "hidden": rnn.hidden,
                "classes": classes,
                "layers": rnn.layers,
                "p": first,
                "cell": rnn.cell,
                "bidirectional": rnn.directions == DirectionsName::Both,
            }),
        };
        let StepSettings { rule, lr, weight_decay, clip, .. } = self.step;
        let optimizer = match rule {
            Rule::Sgd { momentum } => json!({ "name": "sgd", "momentum": momentum }),
            Rule::Adam => json!({ "name": "adam", "eps": EPS }),
            Rule::Adamw => json!({ "name": "adamw", "eps": EPS }),
        };
        let mut optimizer = optimizer;
        optimizer["lr"] = lr.into();
        optimizer["weight_decay"] = weight_decay.into();
        json!({
            "net": self.net.name(),
            "sizes": constructor,
            "optimizer": optimizer,
            "clip": clip,
            "steps": self.steps,
            "inputs": if self.net.feed() == Feed::Texts { 2 } else { 1 },
            "torch_seed": self.torch_seed,
            "limits": self.limits(),
            "rounding": ROUNDING,
        })
    }

    /// The limit of each stage, under what names of the stage have before their first point.
    fn limits(&self) -> BTreeMap<String, f64> {
        let of = |stage: Stage| (stage.prefix().trim_end_matches('.').to_owned(), stage.limit());
        self.stages().into_iter().map(of).collect()
    }

    /// What is compared, for people.
    fn describe(&self, torch: &str) -> String {
        let steps = match self.steps {
            1 => "1 step".into(),
            more => format!("{more} steps"),
        };
        let masks = match self.torch_seed {
            Some(seed) => format!("in f32, whose script draws from seed {seed}"),
            None => "in f64, which is given kiln's masks".into(),
        };
        format!(
            "{}, {steps} of {} samples; {} against PyTorch {torch} {masks}",
            self.net.describe(self.sets.sizes()),
            self.step.batch,
            self.device.describe(),
        )
    }
}

fn object(
    case: &Case,
    python: &Python,
    torch: &str,
    differences: &[Difference],
    ties: &Ties,
) -> Value {
    json!({
        "net": case.net.name(),
        "batch": case.step.batch,
        "steps": case.steps,
        "seed": case.seed,
        "torch_seed": case.torch_seed,
        "device": case.device.describe(),
        "python": python.name(),
        "torch": torch,
        "tensors": differences,
        "ties": ties,
        "passed": differences.iter().all(|row| row.within),
    })
}

/// The failure of tensors that differ too much, if there are any.
fn beyond(differences: &[Difference]) -> Option<Error> {
    let beyond = || differences.iter().filter(|row| !row.within);
    let worst = beyond().max_by(|a, b| a.difference.total_cmp(&b.difference))?;
    let got = format!(
        "{} of {} beyond it, most of all {} ({}), by {:.1e} of its largest element",
        beyond().count(),
        differences.len(),
        worst.tensor,
        worst.stage,
        worst.difference,
    );
    Some(Error::argument("tensors", "each within its limit of PyTorch's", got))
}
