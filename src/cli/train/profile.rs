// SPDX-License-Identifier: MIT OR Apache-2.0
//! `kiln train --profile`: how long the steps of plans took, beside what the machine gives.

use std::num::NonZeroUsize;
use std::path::Path;

use kiln::backend::cpu::{self, Ceilings};
use kiln::checkpoint::write_atomically;
use kiln::op::Op;
use kiln::passes::Goal;
use kiln::plan::Step;
use kiln::timed::{chrome_trace, TimedPlan};
use kiln::{grouped, Mode, Result};
use serde_json::{json, Value};

use crate::cli::output::Output;
use crate::cli::session::Session;
use crate::cli::table::{aligned, Alignment};

/// Name of the trace.
const TRACE_FILE: &str = "trace.json";

/// Plans whose steps are printed: those that took the most time.
const PRINTED: usize = 2;

/// Prints the profile of a training, writes its trace and returns it for machines.
pub(super) fn of(session: &mut Session, directory: &Path, output: &mut Output) -> Result<Value> {
    let net = session.net();
    let threads = net.device().threads().unwrap_or(NonZeroUsize::MIN);
    let plans = net.timed_plans();
    let ceilings = Ceilings::measure(threads);
    let named = |timed: &TimedPlan| -> Vec<String> {
        cpu::paths(&timed.plan, threads).iter().map(ToString::to_string).collect()
    };
    let paths: Vec<Vec<String>> = plans.iter().map(named).collect();
    let trace = directory.join(TRACE_FILE);
    write_atomically(&trace, chrome_trace(&plans, &paths).to_string().as_bytes())?;
    for (timed, paths) in plans.iter().zip(&paths).take(PRINTED) {
        output.note(&heading(timed))?;
        output.note(aligned(&rows(timed, paths, &ceilings), ALIGNMENTS).trim_end())?;
    }
    let peak = ceilings.flops.map_or_else(String::new, |flops| {
        format!("{:.1} GFLOP/s of multiply-adds in registers, ", flops / 1e9)
    });
    let copies = ceilings
        .copies
        .iter()
        .map(|copy| format!("{:.1} GB/s at {} KiB", copy.rate / 1e9, copy.bytes >> 10));
    let copies = copies.collect::<Vec<_>>().join(", ");
    output.note(&format!("the machine now: {peak}copies {copies}\ntrace: {}", trace.display()))?;
    let of_plan = |(timed, paths): (&TimedPlan, &Vec<String>)| object(timed, paths, &ceilings);
    Ok(json!({
        "peak_flops_per_second": ceilings.flops,
        "trace": trace.display().to_string(),
        "plans": plans.iter().zip(&paths).map(of_plan).collect::<Vec<_>>(),
    }))
}

/// What a plan is for, how often it ran and how long that took.
fn heading(timed: &TimedPlan) -> String {
    let between = timed.whole.saturating_sub(timed.steps.iter().sum());
    let [whole, between] =
        [timed.whole, between].map(|all| millis(all.as_secs_f64()) / timed.runs as f64);
    format!(
        "\n{} of {} samples: {} runs of {whole:.3} ms, of them {between:.3} ms between steps",
        purpose(timed),
        samples(timed),
        timed.runs,
    )
}

fn purpose(timed: &TimedPlan) -> &'static str {
    match (&timed.request.goal, timed.request.mode) {
        (Goal::Step(_), _) => "training step",
        (Goal::Layers, _) => "outputs of all layers",
        (Goal::Gradients(_), _) => "gradients",
        (Goal::Forward, Mode::Eval) => "forward pass in eval mode",
        (Goal::Forward, _) => "forward pass",
    }
}

fn samples(timed: &TimedPlan) -> usize {
    let mut nodes = timed.plan.graph.nodes();
    let first = nodes.find(|(_, node)| matches!(node.op, Op::Input(_)));
    first.and_then(|(_, node)| node.ty.shape.dims().first().copied()).unwrap_or(1)
}

const HEADINGS: [&str; 12] = [
    "step", "kernel", "layer", "ms", "share", "bytes", "GB/s", "of copy", "flops", "GFLOP/s",
    "of peak", "path",
];

const ALIGNMENTS: [Alignment; 12] = {
    use Alignment::{Left, Right};
    [Right, Left, Left, Right, Right, Right, Right, Right, Right, Right, Right, Left]
};

fn rows(timed: &TimedPlan, paths: &[String], ceilings: &Ceilings) -> Vec<[String; 12]> {
    let mut rows = vec![HEADINGS.map(String::from)];
    for (index, (step, path)) in timed.plan.steps.iter().zip(paths).enumerate() {
        let Rates { seconds, share, bytes, of_copy, flops, of_peak } =
            Rates::of(timed, index, step, ceilings);
        let some = |value: Option<f64>, decimals: usize| {
            value.map_or_else(String::new, |value| format!("{value:.decimals$}"))
        };
        let percent = |value: Option<f64>| {
            value.map_or_else(String::new, |value| format!("{:.0} %", 100.0 * value))
        };
        rows.push([
            index.to_string(),
            step.kernel.name().into(),
            step.layer.clone(),
            format!("{:.4}", millis(seconds)),
            percent(Some(share)),
            grouped(step.bytes),
            some(bytes.map(|rate| rate / 1e9), 1),
            percent(of_copy),
            grouped(step.flops),
            some(flops.map(|rate| rate / 1e9), 1),
            percent(of_peak),
            path.clone(),
        ]);
    }
    rows
}

/// How fast a step is.
struct Rates {
    /// Of one run.
    seconds: f64,
    /// Of the time of all steps.
    share: f64,
    /// Bytes per second, if any are moved.
    bytes: Option<f64>,
    of_copy: Option<f64>,
    /// Operations of matrix products per second, if there are any.
    flops: Option<f64>,
    of_peak: Option<f64>,
}

impl Rates {
    fn of(timed: &TimedPlan, index: usize, step: &Step, ceilings: &Ceilings) -> Self {
        let all: f64 = timed.steps.iter().map(std::time::Duration::as_secs_f64).sum();
        let total = timed.steps[index].as_secs_f64();
        let seconds = total / timed.runs.max(1) as f64;
        let rate = |count: usize| (count > 0 && seconds > 0.0).then(|| count as f64 / seconds);
        let (bytes, flops) = (rate(step.bytes), rate(step.flops));
        Rates {
            seconds,
            share: if all > 0.0 { total / all } else { 0.0 },
            bytes,
            of_copy: bytes.map(|rate| rate / ceilings.copied(step.bytes)),
            flops,
            of_peak: flops.zip(ceilings.flops).map(|(rate, peak)| rate / peak),
        }
    }
}

fn object(timed: &TimedPlan, paths: &[String], ceilings: &Ceilings) -> Value {
    let steps = timed.plan.steps.iter().zip(paths).enumerate().map(|(index, (step, path))| {
        let rates = Rates::of(timed, index, step, ceilings);
        json!({
            "kernel": step.kernel.name(),
            "layer": step.layer,
            "path": path,
            "ms": millis(rates.seconds),
            "share": rates.share,
            "bytes": step.bytes,
            "bytes_per_second": rates.bytes,
            "of_copy": rates.of_copy,
            "flops": step.flops,
            "flops_per_second": rates.flops,
            "of_peak": rates.of_peak,
        })
    });
    json!({
        "plan": purpose(timed),
        "samples": samples(timed),
        "runs": timed.runs,
        "ms": millis(timed.whole.as_secs_f64()) / timed.runs.max(1) as f64,
        "steps": steps.collect::<Vec<_>>(),
    })
}

fn millis(seconds: f64) -> f64 {
    1e3 * seconds
}
