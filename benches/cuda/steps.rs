// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whole training steps, in turns with others, and the kernels that they consist of.

use std::collections::BTreeSet;
use std::time::Instant;

use kiln::backend::cuda::lab::{Cache, Subject};
use kiln::nn::Module;
use kiln::{Precision, Tensor, Trainer};

use super::measure::{launches_of, load, percentiles, time, Size};
use super::networks::{cases, Case, Rates};
use super::peer::Team;
use super::row::{Row, KILN, STEP};
use super::rows::{dtype, Amount, Report};
use super::turns::{self, Turn};
use super::{Result, Target};

/// Steps that are timed from the host, in samples of some behind each other: all there are, and those of a round.
const FED_SAMPLES: usize = 9;
const FED_SAMPLES_OF_ROUND: usize = 2;
const FED_STEPS: usize = 20;

/// Where inputs are.
const RESIDENT: &str = "resident";
const FED: &str = "from host";

/// Every network's step: its inputs on the device, and given by the host.
pub(crate) fn networks(
    precision: Precision,
    target: Target,
    team: &mut Team,
    report: &mut Report,
) -> Result<()> {
    for case in cases(target.place.size) {
        let id = case.id();
        if !report.wants(&id) {
            continue;
        }
        if target.is_over() {
            report.left_out(&format!("{id} {precision}"), "no time");
            continue;
        }
        if let Err(error) = step(case, precision, target, team, report) {
            // The others can be measured all the same; the run as a whole has failed.
            report.failed(&format!("{id} {precision}"), &error.to_string());
        }
    }
    Ok(())
}

fn step(
    case: &Case,
    precision: Precision,
    target: Target,
    team: &mut Team,
    report: &mut Report,
) -> Result<()> {
    let (x, labels) = case.data()?;
    let opponents = turns::opponents(case, precision, target, team, report)?;
    let turn = Turn { feed: FED, rounds: target.rounds, milliseconds: target.milliseconds };
    let mut trainer = case.trainer(target.place.device(precision)?, Rates::Own)?;
    let plan = trainer.plan(&x.ty(), &labels.ty())?.clone();
    let samples = if opponents.is_empty() { FED_SAMPLES } else { FED_SAMPLES_OF_ROUND };
    // What is planned and captured there is no part of the others.
    fed(&mut trainer, &x, &labels, target.place.size, 1)?;
    let of_host = turns::take(case, precision, turn, team, opponents.clone(), || {
        fed(&mut trainer, &x, &labels, target.place.size, samples)
    })?;
    drop(trainer);

    let shape = x.shape().to_string();
    let mut lab = target.place.lab(precision)?;
    let resident = load(&mut lab, &plan, &[x, labels])?;
    let turn = Turn { feed: RESIDENT, ..turn };
    let of_device = turns::take(case, precision, turn, team, opponents, || {
        let us = time(&mut lab, Subject::Plan(&resident), Cache::Warm)?;
        if us.is_none() {
            // Without an emptied cache there would be a path that nothing tries.
            time(&mut lab, Subject::Plan(&resident), Cache::Cold)?;
        }
        Ok(us)
    })?;
    let amount = Amount { flops: plan.totals().flops, bytes: 0 };
    for (feed, turns) in [(RESIDENT, of_device), (FED, of_host)] {
        let row = Row {
            group: STEP.into(),
            name: case.id(),
            shape: shape.clone(),
            dtype: dtype(precision),
            cache: "warm".into(),
            feed: Some(feed.into()),
            ..Row::default()
        };
        for row in turns.rows(&row, team) {
            report.add(row, amount)?;
        }
    }
    Ok(())
}

/// Steps whose inputs the host gives, by the host's clock; what they cost once none waits for another.
fn fed(
    trainer: &mut Trainer<Box<dyn Module>>,
    x: &Tensor,
    target: &Tensor,
    size: Size,
    samples: usize,
) -> Result<Option<[f64; 3]>> {
    let (samples, steps) = match size {
        Size::Full => (samples, FED_STEPS),
        Size::Small => (1, 3),
    };
    let mut times = Vec::with_capacity(samples);
    for _ in 0..samples {
        let begin = Instant::now();
        let mut last = None;
        for _ in 0..steps {
            last = Some(trainer.step(x, target)?);
        }
        last.map(|loss| loss.value()).transpose()?;
        times.push(begin.elapsed().as_secs_f64() * 1e6 / steps as f64);
    }
    times.sort_unstable_by(f64::total_cmp);
    Ok((size == Size::Full).then(|| percentiles(&times)))
}

/// Every kernel of the steps by its name, each with a cache as it left it and with an empty one.
pub(crate) fn kernels(precision: Precision, target: Target, report: &mut Report) -> Result<()> {
    let mut seen = BTreeSet::new();
    for case in cases(target.place.size) {
        if target.is_over() {
            report.left_out(&format!("kernels of {} {precision}", case.id()), "no time");
            continue;
        }
        let (x, labels) = case.data()?;
        let plan = {
            let mut trainer = case.trainer(target.place.device(precision)?, Rates::Own)?;
            trainer.plan(&x.ty(), &labels.ty())?.clone()
        };
        let mut lab = target.place.lab(precision)?;
        let resident = load(&mut lab, &plan, &[x, labels])?;
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
                    group: "kernel".into(),
                    peer: KILN.into(),
                    name: name.clone(),
                    shape: case.id(),
                    dtype: dtype(precision),
                    cache: told.into(),
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
