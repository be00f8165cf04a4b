// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which networks are compared, and from how many seeds.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::Args;
use kiln::{Error, Result};

use crate::cli::args::FitArgs;
use crate::cli::rates::{RateList, Rates};
use crate::cli::settings::NetSettings;

#[derive(Debug, Default, Args)]
pub(in crate::cli) struct CompareArgs {
    #[command(flatten)]
    pub(super) fit: FitArgs,
    /// Train each network from this many seeds, from --seed on; 3 if not given, and 1 of more than
    /// 10,000 training samples. With --resume there may be more than before
    #[arg(long, value_name = "N")]
    pub(super) seeds: Option<NonZeroUsize>,
    /// Compare these dropout rates with 0, instead of --p: 0,0.2,0.5,0.8
    #[arg(
        long,
        value_name = "RATES",
        value_delimiter = ',',
        allow_hyphen_values = true,
        conflicts_with_all = ["p", "rates"]
    )]
    pub(super) sweep: Vec<f32>,
    /// Compare networks with a rate for each layer that drops with 0, instead of --p. "0.2,0.5;0.1,0.3"
    /// are two networks, of two such layers each
    #[arg(long, value_name = "TABLE", allow_hyphen_values = true, conflicts_with = "p")]
    pub(super) rates: Option<String>,
    /// Run directory, new or empty; runs/compare-DATA-N if not given
    #[arg(long, value_name = "DIR")]
    pub(super) out: Option<PathBuf>,
    /// Continue the comparison in this directory (that of --out if not given); what is finished stays
    #[arg(long, value_name = "DIR", num_args = 0..=1)]
    pub(super) resume: Option<Option<PathBuf>>,
}

/// Training samples up to which three seeds are trained unless told otherwise: with more, each
/// training takes minutes, and its test set is large enough to say something by itself.
const MOST_FOR_SEEDS: usize = 10_000;

/// Enough for an interval; more narrow it.
const SEEDS: usize = 3;

impl CompareArgs {
    /// Seeds unless some are asked for.
    pub(super) fn seeds(&self, train_samples: usize) -> NonZeroUsize {
        let usual = if train_samples <= MOST_FOR_SEEDS { SEEDS } else { 1 };
        self.seeds.or(NonZeroUsize::new(usual)).unwrap_or(NonZeroUsize::MIN)
    }

    /// Whether it is said which networks to compare.
    pub(super) fn names_arms(&self) -> bool {
        !self.sweep.is_empty() || self.rates.is_some()
    }

    /// The networks to compare, the first without dropout.
    pub(super) fn arms(&self, net: NetSettings) -> Result<Vec<NetSettings>> {
        let without = net.with_rates(Rates::All(0.0));
        let mut arms = vec![without];
        if let Some(table) = &self.rates {
            for row in table.split(';') {
                add("rates", row.trim(), table_row(row, net)?, &mut arms)?;
            }
        } else if self.sweep.is_empty() {
            if net == without {
                return Err(Error::argument("p", "more than 0, to be compared with 0", 0));
            }
            arms.push(net);
        } else {
            for (index, rate) in self.sweep.iter().enumerate() {
                // Not -0.
                let rate = checked("sweep", *rate, rate)? + 0.0;
                if rate == 0.0 && !self.sweep[..index].contains(&0.0) {
                    continue;
                }
                add("sweep", &rate.to_string(), net.with_rates(Rates::All(rate)), &mut arms)?;
            }
            if arms.len() == 1 {
                return Err(Error::argument("sweep", "rates above 0, to be compared with 0", 0));
            }
        }
        Ok(arms)
    }
}

fn add(option: &str, given: &str, arm: NetSettings, arms: &mut Vec<NetSettings>) -> Result<()> {
    if arms.contains(&arm) {
        return Err(Error::argument(option, "each network once", format!("{given} twice")));
    }
    arms.push(arm);
    Ok(())
}

fn checked(option: &str, rate: f32, given: impl ToString) -> Result<f32> {
    match (0.0..1.0).contains(&rate) {
        true => Ok(rate),
        false => Err(Error::argument(option, "rates of 0 or more and below 1", given)),
    }
}

fn table_row(row: &str, net: NetSettings) -> Result<NetSettings> {
    let layers = net.dropouts();
    let expected = match &layers[..] {
        [layer] => format!("one rate in each row, of {layer}"),
        several => format!("{} rates in each row, of {}", several.len(), several.join(", ")),
    };
    let number = |text: &str| text.trim().parse::<f32>().ok();
    let rates: Option<Vec<f32>> = row.split(',').map(number).collect();
    let wrong = || Error::argument("rates", expected, format!("{:?}", row.trim()));
    let rates = rates.filter(|rates| rates.len() == layers.len()).ok_or_else(wrong)?;
    for rate in &rates {
        checked("rates", *rate, rate)?;
    }
    let rates: Vec<f32> = rates.into_iter().map(|rate| rate + 0.0).collect();
    if rates.iter().all(|rate| *rate == 0.0) {
        return Err(Error::argument("rates", "rows above 0, to be compared with 0", row.trim()));
    }
    let rates = RateList::try_from(rates)
        .map_err(|error| Error::Internal { pass: "compare", message: error })?;
    Ok(net.with_rates(Rates::Each(rates)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::{NetArgs, NetName};

    fn net(name: NetName) -> NetSettings {
        let args = NetArgs { net: Some(name), ..NetArgs::default() };
        NetSettings::new(&args).expect("a network")
    }

    fn rates(args: &CompareArgs, name: NetName) -> Result<Vec<String>> {
        Ok(args.arms(net(name))?.iter().map(NetSettings::rates).collect())
    }

    #[test]
    fn what_is_compared_begins_without_dropout() -> Result<()> {
        let usual = CompareArgs::default();
        assert_eq!(rates(&usual, NetName::Simple)?, ["0", "0.5"]);
        assert_eq!(rates(&usual, NetName::Variable)?, ["0", "0.2+0.5"]);
        assert_eq!(rates(&usual, NetName::Cnn)?, ["0", "0.25+0.5"]);
        for sweep in [&[0.2, 0.5][..], &[0.0, 0.2, 0.5], &[-0.0, 0.2, 0.5]] {
            let args = CompareArgs { sweep: sweep.into(), ..CompareArgs::default() };
            assert_eq!(rates(&args, NetName::Variable)?, ["0", "0.2", "0.5"]);
        }
        let table = |table: &str| CompareArgs { rates: Some(table.into()), ..usual_args() };
        assert_eq!(rates(&table("0.2,0.5; 0, 0.3"), NetName::Rnn)?, ["0", "0.2+0.5", "0+0.3"]);
        assert_eq!(rates(&table("0.1;0.2"), NetName::Residual)?, ["0", "0.1", "0.2"]);
        let nine = ["0.1"; 9].join(",");
        assert_eq!(rates(&table(&nine), NetName::ResnetSmall)?[1], ["0.1"; 9].join("+"));
        assert_eq!((usual.seeds(600).get(), usual.seeds(60_000).get()), (3, 1));
        Ok(())
    }

    fn usual_args() -> CompareArgs {
        CompareArgs::default()
    }

    #[test]
    fn sweeps_and_tables_that_make_no_sense_are_refused() {
        let refused =
            |args: CompareArgs, name| rates(&args, name).expect_err("an error").to_string();
        for (sweep, word) in [
            (&[0.5, 1.0][..], "1"),
            (&[f32::NAN], "NaN"),
            (&[-0.5], "-0.5"),
            (&[0.5, 0.5], "0.5 twice"),
            (&[0.0, 0.5, 0.0], "0 twice"),
            (&[0.0], "above 0"),
        ] {
            let args = CompareArgs { sweep: sweep.into(), ..usual_args() };
            let text = refused(args, NetName::Simple);
            assert!(text.starts_with("sweep: expected ") && text.contains(word), "{text}");
        }
        for (table, name, word) in [
            ("0.2", NetName::Simple, "2 rates in each row, of dropout1, dropout2"),
            ("0.2,0.5;0.1", NetName::Simple, "\"0.1\""),
            ("0.2,0.5;", NetName::Simple, "\"\""),
            ("0.2,x", NetName::Simple, "0.2,x"),
            ("0.2,1", NetName::Simple, "below 1"),
            ("0.2,NaN", NetName::Simple, "NaN"),
            ("0.2,0.5;0.2,0.5", NetName::Simple, "twice"),
            ("0,0", NetName::Simple, "above 0"),
            ("0.1,0.2", NetName::Residual, "one rate in each row, of features.1.dropout"),
        ] {
            let args = CompareArgs { rates: Some(table.into()), ..usual_args() };
            let text = refused(args, name);
            assert!(text.starts_with("rates: expected ") && text.contains(word), "{text}");
        }
    }
}
