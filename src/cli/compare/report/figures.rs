// SPDX-License-Identifier: MIT OR Apache-2.0
//! Curves of each network over the epochs, and differences over the rates.

use std::fmt::Write;

use super::super::figures::{Arm, Measure};
use super::escaped;
use super::figure::{Axis, Figure, Mark, Shape, COLOURS};
use crate::cli::metrics::Epoch;

/// What a curve shows of an epoch.
struct Panel {
    id: &'static str,
    title: &'static str,
    label: &'static str,
    train: fn(&Epoch) -> f64,
    test: fn(&Epoch) -> f64,
}

pub(super) fn section(arms: &[Arm]) -> String {
    let mut html = String::from("<h2>While training</h2>\n");
    html += &legend(arms);
    let panels = [
        Panel {
            id: "accuracy",
            title: "Accuracy",
            label: "accuracy in %",
            train: |epoch| 100.0 * epoch.train_accuracy,
            test: |epoch| 100.0 * epoch.test_accuracy,
        },
        Panel {
            id: "loss",
            title: "Loss",
            label: "loss",
            train: |epoch| epoch.train_loss,
            test: |epoch| epoch.test_loss,
        },
    ];
    let caption = match arms.first().map_or(0, |arm| arm.runs.len()) {
        1 => "test solid, training dashed, both in eval mode",
        _ => "means over the seeds: test solid, with all seeds in the band; training dashed; both in eval mode",
    };
    html += "<div class=\"figures\">\n";
    for panel in panels {
        let caption = format!("{}: {caption}", panel.title);
        html += &framed(&curves(&panel, arms), &caption);
    }
    html += "</div>\n<h2>Against the rate</h2>\n<div class=\"figures\">\n";
    for (id, measure, label) in [
        ("sweep-accuracy", Measure::TestAccuracy, "points of test accuracy"),
        ("sweep-loss", Measure::TestLoss, "test loss (NLL)"),
    ] {
        let caption = format!(
            "{}: difference from dropout 0; a dot for each seed, the line is their mean{}",
            measure.name(),
            match arms.first().map_or(0, |arm| arm.runs.len()) {
                1 => "",
                _ => ", the band its 95 % interval",
            }
        );
        html += &framed(&sweep(id, measure, label, arms), &caption);
    }
    html + "</div>\n"
}

fn framed(figure: &Figure, caption: &str) -> String {
    format!(
        "<figure>\n{}\n<figcaption>{}</figcaption>\n</figure>\n",
        figure.svg(),
        escaped(&capital(caption))
    )
}

fn legend(arms: &[Arm]) -> String {
    let mut html = String::from("<ul class=\"legend\">\n");
    for (index, arm) in arms.iter().enumerate() {
        let _ = writeln!(
            html,
            "<li class=\"c{}\">dropout {}</li>",
            index % COLOURS,
            escaped(&arm.rates)
        );
    }
    html + "</ul>\n"
}

fn curves(panel: &Panel, arms: &[Arm]) -> Figure {
    let mut marks = Vec::new();
    let mut values = Vec::new();
    let mut description = String::new();
    for (colour, arm) in arms.iter().enumerate() {
        let means = arm.mean_history();
        let line = |value: fn(&Epoch) -> f64| {
            means.iter().map(|epoch| [epoch.epoch as f64, value(epoch)]).collect::<Vec<_>>()
        };
        let (train, test) = (line(panel.train), line(panel.test));
        let band = means.iter().enumerate().filter_map(|(index, mean)| {
            let seeds = arm.runs.iter().filter_map(|run| run.history.get(index)).map(panel.test);
            let finite = seeds.filter(|value| value.is_finite());
            let ends = finite.fold([f64::INFINITY, f64::NEG_INFINITY], |[low, high], value| {
                [low.min(value), high.max(value)]
            });
            (ends[0] <= ends[1]).then_some([mean.epoch as f64, ends[0], ends[1]])
        });
        let band: Vec<[f64; 3]> = band.collect();
        values.extend(band.iter().flat_map(|[_, low, high]| [*low, *high]));
        values.extend(train.iter().map(|[_, value]| *value));
        if let (Some([_, train]), Some([_, test])) = (train.last(), test.last()) {
            let _ = write!(
                description,
                "Dropout {} ends at {test:.2} on the test and {train:.2} on the training set. ",
                arm.rates
            );
        }
        if arm.runs.len() > 1 {
            marks.push(Mark { colour, shape: Shape::Band(band) });
        }
        marks.push(Mark { colour, shape: Shape::Dashes(train) });
        marks.push(Mark { colour, shape: Shape::Line(test) });
    }
    let epochs = arms.iter().flat_map(|arm| &arm.runs).map(|run| run.history.len()).max();
    Figure {
        id: panel.id,
        title: format!("{} over the epochs", panel.title),
        description: description.trim_end().into(),
        x: Axis::of_epochs(epochs.unwrap_or(0)),
        y: Axis::of_numbers(panel.label, values.into_iter()),
        marks,
    }
}

/// Differences from the network without dropout. Where each network has one rate, they lie along it.
fn sweep(id: &'static str, measure: Measure, label: &str, arms: &[Arm]) -> Figure {
    let in_order = ordered(arms);
    let rates: Option<Vec<f64>> = in_order.iter().map(|arm| arm.p.map(f64::from)).collect();
    let is_along_rates = rates.is_some();
    let places = rates.unwrap_or_else(|| (0..arms.len()).map(|place| place as f64).collect());
    let factor = if measure == Measure::TestLoss { 1.0 } else { 100.0 };
    let (mut dots, mut line, mut band) = (Vec::new(), Vec::new(), Vec::new());
    let mut description = String::new();
    for (arm, &x) in in_order.iter().zip(&places) {
        let paired = arm.paired(measure, &arms[0]);
        let seeds = arm.differences(measure, &arms[0]);
        dots.extend(seeds.iter().map(|difference| [x, factor * difference]));
        line.push([x, factor * paired.mean]);
        // Equal differences, as those of the network without dropout from itself, have no width.
        let [low, high] = paired.interval.unwrap_or([paired.mean; 2]);
        if paired.mean.is_finite() {
            band.push([x, factor * low, factor * high]);
        }
        let _ = write!(
            description,
            "Dropout {}: {}. ",
            arm.rates,
            measure.show_difference(paired.mean)
        );
    }
    let values =
        dots.iter().map(|[_, y]| *y).chain(band.iter().flat_map(|[_, low, high]| [*low, *high]));
    let y = Axis::of_numbers(label, values);
    let names: Vec<&str> = in_order.iter().map(|arm| arm.rates.as_str()).collect();
    let x = match is_along_rates {
        true => Axis::of_numbers("dropout rate", places.iter().copied()),
        false => Axis::of_names("dropout rates of the layers", &names),
    };
    let band = if is_along_rates { Shape::Band(band) } else { Shape::Bars(band) };
    let mut marks = vec![Mark { colour: 1, shape: band }];
    if is_along_rates {
        marks.push(Mark { colour: 1, shape: Shape::Line(line) });
    }
    marks.push(Mark { colour: 1, shape: Shape::Dots(dots) });
    let title = format!("{} against dropout", capital(measure.name()));
    Figure { id, title, description: description.trim_end().into(), x, y, marks }
}

/// By rate where each network has one, else as they are given.
fn ordered(arms: &[Arm]) -> Vec<&Arm> {
    let mut arms: Vec<&Arm> = arms.iter().collect();
    if arms.iter().all(|arm| arm.p.is_some()) {
        arms.sort_by(|a, b| a.p.partial_cmp(&b.p).unwrap_or(std::cmp::Ordering::Equal));
    }
    arms
}

fn capital(text: &str) -> String {
    let mut characters = text.chars();
    characters
        .next()
        .map_or_else(String::new, |first| first.to_uppercase().chain(characters).collect())
}
