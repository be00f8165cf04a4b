// SPDX-License-Identifier: MIT OR Apache-2.0
//! The tables of a run on a GPU.

use std::fmt::Write as _;

use crate::peers::gpu::found::{library, number, rate};
use crate::peers::gpu::row::{Row, KILN};
use crate::peers::gpu::Found;
use crate::peers::record::Record;

/// What the documents say as long as nobody kept a run.
pub(super) const NONE: &str =
    "No run on a GPU has been kept in `benches/runs`, so there is no figure of one here.\n";

/// Ratios of the training steps, one line for each, beside the fastest way of each library.
pub(super) fn summary(record: &Record, name: &str) -> String {
    let Some(found) = &record.gpu else { return NONE.to_owned() };
    let mut text = origin(record, found, name);
    let libraries = libraries(found);
    let columns: String = libraries.iter().map(|library| format!(" {library} |")).collect();
    let _ = writeln!(text, "\n| training step | precision | inputs | kiln |{columns}");
    let _ = writeln!(text, "|---|---|---|---|{}", "---|".repeat(libraries.len()));
    let mut behind = Vec::new();
    for kiln in found.steps().filter(|row| row.peer == KILN) {
        let us = kiln.us.map(|[_, us, _]| us);
        let _ = write!(text, "| {} | {} us |", place(kiln), number(us, 1));
        for of in &libraries {
            let best = found.best(kiln, of);
            let _ = write!(text, " {} |", best.map_or("-".into(), ratio));
            behind.extend(best.filter(|row| row.ratio.is_some_and(|ratio| ratio < 1.0)));
        }
        text.push('\n');
    }
    text.push_str("\nRatios are times of the others, each run as it is fastest, over kiln's. ");
    let slower: Vec<String> = behind
        .into_iter()
        .map(|row| format!("{} of `{}` in {} ({})", row.peer, row.name, row.dtype, feed(row)))
        .collect();
    text + &super::behind(&slower)
}

/// All rows, and what they are shares of.
pub(super) fn details(record: &Record, name: &str) -> String {
    let Some(found) = &record.gpu else { return NONE.to_owned() };
    let mut text = origin(record, found, name);
    text.push_str("\n| ceiling | |\n|---|---|\n");
    for row in found.ceilings() {
        let _ = writeln!(text, "| {} ({}) | {} |", row.name, row.cache, rate(row));
    }
    text.push_str("\n| training step | precision | inputs | | us | share % | ratio |\n");
    text.push_str("|---|---|---|---|---|---|---|\n");
    for row in found.steps() {
        let us = number(row.us.map(|[_, us, _]| us), 1);
        let share = number(row.percent_of_ceiling, 1);
        let of_kiln = if row.peer == KILN { String::new() } else { ratio(row) };
        let _ = writeln!(text, "| {} | {} | {us} | {share} | {of_kiln} |", place(row), row.peer);
    }
    text
}

/// When, where and how.
fn origin(record: &Record, found: &Found, name: &str) -> String {
    let Record { date, machine, command, .. } = record;
    let mut versions: Vec<String> =
        found.versions.iter().map(|(library, version)| format!("{library} {version}")).collect();
    if versions.is_empty() {
        versions.push("alone".into());
    }
    let noisy = found.rows.iter().filter(|row| row.noisy).count();
    format!(
        "`{command}` on {date}: {}, {}, beside {}; {}. {noisy} of {} rows were noisy. \
         Every round is in `{name}`.\n",
        found.origin.device,
        found.origin.driver,
        machine.cpu,
        versions.join(", "),
        found.rows.len(),
    )
}

/// Those that took turns, in the order of the rows.
fn libraries(found: &Found) -> Vec<&str> {
    let mut libraries: Vec<&str> = Vec::new();
    for row in found.steps().filter(|row| row.peer != KILN) {
        if !libraries.contains(&library(row)) {
            libraries.push(library(row));
        }
    }
    libraries
}

/// Training step, precision and inputs.
fn place(row: &Row) -> String {
    format!("{} | {} | {}", row.name, row.dtype, feed(row))
}

fn feed(row: &Row) -> &str {
    row.feed.as_deref().unwrap_or("")
}

fn ratio(row: &Row) -> String {
    let way = row.peer.split_once('-').map_or(String::new(), |(_, way)| format!(" ({way})"));
    match (row.ratio, &row.differs, &row.broken) {
        (Some(ratio), ..) => {
            let how = row.compared.as_ref().map_or(String::new(), |how| format!(" ({how})"));
            format!("{ratio:.2}{way}{how}")
        }
        (None, Some(_), _) => "differs".into(),
        (None, None, Some(_)) => "no figures".into(),
        (None, None, None) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made up: nobody measured this.
    fn record() -> Record {
        let rest = r#""shape": "", "cache": "warm", "rounds_us": [], "noisy": false"#;
        let step = format!(
            r#""group": "step", "name": "simple:64:adam", "dtype": "f32", "feed": "resident", {rest}"#
        );
        let run = format!(
            r#"{{
            "date": "2000-01-01", "command": "cargo xtask peers --device cuda --record", "features": {{}},
            "machine": {{"cpu": "Z", "processors": 2, "instructions": "AVX2", "system": "linux", "load": 0.5}},
            "versions": {{}}, "costs": [], "rows": [],
            "gpu": {{
                "device": "an invented GPU", "driver": "CUDA 13.0", "kernel_hash": "1", "is_timed": true,
                "versions": {{"torch": "2.15.0"}},
                "rows": [
                    {{"group": "ceiling", "name": "copy", "peer": "kiln", "dtype": "", "gbs": 100.0, {rest}}},
                    {{{step}, "peer": "kiln", "us": [19.0, 20.0, 21.0], "percent_of_ceiling": 40.0}},
                    {{{step}, "peer": "torch-eager", "us": [59.0, 60.0, 61.0], "ratio": 3.0}},
                    {{{step}, "peer": "torch-graph", "us": [17.0, 18.0, 19.0], "ratio": 0.9}},
                    {{{step}, "peer": "burn", "us": [17.0, 18.0, 19.0], "differs": "loss"}}
                ]
            }}}}"#
        );
        serde_json::from_str(&run).expect("a run")
    }

    #[test]
    fn the_summary_has_each_library_at_its_fastest_and_says_where_kiln_is_behind() {
        let text = summary(&record(), "benches/runs/R.json");
        for line in [
            "| training step | precision | inputs | kiln | torch | burn |",
            "| simple:64:adam | f32 | resident | 20.0 us | 0.90 (graph) | differs |",
            "an invented GPU, CUDA 13.0, beside Z; torch 2.15.0. 0 of 5 rows were noisy.",
        ] {
            assert!(text.contains(line), "{text}");
        }
        let end = "kiln is behind torch-graph of `simple:64:adam` in f32 (resident).\n";
        assert!(text.ends_with(end), "{text}");
    }

    #[test]
    fn the_details_have_every_row_and_the_ceilings() {
        let text = details(&record(), "R");
        for line in [
            "| copy (warm) | 100 GB/s |",
            "| simple:64:adam | f32 | resident | kiln | 20.0 | 40.0 |  |",
            "| simple:64:adam | f32 | resident | torch-eager | 60.0 | - | 3.00 (eager) |",
        ] {
            assert!(text.contains(line), "{text}");
        }
    }
}
