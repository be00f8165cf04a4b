// SPDX-License-Identifier: MIT OR Apache-2.0
//! The rows: a line for people and a line of JSON each, at once.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;

use kiln::backend::cuda::{kernel_hash, DeviceInfo};
use kiln::Precision;
use serde::Serialize;

use super::{Args, Result};

/// One measurement. Of a simulated device it has no time.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Row {
    /// `ceiling`, `step`, `product` or `kernel`.
    pub(crate) group: &'static str,
    pub(crate) name: String,
    pub(crate) shape: String,
    pub(crate) dtype: String,
    /// What the second-level cache held: `warm` or `cold`.
    pub(crate) cache: &'static str,
    /// Where inputs are when a step begins: `resident` on the device, or `from host`.
    pub(crate) feed: Option<&'static str>,
    /// 10th, 50th and 90th percentile, in microseconds.
    pub(crate) us: Option<[f64; 3]>,
    pub(crate) tflops: Option<f64>,
    pub(crate) gbs: Option<f64>,
    /// Of the measured copy, by bytes.
    pub(crate) percent_of_copy: Option<f64>,
    /// Of the measured multiply-adds where there are any, else of the copy.
    pub(crate) percent_of_ceiling: Option<f64>,
    /// Of PyTorch's rate at the same product.
    pub(crate) percent_of_torch: Option<f64>,
    /// PyTorch's time divided by kiln's, for each way to run it.
    pub(crate) torch: Option<BTreeMap<String, f64>>,
    pub(crate) grid: Option<[u32; 3]>,
}

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
}

/// What a row was measured on.
#[derive(Clone, Debug, Serialize)]
struct Origin {
    device: String,
    driver: String,
    kernel_hash: String,
    git: Option<String>,
}

#[derive(Serialize)]
struct Line<'a> {
    #[serde(flatten)]
    row: &'a Row,
    timed: &'static str,
    #[serde(flatten)]
    origin: &'a Origin,
}

const NOT_TIMED: &str = "simulated: not timed";

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
        println!("{}", self.words(&row));
        let timed = match (self.simulated, row.feed) {
            (true, _) => NOT_TIMED,
            (false, Some("from host")) => "by the host",
            (false, _) => "by the device",
        };
        let line = serde_json::to_string(&Line { row: &row, timed, origin: &self.origin })?;
        if let Some(file) = &mut self.file {
            writeln!(file, "{line}")?;
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
        let Row { group, name, shape, dtype, cache, feed, .. } = row;
        let mut words = format!("{group:<8} {name:<36} {shape:<22} {dtype:<5} {cache:<5}");
        words += &format!(" {:<9}", feed.unwrap_or(""));
        let Some([low, middle, high]) = row.us else { return words + NOT_TIMED };
        words += &format!(" {middle:>10.2} us ({low:.2}-{high:.2})");
        let mut add = |value: Option<f64>, unit: &str| {
            if let Some(value) = value {
                words += &format!("  {value:.1} {unit}");
            }
        };
        add(row.tflops, "TFLOP/s");
        add(row.gbs, "GB/s");
        add(row.percent_of_ceiling, "% of its ceiling");
        add(row.percent_of_torch, "% of torch");
        for (mode, &ratio) in row.torch.iter().flatten() {
            add(Some(ratio), &format!("x torch {mode}"));
        }
        words
    }

    /// Ends the report; one without rows is a mistake.
    pub(crate) fn finish(self) -> Result<()> {
        if self.failed > 0 {
            return Err(format!("{} of the training steps failed", self.failed).into());
        }
        match self.rows {
            0 => Err(format!("no row is called {:?}", self.only).into()),
            rows if self.simulated => {
                println!("{rows} rows, {NOT_TIMED}");
                Ok(())
            }
            rows => {
                println!("{rows} rows on {}", self.origin.device);
                Ok(())
            }
        }
    }
}

/// Amount per microsecond.
fn rate(amount: usize, us: f64) -> f64 {
    amount as f64 / us
}

/// As PyTorch's side and the report call a precision.
pub(crate) fn dtype(precision: Precision) -> String {
    precision.to_string()
}
