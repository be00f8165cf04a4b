// SPDX-License-Identifier: MIT OR Apache-2.0
//! Arguments of `kiln verify`.

use std::ffi::OsString;
use std::num::{NonZeroU64, NonZeroUsize};

use clap::Args;

use crate::cli::args::{DataArgs, NetArgs, StepArgs};

#[derive(Debug, Args)]
pub(in crate::cli) struct VerifyArgs {
    #[command(flatten)]
    pub(super) net: NetArgs,
    #[command(flatten)]
    pub(super) data: DataArgs,
    #[command(flatten)]
    pub(super) step: StepArgs,
    /// Steps to train: after the first of them tensors may differ by 1e-5 of their largest element,
    /// after more by 1e-4
    #[arg(long, value_name = "N", default_value = "1")]
    pub(super) steps: NonZeroUsize,
    /// Seed of parameters and masks, and of the order of the samples
    #[arg(long, default_value_t = 0)]
    pub(super) seed: u64,
    /// Leave PyTorch's script as it is: it draws its parameters and masks from this seed, and kiln takes
    /// the same. On the CPU
    #[arg(long, value_name = "SEED")]
    pub(super) torch_seed: Option<u64>,
    /// A Python with PyTorch 2.0 or later; what TORCH_PYTHON names, or else python3, if not given
    #[arg(long, value_name = "FILE")]
    pub(super) python: Option<OsString>,
    /// Seconds after which Python is stopped
    #[arg(long, value_name = "SECONDS", default_value = "600")]
    pub(super) timeout: NonZeroU64,
}
