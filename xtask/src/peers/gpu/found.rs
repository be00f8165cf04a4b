// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the bench on a GPU wrote, for people and for programs.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::row::{Line, Origin, Row, CEILING, KILN, NOT_TIMED, STEP};
use crate::Result;

/// All rows of a run on one device.
#[derive(Debug, Default, Deserialize, Serialize)]
pub(crate) struct Found {
    #[serde(flatten)]
    pub(crate) origin: Origin,
    /// Whether there are times: a simulated device has none.
    pub(crate) is_timed: bool,
    /// What the libraries beside kiln call themselves.
    pub(crate) versions: BTreeMap<String, String>,
    pub(crate) rows: Vec<Row>,
}

impl Found {
    /// Reads a line for each row. A last line that was cut off is left out.
    ///
    /// # Errors
    /// Any other line that is no row, and rows of several devices.
    pub(crate) fn read(text: &str) -> Result<Self> {
        let mut found = Found { is_timed: true, ..Found::default() };
        for (number, text) in text.split_inclusive('\n').enumerate() {
            let Line { row, timed, origin } = match serde_json::from_str(text) {
                Ok(line) => line,
                Err(_) if !text.ends_with('\n') => break,
                Err(error) => return Err(format!("row {}: {error}", number + 1).into()),
            };
            if found.rows.is_empty() {
                found.origin = origin;
            } else if found.origin != origin {
                return Err(format!("row {}: of another device or program", number + 1).into());
            }
            found.is_timed &= timed != NOT_TIMED;
            if let Some(version) = &row.version {
                found.versions.insert(library(&row).to_owned(), version.clone());
            }
            found.rows.push(row);
        }
        Ok(found)
    }

    /// What the device reaches at most.
    pub(crate) fn ceilings(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(|row| row.group == CEILING)
    }

    /// Training steps, kiln's and its peers'.
    pub(crate) fn steps(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(|row| row.group == STEP)
    }

    /// The fastest of the ways in which a library makes the step of one of kiln's rows and computes the same; if there is
    /// none, one that says why.
    pub(crate) fn best<'a>(&'a self, kiln: &Row, of: &str) -> Option<&'a Row> {
        let is_it = |row: &&Row| {
            (&row.name, &row.dtype, &row.feed) == (&kiln.name, &kiln.dtype, &kiln.feed)
                && row.peer != KILN
                && library(row) == of
        };
        let last = |row: &Row| row.ratio.unwrap_or(f64::INFINITY);
        self.steps().filter(is_it).min_by(|a, b| last(a).total_cmp(&last(b)))
    }
}

/// Of a peer's row, its library.
pub(crate) fn library(row: &Row) -> &str {
    row.peer.split('-').next().unwrap_or(&row.peer)
}

/// What a ceiling comes to.
pub(crate) fn rate(row: &Row) -> String {
    match (row.tflops, row.gbs, row.us) {
        (Some(tflops), ..) => format!("{tflops:.1} TFLOP/s"),
        (None, Some(gbs), _) => format!("{gbs:.0} GB/s"),
        (None, None, Some([_, us, _])) => format!("{us:.2} us"),
        (None, None, None) => NOT_TIMED.into(),
    }
}

pub(crate) fn number(value: Option<f64>, digits: usize) -> String {
    value.map_or("-".into(), |value| format!("{value:.digits$}"))
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Origin { device, driver, kernel_hash, .. } = &self.origin;
        writeln!(f, "{device}, {driver}, kernels {kernel_hash}")?;
        for (library, version) in &self.versions {
            writeln!(f, "{library} {version}")?;
        }
        for row in self.ceilings() {
            writeln!(f, "ceiling: {} ({}) {}", row.name, row.cache, rate(row))?;
        }
        writeln!(f, "ratio = a peer's time / kiln's, median over the rounds")?;
        writeln!(f, "share = of the multiply-adds that the device made in registers, in percent")?;
        write!(
            f,
            "{:<22} {:<9} {:<9} {:<14} {:>10} {:>19} {:>6} {:>6} {:>13}",
            "training step",
            "precision",
            "inputs",
            "peer",
            "us",
            "(10 %-90 %)",
            "share",
            "ratio",
            "(min-max)"
        )?;
        self.steps().try_for_each(|row| write!(f, "\n{}", Shown(row)))
    }
}

/// A row of the table.
struct Shown<'a>(&'a Row);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let row = self.0;
        let feed = row.feed.as_deref().unwrap_or("");
        write!(f, "{:<22} {:<9} {feed:<9} {:<14}", row.name, row.dtype, row.peer)?;
        if let Some(why) = &row.broken {
            return write!(f, " no figures: {why}");
        }
        match row.us {
            None => write!(f, " {NOT_TIMED}")?,
            Some([low, middle, high]) => {
                let range = format!("({low:.1}-{high:.1})");
                let ratios = row.ratio_range.map(|[least, most]| format!("({least:.2}-{most:.2})"));
                write!(
                    f,
                    " {middle:>10.1} {range:>19} {:>6} {:>6} {:>13}",
                    number(row.percent_of_ceiling, 1),
                    number(row.ratio, 2),
                    ratios.unwrap_or_default(),
                )?;
            }
        }
        if let Some(what) = &row.differs {
            write!(f, "  computes something else: {what}")?;
        }
        if let Some(how) = &row.compared {
            write!(f, "  takes no masks: compared {how}")?;
        }
        f.write_str(if row.noisy { "  noisy" } else { "" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(peer: &str, device: &str, ratio: Option<f64>) -> String {
        let row = Row {
            group: STEP.into(),
            name: "simple:64:adam".into(),
            peer: peer.into(),
            version: (peer != KILN).then(|| "2".into()),
            ratio,
            ..Row::default()
        };
        let origin = Origin { device: device.into(), ..Origin::default() };
        let line = Line { row, timed: "by the device".into(), origin };
        serde_json::to_string(&line).expect("JSON") + "\n"
    }

    #[test]
    fn rows_are_read_until_one_is_cut_off() {
        let rows = [line(KILN, "G", None), line("torch-graph", "G", Some(2.0))].concat();
        let found = Found::read(&format!("{rows}{{\"group\": \"st")).expect("rows");
        assert_eq!((found.rows.len(), found.is_timed), (2, true));
        assert_eq!(found.origin.device, "G");
        assert_eq!(found.versions["torch"], "2");
        let said = |text: &str| Found::read(text).expect_err("no rows").to_string();
        assert!(said(&format!("{rows}nonsense\n{rows}")).starts_with("row 3: "));
        let other = said(&(rows + &line(KILN, "H", None)));
        assert_eq!(other, "row 3: of another device or program");
    }

    /// What computes something else is no way at all, as long as there is another.
    #[test]
    fn a_library_is_as_fast_as_its_fastest_way() {
        let ways = [("eager", Some(3.0)), ("fused", None), ("graph", Some(1.5))];
        let mut text = line(KILN, "G", None) + &line("burn", "G", None);
        for (way, ratio) in ways {
            text += &line(&format!("torch-{way}"), "G", ratio);
        }
        let found = Found::read(&text).expect("rows");
        let best = |of| found.best(&found.rows[0], of).map(|row| row.peer.as_str());
        assert_eq!(
            [best("torch"), best("burn"), best("candle")],
            [Some("torch-graph"), Some("burn"), None]
        );
    }
}
