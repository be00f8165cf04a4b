// SPDX-License-Identifier: MIT OR Apache-2.0
//! Results of a comparison as an object for machines.

use serde_json::{json, Map, Value};

use super::figures::{best, Arm, Finished, Measure};
use super::record::Record;
use super::verdict::verdict;

/// Everything but times and places, so that equal comparisons have equal results.
pub(super) fn result(record: &Record, seeds: &[u64], device: &str, arms: &[Arm]) -> Value {
    let settings = &record.settings;
    let best = best(arms);
    let gain =
        best.zip(arms.first()).map(|(best, base)| best.paired(Measure::TestAccuracy, base).mean);
    json!({
        "net": settings.net.name(),
        "data": settings.data.name(),
        "device": device,
        "epochs": settings.epochs,
        "seeds": seeds,
        "runs": runs(seeds, arms),
        "arms": arms.iter().map(|arm| summary(arm, &arms[0])).collect::<Vec<_>>(),
        "best": best.map(|arm| arm.rates.as_str()),
        "gain": gain,
    })
}

/// The same with how long each training took.
pub(super) fn with_times(mut result: Value, arms: &[Arm]) -> Value {
    let seconds = |run: &Finished| run.history.iter().map(|epoch| epoch.seconds).sum::<f64>();
    let times = by_seed(arms).map(|(_, _, run)| seconds(run));
    let runs = result["runs"].as_array_mut();
    for (run, seconds) in runs.into_iter().flatten().zip(times) {
        run["seconds"] = json!(seconds);
    }
    result
}

/// Trainings in their order: for each seed all networks.
fn by_seed(arms: &[Arm]) -> impl Iterator<Item = (usize, &Arm, &Finished)> {
    let seeds = arms.first().map_or(0, |arm| arm.runs.len());
    (0..seeds).flat_map(move |seed| {
        arms.iter().filter_map(move |arm| Some((seed, arm, arm.runs.get(seed)?)))
    })
}

fn runs(seeds: &[u64], arms: &[Arm]) -> Vec<Value> {
    let object = |(seed, arm, run): (usize, &Arm, &Finished)| {
        let mut object = named(arm);
        object.insert("seed".into(), json!(seeds.get(seed)));
        for measure in Measure::ALL {
            object.insert(measure.key().into(), json!(measure.of(&run.figures)));
        }
        Value::Object(object)
    };
    by_seed(arms).map(object).collect()
}

fn summary(arm: &Arm, base: &Arm) -> Value {
    let mut object = named(arm);
    let means = Measure::ALL.map(|measure| (measure.key().to_owned(), json!(arm.mean(measure))));
    object.insert("means".into(), Value::Object(means.into_iter().collect()));
    if std::ptr::eq(arm, base) {
        return Value::Object(object);
    }
    let differences = Measure::ALL.map(|measure| {
        let paired = arm.paired(measure, base);
        let difference = json!({
            "mean": paired.mean,
            "low": paired.interval.map(|[low, _]| low),
            "high": paired.interval.map(|[_, high]| high),
            "above": paired.signs.above,
            "below": paired.signs.below,
            "equal": paired.signs.equal,
        });
        (measure.key().to_owned(), difference)
    });
    object.insert("differences".into(), Value::Object(differences.into_iter().collect()));
    let verdict = verdict(arm, base);
    object.insert("verdict".into(), json!(verdict.effect.key()));
    object.insert("sentence".into(), json!(verdict.sentence));
    object.insert("remarks".into(), json!(verdict.remarks));
    Value::Object(object)
}

fn named(arm: &Arm) -> Map<String, Value> {
    let mut object = Map::new();
    // As it was written, not as the nearest f32 has it in f64.
    let p = arm.p.and_then(|p| p.to_string().parse::<f64>().ok());
    object.insert("p".into(), json!(p));
    object.insert("dropout".into(), json!(arm.rates));
    object
}
