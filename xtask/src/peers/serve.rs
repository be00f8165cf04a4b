// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo xtask peer`: kiln as a process of the kind that its peers are, so that what a process costs is measured
//! in the same way for all.

use std::collections::HashMap;
use std::io::{BufRead, Write};
use std::num::NonZeroUsize;
use std::path::Path;
use std::process::ExitCode;

use kiln::{Device, Tensor};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde_json::{json, Value};

use super::case::{Case, Work};
use super::check::BATCH;
use super::network::Rates;
use super::report::{median, percentile};
use super::workload::{self, Eval, Workload};
use crate::clock::Clock;
use crate::Result;

/// Answer the lines of benches/peers/README.md with kiln's figures.
#[derive(Debug, clap::Args)]
pub struct Args {
    threads: NonZeroUsize,
}

type Works = HashMap<&'static str, Box<dyn Workload>>;

/// Answers until `quit` or the end of the input.
pub fn run(args: &Args) -> Result<ExitCode> {
    let version = env!("CARGO_PKG_VERSION");
    answer(&json!({"ready": true, "peer": "kiln", "version": version, "threads": args.threads}))?;
    let mut works = Works::new();
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let words: Vec<&str> = line.split_whitespace().collect();
        if words == ["quit"] {
            break;
        }
        let done = obey(&words, args.threads, &mut works);
        answer(&done.unwrap_or_else(|error| json!({"error": error.to_string()})))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn answer(message: &Value) -> Result<()> {
    let mut output = std::io::stdout().lock();
    writeln!(output, "{message}")?;
    Ok(output.flush()?)
}

fn obey(words: &[&str], threads: NonZeroUsize, works: &mut Works) -> Result<Value> {
    match *words {
        ["time", name, milliseconds] => {
            let work = kept(name, threads, works)?;
            let steps = workload::time(work, milliseconds.parse()?, Clock::Passed)?;
            let slow = percentile(&steps, 99);
            Ok(json!({"n": steps.len(), "step_p99_ms": slow, "step_median_ms": median(steps)}))
        }
        ["steps", name, count] => {
            let work = kept(name, threads, works)?;
            for _ in 0..count.parse::<u32>()? {
                work.step()?;
            }
            Ok(json!({"case": name}))
        }
        ["check", name, directory] => {
            let loss = check(Case::parse(name)?, threads, Path::new(directory))?;
            Ok(json!({"case": name, "loss": loss}))
        }
        _ => {
            Err("expected `time`, `steps`, `check` or `quit`, as benches/peers/README.md has them"
                .into())
        }
    }
}

fn kept<'a>(
    name: &str,
    threads: NonZeroUsize,
    works: &'a mut Works,
) -> Result<&'a mut dyn Workload> {
    let case = Case::parse(name)?;
    if !works.contains_key(case.name) {
        works.insert(case.name, workload::build(case, threads)?);
    }
    let work = works.get_mut(case.name).ok_or("the work of the case is gone")?;
    Ok(&mut **work)
}

/// One step, from the seed that its parameters and masks have on the other side too.
fn check(case: &Case, threads: NonZeroUsize, directory: &Path) -> Result<f64> {
    match case.work {
        Work::Training { network, rule, .. } => {
            let (batch, rates) = given(directory)?;
            let (x, target) = network.random_batch(batch)?;
            let device = Device::cpu_with_threads(threads);
            let mut trainer = workload::trainer(network, rule, device, rates)?;
            let gradients = trainer.gradients(&x, &target)?;
            let loss = trainer.step(&x, &target)?.value()?;
            let named = |(name, tensor)| (format!("gradient.{name}"), tensor);
            let mut after: Vec<(String, Tensor)> = gradients.into_iter().map(named).collect();
            after.extend(super::check::state(trainer.net())?);
            write(directory, &after)?;
            Ok(f64::from(loss))
        }
        Work::Eval { network, batch } => {
            let Eval { mut net, x } = Eval::new(network, batch, threads)?;
            let output = net.eval().forward(&x)?;
            write(directory, &[("output".to_owned(), output)])?;
            Ok(0.0)
        }
        _ => Err("dropout alone draws masks of its own".into()),
    }
}

/// The samples of a batch, and what is dropped from them: nothing where there are no masks.
fn given(directory: &Path) -> Result<(usize, Rates)> {
    let bytes = std::fs::read(directory.join(BATCH))?;
    let batch = SafeTensors::deserialize(&bytes)?;
    let samples = batch.tensor("target")?.shape().iter().product();
    let has_masks = batch.names().iter().any(|name| name.starts_with("mask."));
    Ok((samples, if has_masks { Rates::Own } else { Rates::Zero }))
}

fn write(directory: &Path, tensors: &[(String, Tensor)]) -> Result<()> {
    let mut bytes = Vec::new();
    for (_, tensor) in tensors {
        let values = tensor.values()?.iter().flat_map(|value| value.to_le_bytes());
        bytes.push(values.collect::<Vec<u8>>());
    }
    let mut views = Vec::new();
    for ((name, tensor), bytes) in tensors.iter().zip(&bytes) {
        let dims = tensor.shape().dims().to_vec();
        views.push((name.as_str(), TensorView::new(Dtype::F32, dims, bytes)?));
    }
    Ok(safetensors::serialize_to_file(views, None, &directory.join("after.safetensors"))?)
}
