// SPDX-License-Identifier: MIT OR Apache-2.0
//! A measurement on a GPU, as `cargo bench --bench cuda` writes it and `cargo xtask peers` reads it.

use serde::{Deserialize, Serialize};

/// Whose time a row tells, where it is no peer's.
pub(crate) const KILN: &str = "kiln";
/// What a simulated device's rows say in place of who held the clock.
pub(crate) const NOT_TIMED: &str = "simulated: not timed";
/// The group of training steps.
pub(crate) const STEP: &str = "step";
/// The group of what the device reaches at most.
pub(crate) const CEILING: &str = "ceiling";

/// One measurement. Of a simulated device, and of a peer that gave no figures, it has no time.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Row {
    /// `ceiling`, `step`, `product` or `kernel`.
    pub(crate) group: String,
    pub(crate) name: String,
    /// `kiln`, or a library and the way in which it runs: `torch-graph`.
    pub(crate) peer: String,
    /// Of its library, unless that is kiln.
    pub(crate) version: Option<String>,
    pub(crate) shape: String,
    pub(crate) dtype: String,
    /// What the second-level cache held: `warm` or `cold`.
    pub(crate) cache: String,
    /// Where inputs are when a step begins: `resident` on the device, or `from host`.
    pub(crate) feed: Option<String>,
    /// 10th, 50th and 90th percentile, in microseconds.
    pub(crate) us: Option<[f64; 3]>,
    /// The median of each round, in microseconds, where peers take turns.
    pub(crate) rounds_us: Vec<f64>,
    pub(crate) tflops: Option<f64>,
    pub(crate) gbs: Option<f64>,
    /// Of the measured copy, by bytes.
    pub(crate) percent_of_copy: Option<f64>,
    /// Of the measured multiply-adds where there are any, else of the copy.
    pub(crate) percent_of_ceiling: Option<f64>,
    /// Median over the rounds of the peer's time divided by kiln's, if both compute the same; least and most of them.
    pub(crate) ratio: Option<f64>,
    pub(crate) ratio_range: Option<[f64; 2]>,
    /// Whether even the middle half of the rounds lies too far apart to trust the median.
    pub(crate) noisy: bool,
    /// What it was compared with instead of the case: it takes no masks.
    pub(crate) compared: Option<String>,
    /// What it computes instead of what kiln does.
    pub(crate) differs: Option<String>,
    /// Why it gave no figures.
    pub(crate) broken: Option<String>,
    pub(crate) grid: Option<[u32; 3]>,
}

/// What a row was measured on.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub(crate) struct Origin {
    pub(crate) device: String,
    pub(crate) driver: String,
    pub(crate) kernel_hash: String,
    pub(crate) git: Option<String>,
}

/// A line of a file of measurements.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Line {
    #[serde(flatten)]
    pub(crate) row: Row,
    /// Who held the clock.
    pub(crate) timed: String,
    #[serde(flatten)]
    pub(crate) origin: Origin,
}
