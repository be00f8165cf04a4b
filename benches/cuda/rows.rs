// SPDX-License-Identifier: MIT OR Apache-2.0
//! The rows: a line for people and a line of JSON each, at once.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::process::ExitCode;

use kiln::backend::cuda::{kernel_hash, DeviceInfo};
use kiln::Precision;

use super::row::{Line, Origin, Row, KILN, NOT_TIMED};
use super::{Args, Result};

/// How much work a row is.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Amount {
    pub(crate) flops: usize,
    pub(crate) bytes: usize,
}

/// Where rows go, and what they are compared with.
#[derive(Debug)]
pub(crate) struct Report {
    file: Option<File>,
    only: String,
    simulated: bool,
    origin: Origin,
    copy: Option<f64>,
    multiply_adds: BTreeMap<String, f64>,
    rows: usize,
    failed: usize,
    broken: usize,
}

impl Report {
    pub(crate) fn new(device: &DeviceInfo, args: &Args) -> Result<Self> {
        let (major, minor) = device.driver;
        Ok(Report {
            file: args.json.as_ref().map(File::create).transpose()?,
            only: args.only.clone(),
            simulated: device.simulated,
            origin: Origin {
                device: device.model.clone(),
                driver: format!("CUDA {major}.{minor}"),
                kernel_hash: kernel_hash(),
                git: std::env::var("KILN_GIT").ok().filter(|git| !git.is_empty()),
            },
            copy: None,
            multiply_adds: BTreeMap::new(),
            rows: 0,
            failed: 0,
            broken: 0,
        })
    }

    /// Whether a row of this name is asked for.
    pub(crate) fn wants(&self, name: &str) -> bool {
        name.contains(&self.only)
    }

    /// A ceiling, which later rows are told as shares of.
    pub(crate) fn ceiling(&mut self, row: Row, amount: Amount) -> Result<()> {
        if let Some([_, us, _]) = row.us {
            if amount.flops > 0 {
                self.multiply_adds.insert(row.dtype.clone(), rate(amount.flops, us));
            } else if amount.bytes > 0 {
                self.copy = Some(rate(amount.bytes, us));
            }
        }
        self.add(row, amount)
    }

    /// Completes a row by what its work comes to, and tells it.
    pub(crate) fn add(&mut self, mut row: Row, amount: Amount) -> Result<()> {
        if let Some([_, us, _]) = row.us {
            let share = |amount: usize, ceiling: Option<f64>| {
                ceiling.filter(|_| amount > 0).map(|ceiling| 100.0 * rate(amount, us) / ceiling)
            };
            row.tflops = (amount.flops > 0).then(|| rate(amount.flops, us) / 1e6);
            row.gbs = (amount.bytes > 0).then(|| rate(amount.bytes, us) / 1e3);
            row.percent_of_copy = share(amount.bytes, self.copy);
            row.percent_of_ceiling =
                share(amount.flops, self.multiply_adds.get(&row.dtype).copied())
                    .or(row.percent_of_copy);
        }
        self.rows += 1;
        self.broken += usize::from(row.broken.is_some());
        println!("{}", self.words(&row));
        let timed = match (self.simulated, row.peer == KILN, row.feed.as_deref()) {
            (true, ..) => NOT_TIMED,
            (false, false, _) | (false, true, Some("from host")) => "by the host",
            (false, true, _) => "by the device",
        };
        let line = Line { row, timed: timed.to_owned(), origin: self.origin.clone() };
        if let Some(file) = &mut self.file {
            writeln!(file, "{}", serde_json::to_string(&line)?)?;
        }
        Ok(())
    }

    /// Tells of what is not measured, and why.
    pub(crate) fn left_out(&mut self, what: &str, why: &str) {
        println!("left out: {what}: {why}");
    }

    /// Tells of what could not be measured; the rest goes on, and the run ends as a failure.
    pub(crate) fn failed(&mut self, what: &str, why: &str) {
        println!("FAILED: {what}: {why}");
        self.failed += 1;
    }

    fn words(&self, row: &Row) -> String {
        let Row { group, name, peer, shape, dtype, cache, feed, .. } = row;
        let mut words =
            format!("{group:<8} {name:<36} {peer:<13} {shape:<22} {dtype:<5} {cache:<5}");
        words += &format!(" {:<9}", feed.as_deref().unwrap_or(""));
        if let Some(why) = &row.broken {
            return words + " no figures: " + why;
        }
        match row.us {
            Some([low, middle, high]) => {
                words += &format!(" {middle:>10.2} us ({low:.2}-{high:.2})");
            }
            None => words = words + " " + NOT_TIMED,
        }
        let mut add = |value: Option<f64>, unit: &str| {
            if let Some(value) = value {
                words += &format!("  {value:.1} {unit}");
            }
        };
        add(row.tflops, "TFLOP/s");
        add(row.gbs, "GB/s");
        add(row.percent_of_ceiling, "% of its ceiling");
        if let Some(ratio) = row.ratio {
            words += &format!("  {ratio:.2} times kiln's");
        }
        if let Some(what) = &row.differs {
            words += &format!("  computes something else: {what}");
        }
        if let Some(how) = &row.compared {
            words += &format!("  takes no masks: compared {how}");
        }
        words + if row.noisy { "  noisy" } else { "" }
    }

    /// Ends the report; one without rows is a mistake. Peers that gave no figures make the exit code 2.
    pub(crate) fn finish(self) -> Result<ExitCode> {
        if self.failed > 0 {
            return Err(format!("{} of the training steps failed", self.failed).into());
        }
        match self.rows {
            0 => return Err(format!("no row is called {:?}", self.only).into()),
            rows if self.simulated => println!("{rows} rows, {NOT_TIMED}"),
            rows => println!("{rows} rows on {}", self.origin.device),
        }
        if self.broken > 0 {
            println!("some peers gave no figures: their rows say why");
            return Ok(ExitCode::from(2));
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Amount per microsecond.
fn rate(amount: usize, us: f64) -> f64 {
    amount as f64 / us
}

/// As peers and the report call a precision.
pub(crate) fn dtype(precision: Precision) -> String {
    precision.to_string()
}
