// SPDX-License-Identifier: MIT OR Apache-2.0
//! Arguments of `kiln train`.

use std::path::PathBuf;

use clap::Args;

use crate::cli::args::FitArgs;
use crate::cli::dropout::DropoutArgs;
use crate::cli::watch::WatchArgs;

#[derive(Debug, Args)]
pub(in crate::cli) struct TrainArgs {
    #[command(flatten)]
    pub(in crate::cli) fit: FitArgs,
    #[command(flatten)]
    pub(in crate::cli) watch: WatchArgs,
    #[command(flatten)]
    pub(in crate::cli) dropout: DropoutArgs,
    /// Run directory, new or empty; runs/NET-DATA-N if not given
    #[arg(long, value_name = "DIR")]
    pub(in crate::cli) out: Option<PathBuf>,
    /// Continue the run in this directory (that of --out if not given) up to --epochs, or past the end
    /// that --patience brought with a longer one; other settings are those it began with
    #[arg(long, value_name = "DIR", num_args = 0..=1)]
    pub(in crate::cli) resume: Option<Option<PathBuf>>,
    /// With --resume and more --epochs: let the schedule span all epochs anew. The learning rate may
    /// jump. Without it, schedules that end with the epochs (cosine, one-cycle) take no more of them
    #[arg(long, requires = "resume")]
    pub(in crate::cli) stretch_schedule: bool,
    /// Print how long each step of each plan took beside what the machine gives, and write the trace
    /// trace.json to the run, which chrome://tracing and Perfetto show. On a GPU the steps are issued one
    /// by one, with events of the device's around each
    #[arg(long)]
    pub(in crate::cli) profile: bool,
}
