// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a comparison is made of, as its directory keeps it.

use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use kiln::checkpoint::write_atomically;
use kiln::{Error, Result};
use serde::{Deserialize, Serialize};

use super::args::CompareArgs;
use crate::cli::args::Common;
use crate::cli::rates::Rates;
use crate::cli::settings::{conflict, NetSettings, Settings, Stretch};

/// Name of the file in a comparison's directory.
pub(super) const RECORD_FILE: &str = "compare.json";

/// More seeds than anybody trains from.
const MOST_SEEDS: u64 = 10_000;

/// Everything that the results of a comparison depend on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Record {
    /// Those that all trainings share, with the first of the seeds.
    pub(super) settings: Settings,
    /// The networks, the first without dropout.
    pub(super) arms: Vec<NetSettings>,
    pub(super) seeds: NonZeroUsize,
}

impl Record {
    /// Reads that of a comparison that is to go on.
    pub(super) fn read(directory: &Path) -> Result<Self> {
        let path = directory.join(RECORD_FILE);
        let text = fs::read(&path).map_err(Error::io("read", &path))?;
        let damaged = |what: String| Error::Checkpoint { path, mismatches: vec![what] };
        let record: Record = match serde_json::from_slice(&text) {
            Ok(record) => record,
            Err(error) => return Err(damaged(format!("not a comparison: {error}"))),
        };
        let without = record.settings.net.with_rates(Rates::All(0.0));
        match record.arms.len() > 1 && record.arms[0] == without {
            true => Ok(record),
            false => Err(damaged("networks: expected one without dropout, and others".into())),
        }
    }

    pub(super) fn write(&self, directory: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)
            .map_err(|error| Error::Internal { pass: "compare", message: error.to_string() })?;
        write_atomically(directory.join(RECORD_FILE), (text + "\n").as_bytes())
    }

    /// That of a comparison which goes on: its own, with more seeds if so many are asked for. Whatever
    /// else is given must be what it began with.
    pub(super) fn resumed(&self, args: &CompareArgs, common: &Common) -> Result<Self> {
        let began = self.settings.epochs;
        if let Some(error) = conflict("epochs", args.fit.epochs, Some(began)) {
            return Err(error);
        }
        let (settings, mut errors) =
            self.settings.resumed(&args.fit, common.precision, Stretch::No);
        if args.names_arms() && args.arms(settings.net)? != self.arms {
            let option = if args.rates.is_some() { "rates" } else { "sweep" };
            let rates = |arms: &[NetSettings]| {
                arms.iter().map(NetSettings::rates).collect::<Vec<_>>().join(", ")
            };
            let expected = format!("{}, with which the comparison began", rates(&self.arms));
            errors.push(Error::argument(option, expected, rates(&args.arms(settings.net)?)));
        }
        let seeds = args.seeds.unwrap_or(self.seeds);
        if seeds < self.seeds {
            let expected = format!("{} or more, with which the comparison began", self.seeds);
            errors.push(Error::argument("seeds", expected, seeds));
        }
        Error::check(errors)?;
        Ok(Record { settings, arms: self.arms.clone(), seeds })
    }

    /// All seeds, from that of the settings on.
    ///
    /// # Errors
    /// [`Error::Argument`] if there are not so many.
    pub(super) fn seeds(&self) -> Result<Vec<u64>> {
        let (first, count) = (self.settings.seed, self.seeds.get() as u64);
        match first.checked_add(count) {
            Some(end) if count <= MOST_SEEDS => Ok((first..end).collect()),
            _ => Err(Error::argument(
                "seeds",
                format!("at most {MOST_SEEDS}, from {first} on"),
                count,
            )),
        }
    }

    /// The settings of one training.
    pub(super) fn training(&self, arm: NetSettings, seed: u64) -> Settings {
        Settings { net: arm, seed, ..self.settings.clone() }
    }
}

/// The run directory of one training.
pub(super) fn place(directory: &Path, arm: &NetSettings, seed: u64) -> PathBuf {
    home(directory, arm).join(format!("seed{seed}"))
}

/// The directory of all trainings of a network.
pub(super) fn home(directory: &Path, arm: &NetSettings) -> PathBuf {
    directory.join(format!("p{}", arm.rates()))
}
