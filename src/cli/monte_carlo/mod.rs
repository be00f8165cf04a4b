// SPDX-License-Identifier: MIT OR Apache-2.0
//! `kiln eval --monte-carlo`: whether draws know better than a single pass how sure they are.

mod args;
mod table;

use std::sync::Arc;

use kiln::data::Dataset;
use kiln::uncertainty::{Bins, Probabilities, Spread, Temperature};
use kiln::{Draws, Dropouts, Error, Masks, Result, Tensor};
use serde_json::{json, Value};

pub(super) use args::MonteCarloArgs;

use super::evaluation::{loader, BATCH};
use super::network::{AnyNet, Feed};

/// Groups of equally many samples for adaptive calibration errors.
const BINS: usize = 15;

/// Draws of all samples of a batch, at most.
const ROWS: usize = 2048;

/// What a network's draws on a data set come to.
pub(super) struct Comparison {
    draws: Draws,
    samples: usize,
    /// One for each half of the data set, fitted on the other half.
    temperatures: [f64; 2],
    single: Figures,
    scaled: Figures,
    mean: Figures,
    right: Doubts,
    wrong: Doubts,
}

/// What probabilities are worth.
struct Figures {
    accuracy: f64,
    negative_log_likelihood: f64,
    brier_score: f64,
    calibration_error: f64,
    adaptive_calibration_error: f64,
    risk_coverage_area: f64,
}

/// How unsure some answers are on average.
struct Doubts {
    answers: usize,
    entropy: Option<f64>,
    mutual_information: Option<f64>,
}

/// The last layer's outputs for all samples of a data set, and their labels.
struct Answers {
    scores: Tensor,
    labels: Vec<i32>,
}

/// Draws and single passes on a data set.
pub(super) fn compare(
    net: &mut AnyNet,
    feed: Feed,
    set: &Arc<dyn Dataset>,
    draws: Draws,
) -> Result<Comparison> {
    let (spread, answers) = (spread(net, feed, set, draws)?, Answers::of(net, feed, set)?);
    let labels = &answers.labels;
    let (scaled, temperatures) = answers.scaled()?;
    let guesses = spread.mean().guesses();
    let is_right = |sample: &usize| guesses[*sample] as i32 == labels[*sample];
    let (right, wrong): (Vec<usize>, Vec<usize>) = (0..labels.len()).partition(is_right);
    Ok(Comparison {
        draws,
        samples: labels.len(),
        temperatures,
        single: Figures::of(&Probabilities::of_scores(&answers.scores)?, labels)?,
        scaled: Figures::of(&scaled, labels)?,
        mean: Figures::of(spread.mean(), labels)?,
        right: Doubts::of(&spread, &right),
        wrong: Doubts::of(&spread, &wrong),
    })
}

fn spread(net: &mut AnyNet, feed: Feed, set: &Arc<dyn Dataset>, draws: Draws) -> Result<Spread> {
    let mut spread: Option<Spread> = None;
    let view = net.monte_carlo(draws.count).with_masks(draws.masks);
    let mut view = view.with_dropouts(draws.dropouts);
    for batch in loader(set, (ROWS / draws.count).clamp(1, BATCH))?.epoch() {
        let (x, _) = feed.tensors(batch?)?;
        let scores = view.forward(&x)?;
        let spread = match &mut spread {
            Some(spread) => spread,
            none => none.insert(Spread::new(scores.shape().last())?),
        };
        spread.add(&scores)?;
    }
    spread.ok_or_else(|| Error::argument("data", "1 test sample or more", 0))
}

impl Answers {
    /// Those of single passes.
    fn of(net: &mut AnyNet, feed: Feed, set: &Arc<dyn Dataset>) -> Result<Self> {
        let (mut scores, mut labels) = (Vec::new(), Vec::new());
        for batch in loader(set, BATCH)?.epoch() {
            let (x, of_batch) = feed.tensors(batch?)?;
            scores.extend_from_slice(net.eval().forward(&x)?.values()?);
            labels.extend_from_slice(of_batch.integers()?);
        }
        Self::new(scores, labels)
    }

    fn new(scores: Vec<f32>, labels: Vec<i32>) -> Result<Self> {
        let classes = scores.len() / labels.len().max(1);
        Ok(Answers { scores: Tensor::new([labels.len(), classes], scores)?, labels })
    }

    /// Probabilities after temperature scaling. Every other sample is a half of them, since files may have
    /// one class after the other, and each half takes the temperature that is fitted on the other one: so
    /// no sample has a say in its own.
    fn scaled(&self) -> Result<(Probabilities, [f64; 2])> {
        let classes = self.scores.shape().last();
        let rows: Vec<&[f32]> = self.scores.values()?.chunks(classes).collect();
        if rows.len() < 2 {
            let expected = "2 test samples or more, since a temperature is fitted on half of them";
            return Err(Error::argument("data", expected, rows.len()));
        }
        let half = |first: usize| {
            let of_half = |count: usize| (first..count).step_by(2);
            let scores = of_half(rows.len()).flat_map(|sample| rows[sample].to_vec()).collect();
            Answers::new(scores, of_half(rows.len()).map(|sample| self.labels[sample]).collect())
        };
        let halves = [half(0)?, half(1)?];
        let fit = |half: &Answers| Temperature::fit(&half.scores, &half.labels);
        let temperatures = [fit(&halves[1])?, fit(&halves[0])?];
        let scaled = [0, 1].map(|half| temperatures[half].probabilities(&halves[half].scores));
        let [even, odd] = scaled;
        let scaled = [even?, odd?];
        let mut all = Probabilities::new(classes)?;
        for sample in 0..rows.len() {
            all.add(scaled[sample % 2].of(sample / 2))?;
        }
        Ok((all, temperatures.map(Temperature::value)))
    }
}

impl Figures {
    fn of(probabilities: &Probabilities, labels: &[i32]) -> Result<Self> {
        let calibration = |bins| probabilities.calibration_error(labels, bins);
        Ok(Figures {
            accuracy: probabilities.accuracy(labels)?,
            negative_log_likelihood: probabilities.negative_log_likelihood(labels)?,
            brier_score: probabilities.brier_score(labels)?,
            calibration_error: calibration(Bins::USUAL)?,
            adaptive_calibration_error: calibration(Bins::EqualCount(BINS))?,
            risk_coverage_area: probabilities.risk_coverage_area(labels)?,
        })
    }

    fn json(&self) -> Value {
        json!({
            "accuracy": self.accuracy,
            "nll": self.negative_log_likelihood,
            "brier": self.brier_score,
            "ece": self.calibration_error,
            "adaptive_ece": self.adaptive_calibration_error,
            "aurc": self.risk_coverage_area,
        })
    }
}

impl Doubts {
    fn of(spread: &Spread, samples: &[usize]) -> Self {
        let mean = |figures: Vec<f64>| {
            let sum: f64 = samples.iter().map(|sample| figures[*sample]).sum();
            (!samples.is_empty()).then(|| sum / samples.len() as f64)
        };
        Doubts {
            answers: samples.len(),
            entropy: mean(spread.predictive_entropy()),
            mutual_information: mean(spread.mutual_information()),
        }
    }

    fn json(&self) -> Value {
        json!({
            "answers": self.answers,
            "entropy": self.entropy,
            "mutual_information": self.mutual_information,
        })
    }
}

impl Comparison {
    pub(super) fn json(&self) -> Value {
        json!({
            "draws": self.draws.count,
            "masks": match self.draws.masks {
                Masks::PerSample => "per-sample",
                Masks::Consistent => "consistent",
            },
            "dropout": match self.draws.dropouts {
                Dropouts::All => "all",
                Dropouts::Last => "last",
            },
            "single_pass": self.single.json(),
            "with_temperature": self.scaled.json(),
            "temperatures": self.temperatures,
            "mean": self.mean.json(),
            "right": self.right.json(),
            "wrong": self.wrong.json(),
        })
    }
}
