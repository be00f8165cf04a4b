// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whole training steps, in turns with PyTorch, and the kernels that they consist of.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use kiln::backend::cuda::lab::{Cache, Lab, Subject};
use kiln::backend::cuda::CudaOptions;
use kiln::nn::Module;
use kiln::plan::Plan;
use kiln::{Device, Precision, Tensor, Trainer};

use super::measure::{launches_of, load, percentiles, time, Size};
use super::networks::{cases, Case};
use super::parity;
use super::peer::Peer;
use super::rows::{dtype, Amount, Report, Row};
use super::Result;

/// How often kiln and PyTorch take turns, and how long a turn of PyTorch's lasts.
const ROUNDS: usize = 7;
const TURN_MILLISECONDS: u64 = 60;
/// Steps that are timed from the host, in samples of some behind each other.
const FED_SAMPLES: usize = 9;
const FED_STEPS: usize = 20;

/// Where inputs are.
const RESIDENT: &str = "resident";
const FED: &str = "from host";

/// Every network's step: its inputs on the device, and given by the host.
pub(crate) fn networks(
    precision: Precision,
    size: Size,
    mut peer: Option<&mut Peer>,
    report: &mut Report,
    deadline: Instant,
) -> Result<()> {
    for case in cases(size) {
        let id = case.id();
        if !report.wants(&id) {
            continue;
        }
        if Instant::now() >= deadline {
            report.left_out(&format!("{id} {precision}"), "no time");
            continue;
        }
        let rival = peer.as_deref_mut().filter(|_| case.has_peer);
        if let Err(error) = step(case, precision, size, rival, report) {
            // The others can be measured all the same; the run as a whole has failed.
            report.failed(&format!("{id} {precision}"), &error.to_string());
        }
    }
    Ok(())
}

fn step(
    case: &Case,
    precision: Precision,
    size: Size,
    mut peer: Option<&mut Peer>,
    report: &mut Report,
) -> Result<()> {
    let options = CudaOptions { precision, ..CudaOptions::default() };
    let device = Device::cuda_with(0, options)?;
    let (x, target) = case.data()?;
    let mut trainer = case.trainer(device)?;
    if let Some(peer) = peer.as_deref_mut() {
        // What computes something else is not worth timing.
        parity::check(case, precision, &mut trainer, &x, &target, peer)?;
    }
    let plan = trainer.plan(&x.ty(), &target.ty())?.clone();
    let row = Row {
        group: "step",
        name: case.id(),
        shape: x.shape().to_string(),
        dtype: dtype(precision),
        cache: "warm",
        ..Row::default()
    };
    let totals = plan.totals();
    let amount = Amount { flops: totals.flops, bytes: 0 };
    let fed = fed(&mut trainer, &x, &target, size)?;
    let fed = Row { us: fed, torch: None, feed: Some(FED), ..row.clone() };
    drop(trainer);
    let (us, torch) = turns(case, precision, &plan, &[x, target], peer.as_deref_mut())?;
    report.add(Row { us, torch, feed: Some(RESIDENT), ..row }, amount)?;
    let torch = match (fed.us, peer) {
        (Some([_, us, _]), Some(peer)) => {
            let mut ratios = BTreeMap::new();
            for mode in peer.modes.clone() {
                let of_torch = peer.time(&case.id(), &mode, precision, FED, TURN_MILLISECONDS)?;
                ratios.insert(mode, of_torch / us);
            }
            Some(ratios)
        }
        _ => None,
    };
    report.add(Row { torch, ..fed }, amount)
}

/// kiln's step and each of PyTorch's ways, in turns: the time of kiln's, and the median ratios.
#[allow(clippy::type_complexity)] // named nowhere else
fn turns(
    case: &Case,
    precision: Precision,
    plan: &Plan,
    inputs: &[Tensor],
    mut peer: Option<&mut Peer>,
) -> Result<(Option<[f64; 3]>, Option<BTreeMap<String, f64>>)> {
    let options = CudaOptions { precision, ..CudaOptions::default() };
    let mut lab = Lab::open(0, options)?;
    let resident = load(&mut lab, plan, inputs)?;
    let mut own = Vec::new();
    let mut ratios: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    let rounds = if peer.is_some() { ROUNDS } else { 1 };
    for _ in 0..rounds {
        let Some(us) = time(&mut lab, Subject::Plan(&resident), Cache::Warm)? else {
            // Without an emptied cache there would be a path that nothing tries.
            time(&mut lab, Subject::Plan(&resident), Cache::Cold)?;
            return Ok((None, None));
        };
        own.push(us);
        if let Some(peer) = peer.as_deref_mut() {
            for mode in peer.modes.clone() {
                let id = case.id();
                let of_torch = peer.time(&id, &mode, precision, RESIDENT, TURN_MILLISECONDS)?;
                ratios.entry(mode).or_default().push(of_torch / us[1]);
            }
        }
    }
    own.sort_unstable_by(|a, b| a[1].total_cmp(&b[1]));
    let medians = ratios.into_iter().map(|(mode, mut ratios)| {
        ratios.sort_unstable_by(f64::total_cmp);
        (mode, percentiles(&ratios)[1])
    });
    let torch = peer.is_some().then(|| medians.collect());
    Ok((Some(own[own.len() / 2]), torch))
}

/// Steps whose inputs the host gives, by the host's clock; what they cost once none waits for another.
fn fed(
    trainer: &mut Trainer<Box<dyn Module>>,
    x: &Tensor,
    target: &Tensor,
    size: Size,
) -> Result<Option<[f64; 3]>> {
    let (samples, steps) = match size {
        Size::Full => (FED_SAMPLES, FED_STEPS),
        Size::Small => (1, 3),
    };
    let mut times = Vec::with_capacity(samples);
    for _ in 0..=samples {
        let begin = Instant::now();
        let mut last = None;
        for _ in 0..steps {
            last = Some(trainer.step(x, target)?);
        }
        last.map(|loss| loss.value()).transpose()?;
        times.push(begin.elapsed().as_secs_f64() * 1e6 / steps as f64);
    }
    times.remove(0); // planned and captured there
    times.sort_unstable_by(f64::total_cmp);
    Ok((size == Size::Full).then(|| percentiles(&times)))
}

/// Every kernel of the steps by its name, each with a cache as it left it and with an empty one.
pub(crate) fn kernels(
    precision: Precision,
    size: Size,
    report: &mut Report,
    deadline: Instant,
) -> Result<()> {
    let options = CudaOptions { precision, ..CudaOptions::default() };
    let mut seen = BTreeSet::new();
    for case in cases(size) {
        if Instant::now() >= deadline {
            report.left_out(&format!("kernels of {} {precision}", case.id()), "no time");
            continue;
        }
        let (x, target) = case.data()?;
        let plan = {
            let mut trainer = case.trainer(Device::cuda_with(0, options)?)?;
            trainer.plan(&x.ty(), &target.ty())?.clone()
        };
        let mut lab = Lab::open(0, options)?;
        let resident = load(&mut lab, &plan, &[x, target])?;
        for placed in lab.launches(&resident) {
            let (name, grid) = (placed.launch.kernel.clone(), placed.launch.blocks);
            if !report.wants(&name) || !seen.insert((name.clone(), grid)) {
                continue;
            }
            let step = &plan.steps[placed.step];
            // What a step comes to is not told launch by launch.
            let amount = match launches_of(&lab, &resident, placed.step) {
                1 if step.flops > 0 => Amount { flops: step.flops, bytes: 0 },
                1 => Amount { flops: 0, bytes: step.bytes },
                _ => Amount::default(),
            };
            for (cache, told) in [(Cache::Warm, "warm"), (Cache::Cold, "cold")] {
                let us = time(&mut lab, Subject::Launch(&resident, &placed), cache)?;
                let row = Row {
                    group: "kernel",
                    name: name.clone(),
                    shape: case.id(),
                    dtype: dtype(precision),
                    cache: told,
                    us,
                    grid: Some(grid),
                    ..Row::default()
                };
                report.add(row, amount)?;
            }
        }
    }
    Ok(())
}
