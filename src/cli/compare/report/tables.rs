// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tables of figures, and of what they come from.

use std::fmt::Write;

use super::super::figures::{Arm, Measure};
use super::super::text::{interval, DIFFERENCES};
use super::super::Comparison;
use super::escaped;
use crate::cli::settings::{show, Rule};

pub(super) fn section(arms: &[Arm], seeds: &[u64]) -> String {
    let mut html = String::from("<h2>Figures</h2>\n");
    html += &means(arms, seeds);
    if seeds.len() > 1 {
        html += &differences(arms, seeds);
    }
    html
}

/// A section with names and what they stand for.
pub(super) fn words(title: &str, rows: &[(&str, String)]) -> String {
    let mut html = format!("<h2>{title}</h2>\n<table class=\"words\">\n<tbody>\n");
    for (name, value) in rows {
        let _ = writeln!(
            html,
            "<tr><th scope=\"row\">{}</th><td>{}</td></tr>",
            escaped(name),
            escaped(value)
        );
    }
    html + "</tbody>\n</table>\n"
}

/// Everything that the results depend on.
pub(super) fn settings(comparison: &Comparison) -> Vec<(&'static str, String)> {
    let (settings, sets) = (&comparison.record.settings, &comparison.sets);
    let step = &settings.step;
    let rates: Vec<&str> = comparison.arms.iter().map(|arm| arm.rates.as_str()).collect();
    let optimizer = match step.rule {
        Rule::Sgd { momentum } => format!("SGD, momentum {momentum}"),
        Rule::Adam => "Adam".into(),
        Rule::Adamw => "AdamW".into(),
    };
    let seeds: Vec<String> = comparison.seeds.iter().map(u64::to_string).collect();
    let mut rows = vec![
        ("network", settings.net.describe(sets.sizes())),
        ("dropout rates", rates.join(", ")),
        ("layers that drop", settings.net.dropouts().join(", ")),
        ("data", settings.data.name().into()),
        ("training samples", sets.train.len().to_string()),
        ("wrong labels among them", format!("{:.1} %", 100.0 * settings.label_noise)),
        ("test samples", sets.test.len().to_string()),
        ("epochs", settings.epochs.to_string()),
        ("batch", step.batch.to_string()),
        ("optimiser", optimizer),
        ("learning rate", format!("{}, {}", step.lr, show(&settings.schedule))),
        ("weight decay", step.weight_decay.to_string()),
        ("clipping", step.clip.map_or("none".into(), |norm| norm.to_string())),
        ("seeds", seeds.join(", ")),
    ];
    if !settings.augment.is_empty() {
        let changes: Vec<String> = settings.augment.iter().map(show).collect();
        rows.push(("random changes of images", changes.join(", ")));
    }
    if let Some(precision) = &settings.precision {
        rows.push(("precision", show(precision)));
    }
    rows
}

fn means(arms: &[Arm], seeds: &[u64]) -> String {
    let caption = match seeds {
        [seed] => format!("At the end of training, seed {seed}"),
        _ => format!("At the end of training, means over {} seeds", seeds.len()),
    };
    let heads = Measure::ALL.map(Measure::name);
    let mut html = begin(&caption, "dropout", &heads);
    for arm in arms {
        let _ = write!(html, "<tr><th scope=\"row\">{}</th>", escaped(&arm.rates));
        for measure in Measure::ALL {
            let _ = write!(html, "<td>{}</td>", escaped(&measure.show(arm.mean(measure))));
        }
        html += "</tr>\n";
    }
    html + END
}

fn differences(arms: &[Arm], seeds: &[u64]) -> String {
    let Some((base, others)) = arms.split_first() else { return String::new() };
    let caption = format!(
        "Differences from dropout 0 with the same seed, over {} seeds; those of accuracies and the gap in \
         points",
        seeds.len()
    );
    let heads =
        ["figure", "mean", "95 % interval", "seeds above 0", "seeds below 0", "seeds equal"];
    let mut html = begin(&caption, "dropout", &heads);
    for arm in others {
        for measure in DIFFERENCES {
            let paired = arm.paired(measure, base);
            let _ = writeln!(
                html,
                "<tr><th scope=\"row\">{}</th><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td>\
                 <td>{}</td></tr>",
                escaped(&arm.rates),
                escaped(measure.name()),
                measure.show_difference(paired.mean),
                interval(measure, &paired),
                paired.signs.above,
                paired.signs.below,
                paired.signs.equal,
            );
        }
    }
    html + END
}

/// A table that can be moved sideways where the page is narrow, by keys too.
fn begin(caption: &str, first: &str, heads: &[&str]) -> String {
    let caption = escaped(caption);
    let mut html = format!(
        "<div class=\"wide\" role=\"region\" tabindex=\"0\" aria-label=\"{caption}\">\n<table>\n\
         <caption>{caption}</caption>\n<thead>\n<tr><th scope=\"col\">{}</th>",
        escaped(first)
    );
    for head in heads {
        let _ = write!(html, "<th scope=\"col\">{}</th>", escaped(head));
    }
    html + "</tr>\n</thead>\n<tbody>\n"
}

const END: &str = "</tbody>\n</table>\n</div>\n";
