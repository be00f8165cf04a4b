// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo xtask report`: the tables of README.md and benches/README.md, from a run that was kept.

mod gpu;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::peers::record::{Record, RUNS};
use crate::peers::report::Row;
use crate::Result;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
const BEGIN: &str = "<!-- cargo xtask report writes what follows -->";
const BEGIN_GPU: &str = "<!-- cargo xtask report writes of a GPU what follows -->";
const END: &str = "<!-- until here -->";

/// Write the tables of README.md and benches/README.md from the latest run in benches/runs.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A run that `cargo xtask peers --record` kept.
    run: Option<PathBuf>,
    /// Write nothing; exit with 1 if the documents are not what the run makes them.
    #[arg(long)]
    check: bool,
}

/// What a document shows of a run by a name.
type Table = fn(&Record, &str) -> String;

/// The documents, and what each shows of a run on the CPU and of one on a GPU.
const DOCUMENTS: [(&str, Table, Table); 2] =
    [("README.md", summary, gpu::summary), ("benches/README.md", details, gpu::details)];

/// A run and its name.
type Named = (Record, String);

/// Writes or checks both documents.
pub fn run(args: &Args) -> Result<ExitCode> {
    let folder = Path::new(RUNS);
    let mut of_cpu = None;
    let mut of_gpu = None;
    if let Some(path) = &args.run {
        let named = read(path)?;
        let kind = if named.0.is_of_gpu() { &mut of_gpu } else { &mut of_cpu };
        *kind = Some(named);
    }
    let of_cpu = of_cpu.map_or_else(|| latest(folder, Record::is_of_cpu), |run| Ok(Some(run)))?;
    let (record, name) = of_cpu.ok_or_else(|| format!("{RUNS}: there is no run"))?;
    let of_gpu = of_gpu.map_or_else(|| latest(folder, Record::is_of_gpu), |run| Ok(Some(run)))?;
    let mut differ = Vec::new();
    for (document, table, gpu_table) in DOCUMENTS {
        let place = Path::new(ROOT).join(document);
        let old =
            std::fs::read_to_string(&place).map_err(|error| format!("{document}: {error}"))?;
        let gpu = match &of_gpu {
            Some((record, name)) => gpu_table(record, name),
            None => gpu::NONE.to_owned(),
        };
        let new = replaced(&old, BEGIN, &table(&record, &name))
            .and_then(|new| replaced(&new, BEGIN_GPU, &gpu))
            .ok_or_else(|| format!("{document}: expected {BEGIN}, {BEGIN_GPU} and {END}"))?;
        if new == old {
            continue;
        }
        differ.push(document);
        if !args.check {
            std::fs::write(&place, new)?;
        }
    }
    if !args.check || differ.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("{}: not what cargo xtask report makes of the runs", differ.join(", "));
    Ok(ExitCode::FAILURE)
}

fn read(path: &Path) -> Result<Named> {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
    Ok((Record::read(path)?, format!("benches/runs/{}", name.unwrap_or_default())))
}

/// The last run of a kind by its name, which begins with the date.
fn latest(folder: &Path, is_wanted: fn(&Record) -> bool) -> Result<Option<Named>> {
    let entries = std::fs::read_dir(folder).map_err(|error| format!("{RUNS}: {error}"))?;
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let mut paths: Vec<PathBuf> =
        paths.filter(|path| path.extension().is_some_and(|kind| kind == "json")).collect();
    paths.sort();
    for path in paths.iter().rev() {
        let named = read(path)?;
        if is_wanted(&named.0) {
            return Ok(Some(named));
        }
    }
    Ok(None)
}

/// A document with another text between a mark and the end that follows.
fn replaced(document: &str, mark: &str, text: &str) -> Option<String> {
    let begin = document.find(mark)? + mark.len();
    let end = begin + document[begin..].find(END)?;
    Some(format!("{}\n{text}{}", &document[..begin], &document[end..]))
}

/// Ratios of the training steps, one line for each case and number of threads.
fn summary(record: &Record, name: &str) -> String {
    let mut text = origin(record, name);
    let peers = peers(record);
    let _ = writeln!(text, "\n| training step | threads | kiln | {} |", peers.join(" | "));
    let _ = writeln!(text, "|---|---|---|{}", "---|".repeat(peers.len()));
    for kiln in rows_of(record, "kiln").filter(|row| is_training(&row.case)) {
        let ratios = peers.iter().map(|peer| match of(record, kiln, peer) {
            Some(row) => ratio(row),
            None => "-".into(),
        });
        let ratios: Vec<String> = ratios.collect();
        let (name, ms) = (describe(&kiln.case), number(kiln.ms, 2));
        let _ = writeln!(text, "| {name} | {} | {ms} ms | {} |", kiln.threads, ratios.join(" | "));
    }
    text.push_str("\nRatios are times of the others over kiln's. ");
    let slower: Vec<String> = record
        .report
        .rows
        .iter()
        .filter(|row| row.ratio.is_some_and(|ratio| ratio < 1.0) && row.peer != "kiln-singles")
        .map(|row| format!("{} of `{}` with {} threads", row.peer, row.case, row.threads))
        .collect();
    text + &behind(&slower)
}

/// In which rows kiln is slower, as a sentence.
fn behind(rows: &[String]) -> String {
    match rows {
        [] => "kiln is behind in no row.\n".into(),
        rows => format!("kiln is behind {}.\n", rows.join(", ")),
    }
}

/// All rows, and what the processes cost.
fn details(record: &Record, name: &str) -> String {
    let mut text = origin(record, name);
    let _ = writeln!(text, "\n| case | threads | | ms | p99 ms | samples/s | share | ratio |");
    text.push_str("|---|---|---|---|---|---|---|---|\n");
    for row in &record.report.rows {
        let (ms, slow) = (number(row.ms, 3), number(row.slow_ms, 3));
        let (samples, share) = (number(row.samples_per_s, 0), number(row.share, 3));
        let _ = writeln!(
            text,
            "| {} | {} | {} | {ms} | {slow} | {samples} | {share} | {} |",
            row.case,
            row.threads,
            row.peer,
            ratio(row)
        );
    }
    if !record.report.costs.is_empty() {
        text.push_str(
            "\n| process | first step ms | peak MiB | program MiB |\n|---|---|---|---|\n",
        );
    }
    for cost in &record.report.costs {
        let (first, peak) = (number(cost.first_step_ms, 0), number(cost.peak_mib, 0));
        let size = number(cost.program_mib, 1);
        let _ = writeln!(text, "| {} | {first} | {peak} | {size} |", cost.peer);
    }
    text
}

/// When, where and how.
fn origin(record: &Record, name: &str) -> String {
    let Record { date, machine, command, report, .. } = record;
    let versions: Vec<String> =
        report.versions.iter().map(|(library, version)| format!("{library} {version}")).collect();
    let load = machine.load.map_or(String::new(), |load| format!(", load {load:.1}"));
    let noisy = report.rows.iter().filter(|row| row.noisy).count();
    let rows = report.rows.len();
    format!(
        "`{command}` on {date}: {} processors of {}, {}{load}; {}. {noisy} of {rows} rows were noisy. \
         Every round is in `{name}`.\n",
        machine.processors,
        machine.cpu,
        machine.instructions,
        versions.join(", "),
    )
}

/// The peers of a run, in the order of its rows.
fn peers(record: &Record) -> Vec<&str> {
    let mut peers: Vec<&str> = Vec::new();
    for row in record.report.rows.iter().filter(|row| is_training(&row.case)) {
        if row.peer != "kiln" && !peers.contains(&row.peer.as_str()) {
            peers.push(&row.peer);
        }
    }
    peers
}

fn rows_of<'a>(record: &'a Record, peer: &'a str) -> impl Iterator<Item = &'a Row> {
    record.report.rows.iter().filter(move |row| row.peer == peer)
}

/// A peer's row beside one of kiln's.
fn of<'a>(record: &'a Record, kiln: &Row, peer: &'a str) -> Option<&'a Row> {
    rows_of(record, peer).find(|row| row.case == kiln.case && row.threads == kiln.threads)
}

fn is_training(case: &str) -> bool {
    case.ends_with("sgd") || case.ends_with("adam")
}

fn ratio(row: &Row) -> String {
    match (row.ratio, &row.differs, &row.broken) {
        (Some(ratio), ..) => {
            let how = row.compared.as_ref().map_or(String::new(), |how| format!(" ({how})"));
            format!("{ratio:.2}{how}")
        }
        (None, Some(_), _) => "differs".into(),
        (None, None, Some(_)) => "no figures".into(),
        (None, None, None) => String::new(),
    }
}

fn number(value: Option<f64>, digits: usize) -> String {
    value.map_or("-".into(), |value| format!("{value:.digits$}"))
}

/// A case in words.
fn describe(case: &str) -> String {
    let network = match case.chars().next() {
        Some('a') => "SimpleNet",
        Some('b') => "VariableDropoutNet",
        Some('c') => "Cnn",
        Some('d') => "RnnClassifier",
        Some('e') => "ResidualBlock",
        Some('f') => "SpatialDropoutCnn",
        Some('g') => "ResnetSmall",
        _ => return case.to_owned(),
    };
    let rest = &case[1..];
    let digits = rest.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(rest.len());
    let (batch, rule) = rest.split_at(digits);
    format!("{network}, batch {batch}, {rule}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        let run = r#"{
            "date": "2026-11-23", "command": "cargo xtask peers --record", "features": {},
            "machine": {"cpu": "Z", "processors": 2, "instructions": "AVX2", "system": "linux", "load": 0.5},
            "versions": {"torch": "2.15.0"}, "costs": [],
            "rows": [
                {"case": "a64sgd", "threads": 1, "peer": "kiln", "ms": 1.5, "noisy": false, "rounds_ms": []},
                {"case": "a64sgd", "threads": 1, "peer": "torch-eager", "ms": 3.0, "ratio": 2.0,
                 "noisy": true, "rounds_ms": []},
                {"case": "a64sgd", "threads": 1, "peer": "candle", "differs": "loss", "noisy": false, "rounds_ms": []},
                {"case": "a1eval", "threads": 1, "peer": "kiln", "ms": 0.1, "noisy": false, "rounds_ms": []},
                {"case": "a1eval", "threads": 1, "peer": "burn", "ms": 0.05, "ratio": 0.5,
                 "noisy": false, "rounds_ms": []}
            ]}"#;
        serde_json::from_str(run).expect("a run")
    }

    #[test]
    fn the_summary_has_a_line_for_each_training_and_says_where_kiln_is_behind() {
        let text = summary(&record(), "benches/runs/R.json");
        assert!(
            text.contains("| training step | threads | kiln | torch-eager | candle |"),
            "{text}"
        );
        assert!(
            text.contains("| SimpleNet, batch 64, sgd | 1 | 1.50 ms | 2.00 | differs |"),
            "{text}"
        );
        assert!(text.contains("1 of 5 rows were noisy"), "{text}");
        assert!(text.ends_with("kiln is behind burn of `a1eval` with 1 threads.\n"), "{text}");
        assert!(
            details(&record(), "R").contains("| a1eval | 1 | burn | 0.050 | - | - | - | 0.50 |")
        );
    }

    #[test]
    fn a_document_changes_between_its_marks_alone() {
        let document = format!("before\n{BEGIN}\nold\n{END}\nafter\n{BEGIN_GPU}\n{END}\n");
        let new = replaced(&document, BEGIN, "new\n").expect("marks");
        assert_eq!(new, format!("before\n{BEGIN}\nnew\n{END}\nafter\n{BEGIN_GPU}\n{END}\n"));
        assert_eq!(replaced(&new, BEGIN, "new\n"), Some(new.clone()));
        let both = replaced(&new, BEGIN_GPU, "fast\n").expect("marks");
        assert!(both.ends_with(&format!("after\n{BEGIN_GPU}\nfast\n{END}\n")), "{both}");
        assert_eq!(replaced("no marks", BEGIN, "new"), None);
    }
}
