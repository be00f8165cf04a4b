// SPDX-License-Identifier: MIT OR Apache-2.0
//! Arguments about what is watched.

use std::num::{NonZeroU64, NonZeroUsize};
use std::path::PathBuf;

use clap::Args;

use super::{MetricName, ThresholdMode};

#[derive(Debug, Default, Args)]
pub(in crate::cli) struct WatchArgs {
    /// The figure by which epochs are compared; test-loss if not given. With it or --patience, the
    /// checkpoint of the best epoch is kept in the folder best of the run, which eval and predict take
    #[arg(long, value_enum, value_name = "METRIC")]
    pub(in crate::cli) monitor: Option<MetricName>,
    /// End the training after so many epochs in a row that are not better than the best before them
    #[arg(long, value_name = "N")]
    pub(in crate::cli) patience: Option<NonZeroUsize>,
    /// By how much an epoch must be better to count for --patience
    #[arg(long, value_name = "DELTA", allow_negative_numbers = true, requires = "patience")]
    pub(in crate::cli) min_delta: Option<f64>,
    /// What --schedule plateau multiplies the learning rate by; 0.1 if not given
    #[arg(long, value_name = "FACTOR", allow_negative_numbers = true)]
    pub(in crate::cli) plateau_factor: Option<f64>,
    /// Epochs in a row without a better figure after which it falls, but for one more; 10 if not given
    #[arg(long, value_name = "N")]
    pub(in crate::cli) plateau_patience: Option<u64>,
    /// By how much a figure must be better to count; 0.0001 if not given
    #[arg(long, value_name = "LEAST", allow_negative_numbers = true)]
    pub(in crate::cli) plateau_threshold: Option<f64>,
    /// Whether that is a share of the best or a difference; rel if not given
    #[arg(long, value_enum, value_name = "MODE")]
    pub(in crate::cli) plateau_threshold_mode: Option<ThresholdMode>,
    /// Epochs after a fall that do not count
    #[arg(long, value_name = "N")]
    pub(in crate::cli) plateau_cooldown: Option<u64>,
    /// The learning rate below which --schedule plateau does not fall
    #[arg(long, value_name = "RATE", allow_negative_numbers = true)]
    pub(in crate::cli) min_lr: Option<f64>,
    /// Write curves for TensorBoard to this directory; to the folder tensorboard of the run if none is
    /// given
    #[arg(long, value_name = "DIR", num_args = 0..=1)]
    pub(in crate::cli) tensorboard: Option<Option<PathBuf>>,
    /// Steps between two points of the curves by step; 10 if not given
    #[arg(long, value_name = "N", requires = "tensorboard")]
    pub(in crate::cli) tensorboard_every: Option<NonZeroU64>,
    /// Add histograms of weights, gradients and activations after every so many epochs; if it is not said
    /// how many, as often as leaves all of watching below 1% of the time: never in a training of a second
    #[arg(long, value_name = "EPOCHS", requires = "tensorboard", num_args = 0..=1)]
    pub(in crate::cli) histograms: Option<Option<NonZeroU64>>,
}
