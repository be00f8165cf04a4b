// SPDX-License-Identifier: MIT OR Apache-2.0
//! Fixtures of schedules of learning rate and momentum.

use kiln::optim::{
    Anneal, Better, MomentumCycle, Phases, Plateau, ReduceOnPlateau, Schedule, Threshold,
};

use crate::common::close::{compare, Tolerance};
use crate::common::golden::Fixture;

pub(super) fn agree(fixture: &Fixture) -> f64 {
    let base = fixture.number("base_lr");
    let schedule = build(fixture, fixture.option("name"), "");
    schedule.check().expect("options in range");
    let steps = fixture.number::<u64>("steps");
    let rates: Vec<f64> = (0..steps).map(|step| schedule.rate(base, step)).collect();
    let momenta: Vec<f64> = (0..steps).filter_map(|step| schedule.momentum(step)).collect();
    let expected = fixture.tensors.get("momentum").map_or(&[][..], |momenta| &momenta.values);
    let agree = |what: &str, got: &[f64], expected: &[f64]| {
        let what = format!("{}: {what}", fixture.stem);
        compare(&what, &[got.len()], got, expected, Tolerance::DOUBLE)
            .unwrap_or_else(|message| panic!("{message}"))
    };
    let rate = agree("rate", &rates, &fixture.get("lr").values);
    rate.max(agree("momentum", &momenta, expected))
}

/// The rate after each figure, bit for bit; also where all is written down and read again between two.
pub(super) fn agree_on_plateau(fixture: &Fixture) -> f64 {
    let number = |name: &str| fixture.number::<f64>(name);
    let threshold = number("threshold");
    let options = Plateau {
        better: match fixture.option("mode") {
            "min" => Better::Lower,
            _ => Better::Higher,
        },
        factor: number("factor"),
        patience: fixture.number("patience"),
        threshold: match fixture.option("threshold_mode") {
            "rel" => Threshold::Relative(threshold),
            _ => Threshold::Absolute(threshold),
        },
        cooldown: fixture.number("cooldown"),
        min_rate: number("min_lr"),
        eps: number("eps"),
    };
    let mut falling = ReduceOnPlateau::new(options).expect("options in range");
    let mut rate = number("base_lr");
    let mut rates = Vec::new();
    for value in &fixture.get("value").values {
        let written = serde_json::to_string(&falling).expect("plain data");
        falling = serde_json::from_str(&written).expect("what was written");
        rate = falling.observe(*value, rate).unwrap_or(rate);
        rates.push(rate);
    }
    assert_eq!(rates, fixture.get("lr").values, "{}", fixture.stem);
    assert!(rates[0] > rates[rates.len() - 1], "{}: the rate never falls", fixture.stem);
    0.0
}

/// The schedule of a PyTorch scheduler, whose options are prefixed.
fn build(fixture: &Fixture, name: &str, prefix: &str) -> Schedule {
    let number = |name: &str| fixture.number::<f64>(&format!("{prefix}{name}"));
    let count = |name: &str| fixture.number::<u64>(&format!("{prefix}{name}"));
    match name {
        "constant_lr" => Schedule::Hold { factor: number("factor"), steps: count("total_iters") },
        "step_lr" => Schedule::Step { size: count("step_size"), gamma: number("gamma") },
        "cosine_annealing_lr" => {
            Schedule::Cosine { period: count("T_max"), minimum: number("eta_min") }
        }
        "linear_lr" => Schedule::Linear {
            start: number("start_factor"),
            end: number("end_factor"),
            steps: count("total_iters"),
        },
        "one_cycle_lr" => one_cycle(fixture),
        "sequential_lr" => {
            let starts = std::iter::once(0).chain(fixture.list("milestones"));
            let part = |(index, (start, name)): (usize, (u64, String))| {
                (start, build(fixture, &name, &format!("{index}.")))
            };
            let names: Vec<String> = fixture.list("schedulers");
            Schedule::Chain(starts.zip(names).enumerate().map(part).collect())
        }
        other => panic!("{}: nothing builds a schedule {other}", fixture.stem),
    }
}

fn one_cycle(fixture: &Fixture) -> Schedule {
    let (peak, steps) = (fixture.number("max_lr"), fixture.number::<u64>("total_steps"));
    let anneal = match fixture.option("anneal_strategy") {
        "cos" => Anneal::Cosine,
        "linear" => Anneal::Linear,
        other => panic!("{}: anneal_strategy = {other}", fixture.stem),
    };
    let phases = match fixture.option("three_phase") {
        "false" => Phases::Two,
        _ => Phases::Three,
    };
    let rise = fixture.number("pct_start");
    let [start_divisor, end_divisor] =
        ["div_factor", "final_div_factor"].map(|n| fixture.number(n));
    let momentum = match fixture.option("cycle_momentum") {
        "false" => MomentumCycle::Kept,
        _ => MomentumCycle::Cycled {
            lowest: fixture.number("base_momentum"),
            highest: fixture.number("max_momentum"),
        },
    };
    Schedule::OneCycle { peak, steps, rise, anneal, start_divisor, end_divisor, phases, momentum }
}
