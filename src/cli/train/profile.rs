// SPDX-License-Identifier: MIT OR Apache-2.0
//! `kiln train --profile`: how long the steps of plans took, beside what the machine gives.

use std::cmp::Reverse;
use std::num::NonZeroUsize;
use std::path::Path;

use kiln::backend::cpu::{self, Ceilings};
use kiln::backend::cuda::{self, Architecture};
use kiln::checkpoint::write_atomically;
use kiln::op::Op;
use kiln::passes::Goal;
use kiln::plan::Step;
use kiln::timed::{chrome_trace, StepClock, TimedPlan};
use kiln::{grouped, Device, Mode, Result};
use serde_json::{json, Value};

use crate::cli::output::Output;
use crate::cli::plan::item_names;
use crate::cli::session::Session;
use crate::cli::table::{aligned, Alignment};

/// Name of the trace.
const TRACE_FILE: &str = "trace.json";

/// Plans whose steps are printed: those that took the most time.
const PRINTED: usize = 2;

/// What steps are compared with.
struct Beside {
    ceilings: Option<Ceilings>,
    /// For each plan how each of its steps is computed.
    paths: Vec<Vec<String>>,
}

/// Prints the profile of a training, writes its trace and returns it for machines.
pub(super) fn of(session: &mut Session, directory: &Path, output: &mut Output) -> Result<Value> {
    let net = session.net();
    let mut plans = net.timed_plans();
    let is_timed = plans.iter().all(is_timed);
    if !is_timed {
        // Nobody knows which take the most time: training steps are looked at first.
        plans.sort_by_key(|timed| (purpose(timed) != "training step", Reverse(timed.runs)));
    }
    let Beside { ceilings, paths } = Beside::of(net.device(), &plans)?;
    let ceilings = ceilings.as_ref();
    let trace = is_timed.then(|| directory.join(TRACE_FILE));
    if let Some(trace) = &trace {
        write_atomically(trace, chrome_trace(&plans, &paths).to_string().as_bytes())?;
    }
    for (timed, paths) in plans.iter().zip(&paths).take(PRINTED) {
        output.note(&heading(timed))?;
        output.note(aligned(&rows(timed, paths, ceilings), ALIGNMENTS).trim_end())?;
    }
    let ending = match (ceilings, &trace) {
        (Some(ceilings), _) => describe(ceilings),
        (None, Some(_)) => "times by events around each step, which were issued one by one".into(),
        (None, None) => {
            "the device is simulated: its times would say nothing, so there is no trace".into()
        }
    };
    output.note(&ending)?;
    if let Some(trace) = &trace {
        output.note(&format!("trace: {}", trace.display()))?;
    }
    let watching = session.watching();
    output.note(&format!("watching took {:.2} % of the time", 100.0 * watching))?;
    let of_plan = |(timed, paths): (&TimedPlan, &Vec<String>)| object(timed, paths, ceilings);
    Ok(json!({
        "peak_flops_per_second": ceilings.and_then(|ceilings| ceilings.flops),
        "watching": watching,
        "trace": trace.map(|trace| trace.display().to_string()),
        "plans": plans.iter().zip(&paths).map(of_plan).collect::<Vec<_>>(),
    }))
}

impl Beside {
    /// On the CPU what the machine gives at the moment, on a GPU nothing.
    fn of(device: &Device, plans: &[TimedPlan]) -> Result<Self> {
        let Some(gpu) = device.gpu() else {
            let threads = device.threads().unwrap_or(NonZeroUsize::MIN);
            let named = |timed: &TimedPlan| -> Vec<String> {
                cpu::paths(&timed.plan, threads).iter().map(ToString::to_string).collect()
            };
            let ceilings = Some(Ceilings::measure(threads));
            return Ok(Beside { ceilings, paths: plans.iter().map(named).collect() });
        };
        let launched = |timed: &TimedPlan| -> Result<Vec<String>> {
            let work = cuda::work(&timed.plan, Architecture::from(&gpu), device.precision())?;
            Ok(work.steps.iter().map(|items| item_names(items)).collect())
        };
        let paths: Result<_> = plans.iter().map(launched).collect();
        Ok(Beside { ceilings: None, paths: paths? })
    }
}

/// Times of a simulated device are not shown.
fn is_timed(timed: &TimedPlan) -> bool {
    timed.clock != StepClock::Simulated
}

fn describe(ceilings: &Ceilings) -> String {
    let peak = ceilings.flops.map_or_else(String::new, |flops| {
        format!("{:.1} GFLOP/s of multiply-adds in registers, ", flops / 1e9)
    });
    let copies = ceilings
        .copies
        .iter()
        .map(|copy| format!("{:.1} GB/s at {} KiB", copy.rate / 1e9, copy.bytes >> 10));
    let copies = copies.collect::<Vec<_>>().join(", ");
    format!("the machine now: {peak}copies {copies}")
}

/// What a plan is for, how often it ran and how long that took.
fn heading(timed: &TimedPlan) -> String {
    let (purpose, samples, runs) = (purpose(timed), samples(timed), timed.runs);
    match timed.clock {
        StepClock::Host => {}
        StepClock::Device => {
            let whole = millis(timed.whole.as_secs_f64()) / runs as f64;
            return format!("\n{purpose} of {samples} samples: {runs} runs of {whole:.3} ms");
        }
        StepClock::Simulated => {
            return format!("\n{purpose} of {samples} samples: {runs} runs, simulated: not timed");
        }
    }
    let between = timed.whole.saturating_sub(timed.steps.iter().sum());
    let [whole, between] =
        [timed.whole, between].map(|all| millis(all.as_secs_f64()) / timed.runs as f64);
    format!(
        "\n{purpose} of {samples} samples: {runs} runs of {whole:.3} ms, of them {between:.3} ms \
         between steps"
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

fn rows(timed: &TimedPlan, paths: &[String], ceilings: Option<&Ceilings>) -> Vec<[String; 12]> {
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
            some(seconds.map(millis), 4),
            percent(share),
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

/// How fast a step is, where that is known.
struct Rates {
    /// Of one run.
    seconds: Option<f64>,
    /// Of the time of all steps.
    share: Option<f64>,
    /// Bytes per second, if any are moved.
    bytes: Option<f64>,
    of_copy: Option<f64>,
    /// Operations of matrix products per second, if there are any.
    flops: Option<f64>,
    of_peak: Option<f64>,
}

impl Rates {
    fn of(timed: &TimedPlan, index: usize, step: &Step, ceilings: Option<&Ceilings>) -> Self {
        let all: f64 = timed.steps.iter().map(std::time::Duration::as_secs_f64).sum();
        let total = Some(timed.steps[index].as_secs_f64()).filter(|_| is_timed(timed));
        let seconds = total.map(|total| total / timed.runs.max(1) as f64);
        let rate = |count: usize| {
            let seconds = seconds.filter(|seconds| count > 0 && *seconds > 0.0)?;
            Some(count as f64 / seconds)
        };
        let (bytes, flops) = (rate(step.bytes), rate(step.flops));
        let peak = ceilings.and_then(|ceilings| ceilings.flops);
        let copied = ceilings.map(|ceilings| ceilings.copied(step.bytes));
        Rates {
            seconds,
            share: total.map(|total| if all > 0.0 { total / all } else { 0.0 }),
            bytes,
            of_copy: bytes.zip(copied).map(|(rate, copied)| rate / copied),
            flops,
            of_peak: flops.zip(peak).map(|(rate, peak)| rate / peak),
        }
    }
}

fn object(timed: &TimedPlan, paths: &[String], ceilings: Option<&Ceilings>) -> Value {
    let steps = timed.plan.steps.iter().zip(paths).enumerate().map(|(index, (step, path))| {
        let rates = Rates::of(timed, index, step, ceilings);
        json!({
            "kernel": step.kernel.name(),
            "layer": step.layer,
            "path": path,
            "ms": rates.seconds.map(millis),
            "share": rates.share,
            "bytes": step.bytes,
            "bytes_per_second": rates.bytes,
            "of_copy": rates.of_copy,
            "flops": step.flops,
            "flops_per_second": rates.flops,
            "of_peak": rates.of_peak,
        })
    });
    let whole = is_timed(timed).then(|| millis(timed.whole.as_secs_f64()));
    json!({
        "plan": purpose(timed),
        "samples": samples(timed),
        "runs": timed.runs,
        "clock": match timed.clock {
            StepClock::Host => "host",
            StepClock::Device => "device",
            StepClock::Simulated => "simulated",
        },
        "ms": whole.map(|whole| whole / timed.runs.max(1) as f64),
        "steps": steps.collect::<Vec<_>>(),
    })
}

fn millis(seconds: f64) -> f64 {
    1e3 * seconds
}
