// SPDX-License-Identifier: MIT OR Apache-2.0
//! A comparison on one page, which asks no other place for anything.

mod figure;
mod figures;
mod tables;

use std::fmt::Write;
use std::thread;

use super::figures::Arm;
use super::verdict::verdict;
use super::Comparison;
use figure::COLOURS;

const STYLE: &str = include_str!("style.css");

/// How to read what stands above, of one seed or of several.
const READING: &str = "\
<li>All trainings of a seed begin with the same parameters and see the same samples in the same order; \
they differ in dropout alone. So what differs is taken seed by seed.</li>
<li>An interval is of the mean difference, by Student's t with one degree of freedom less than there are \
seeds: 95 of 100 such intervals hold the mean that ever more seeds would come to. It speaks of other seeds, \
on the same training and test samples, and not of other samples. Each interval is made for itself: of twenty \
without any effect, one leaves out 0.</li>
<li>Accuracy in train mode is measured with dropout on, as the article's loop does; it falls with \
dropout even where the network knows as much. All other figures are of eval mode, the gap too.</li>
<li>NLL is the mean negative log-likelihood of the true class, in nats. ECE is how far confidence and \
accuracy differ, over 15 bins of equal width. Both are of the test set; lower is better.</li>
<li>Dropout helps if training accuracy is lower, test accuracy higher and the gap smaller. If test \
accuracy does not rise, the network may be underfitting: reduce the rate or increase capacity.</li>";

/// The page.
pub(super) fn page(comparison: &Comparison) -> String {
    let settings = &comparison.record.settings;
    let net = settings.net.describe(comparison.sets.sizes());
    let title = format!("Dropout compared: {net} on {}", settings.data.name());
    let headline = comparison.headline();
    let mut page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{0}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n<h1>{0}</h1>\n",
        escaped(&title)
    );
    for line in headline.lines().skip(1) {
        let _ = writeln!(page, "<p>{}</p>", escaped(line));
    }
    page += &verdicts(&comparison.arms);
    page += &figures::section(&comparison.arms);
    page += &tables::section(&comparison.arms, &comparison.seeds);
    page += &lints(&comparison.arms);
    page += &tables::words("Settings", &tables::settings(comparison));
    page += &tables::words("Machine", &machine(comparison));
    let _ = writeln!(page, "<h2>How to read it</h2>\n<ul>\n{READING}\n</ul>");
    page + "</main>\n</body>\n</html>\n"
}

fn verdicts(arms: &[Arm]) -> String {
    let Some((base, others)) = arms.split_first() else { return String::new() };
    let mut html = String::from("<h2>Verdict</h2>\n");
    for (index, arm) in others.iter().enumerate() {
        let verdict = verdict(arm, base);
        let _ = write!(
            html,
            "<div class=\"verdict c{}\">\n<p><strong>Dropout {}:</strong> {}.</p>\n",
            (index + 1) % COLOURS,
            escaped(&arm.rates),
            escaped(&verdict.sentence)
        );
        if !verdict.remarks.is_empty() {
            let items =
                verdict.remarks.iter().map(|remark| format!("<li>{}.</li>\n", escaped(remark)));
            let _ = write!(html, "<ul>\n{}</ul>\n", items.collect::<String>());
        }
        html += "</div>\n";
    }
    match super::figures::best(arms) {
        Some(best) if others.len() > 1 => {
            let _ = writeln!(
                html,
                "<p>Dropout {} has the highest test accuracy. Since the test chose it, a new test would show \
                 less.</p>",
                escaped(&best.rates)
            );
        }
        _ => {}
    }
    html
}

/// What lint says of each network.
fn lints(arms: &[Arm]) -> String {
    let mut html = String::from("<h2>Lints</h2>\n");
    for arm in arms.iter().skip(1) {
        let _ = write!(html, "<p><strong>Dropout {}</strong>", escaped(&arm.rates));
        if arm.report.findings.is_empty() {
            html += ": nothing found.</p>\n";
            continue;
        }
        html += "</p>\n<ul>\n";
        for finding in &arm.report.findings {
            let mend = finding.code.rule().mend;
            let _ = writeln!(html, "<li>{}; {}</li>", escaped(&finding.to_string()), escaped(mend));
        }
        html += "</ul>\n";
    }
    html
}

fn machine(comparison: &Comparison) -> Vec<(&'static str, String)> {
    let cores = thread::available_parallelism().map_or("unknown".into(), |cores| cores.to_string());
    vec![
        ("device", comparison.described.clone()),
        ("processors", cores),
        ("system", format!("{}, {}", std::env::consts::OS, std::env::consts::ARCH)),
        ("kiln", env!("CARGO_PKG_VERSION").into()),
    ]
}

/// Text as it is written in HTML.
fn escaped(text: &str) -> String {
    let mut html = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => html += "&amp;",
            '<' => html += "&lt;",
            '>' => html += "&gt;",
            '"' => html += "&quot;",
            _ => html.push(character),
        }
    }
    html
}
