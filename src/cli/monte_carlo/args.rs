// SPDX-License-Identifier: MIT OR Apache-2.0
//! Arguments of Monte Carlo dropout.

use clap::{Args, ValueEnum};
use kiln::{Draws, Dropouts, Error, Masks, Result};

#[derive(Debug, Default, Args)]
pub(in crate::cli) struct MonteCarloArgs {
    /// Draw each sample K times with dropout left on, and compare the mean with a single pass, without and
    /// with temperature scaling
    #[arg(long, value_name = "K")]
    monte_carlo: Option<usize>,
    /// What has masks of its own; per-sample if not given
    #[arg(long, value_enum, value_name = "WHAT", requires = "monte_carlo")]
    masks: Option<MasksName>,
    /// Which dropouts are left on; all if not given
    #[arg(long, value_enum, value_name = "WHICH", requires = "monte_carlo")]
    dropout: Option<DropoutsName>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum MasksName {
    /// Each draw of each sample
    PerSample,
    /// Each draw, for all samples alike
    Consistent,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum DropoutsName {
    All,
    /// The last one alone
    Last,
}

impl MonteCarloArgs {
    /// The draws that are asked for.
    pub(in crate::cli) fn draws(&self) -> Result<Option<Draws>> {
        let Some(count) = self.monte_carlo else { return Ok(None) };
        if count < 2 {
            let expected = "2 draws or more, whose spread tells something";
            return Err(Error::argument("monte-carlo", expected, count));
        }
        let masks = match self.masks {
            None | Some(MasksName::PerSample) => Masks::PerSample,
            Some(MasksName::Consistent) => Masks::Consistent,
        };
        let dropouts = match self.dropout {
            None | Some(DropoutsName::All) => Dropouts::All,
            Some(DropoutsName::Last) => Dropouts::Last,
        };
        Ok(Some(Draws { count, masks, dropouts }))
    }
}
