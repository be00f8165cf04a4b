// SPDX-License-Identifier: MIT OR Apache-2.0
//! The mistakes that lint knows.

use std::fmt;
use std::str::FromStr;

use super::rule::Rule;
use super::{activations, network, norms, places, rates, sequences};
use crate::Error;

/// A mistake that lint knows. On the command line and in `kiln.toml` it is called by its number, `D101`, or
/// by its name, `rate-high`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Code {
    /// D101: more is dropped than helps.
    RateHigh,
    /// D102: too little is dropped to regularise.
    RateLow,
    /// D103: another rate than convolutions, recurrent layers or embeddings take.
    RateForLayer,
    /// D104: a high rate in a residual branch.
    RateInBranch,
    /// D105: an early layer drops more than a later one, an embedding more than hidden layers.
    RatesFall,
    /// D201: what the network returns is dropped.
    DropoutOnOutput,
    /// D202: dropped before the activation function and not after it.
    DropoutBeforeActivation,
    /// D203: elements are dropped before the largest of them is taken.
    DropoutBeforeMaxPool,
    /// D204: dropped twice with nothing learned in between.
    DropoutInSeries,
    /// D205: single pixels of feature maps are dropped.
    DropoutOfPixels,
    /// D206: channels are dropped where there are none.
    ChannelDropoutOfRows,
    /// D207: what a skip connection carries is dropped.
    DropoutOnSkip,
    /// D301: dropout shifts the variance that batch norm has learned.
    DropoutWithBatchNorm,
    /// D302: a bias that batch norm takes away again.
    BiasBeforeBatchNorm,
    /// D303: batch norm may meet a batch of one sample.
    BatchOfOne,
    /// D401: probabilities are given to a loss that takes scores.
    SoftmaxBeforeLoss,
    /// D402: two learned layers without an activation function between them.
    MissingActivation,
    /// D403: two activation functions in a row.
    DoubledActivation,
    /// D501: the last state of padded sequences without their lengths.
    PaddedLastState,
    /// D502: dropped recurrent weights and zoneout at once.
    WeightDropoutWithZoneout,
    /// D601: a network too small to spare anything.
    SmallNetwork,
    /// D602: dropout that does nothing.
    NoEffect,
    /// D603: Monte Carlo passes that are all alike.
    MonteCarloWithoutDropout,
    /// D604: eval mode is random, or changes what it should only read.
    RandomInEval,
}

/// By code.
static RULES: [&Rule; Code::ALL.len()] = [
    &rates::RATE_HIGH,
    &rates::RATE_LOW,
    &rates::RATE_FOR_LAYER,
    &rates::RATE_IN_BRANCH,
    &rates::RATES_FALL,
    &places::DROPOUT_ON_OUTPUT,
    &places::DROPOUT_BEFORE_ACTIVATION,
    &places::DROPOUT_BEFORE_MAX_POOL,
    &places::DROPOUT_IN_SERIES,
    &places::DROPOUT_OF_PIXELS,
    &places::CHANNEL_DROPOUT_OF_ROWS,
    &places::DROPOUT_ON_SKIP,
    &norms::DROPOUT_WITH_BATCH_NORM,
    &norms::BIAS_BEFORE_BATCH_NORM,
    &norms::BATCH_OF_ONE,
    &activations::SOFTMAX_BEFORE_LOSS,
    &activations::MISSING_ACTIVATION,
    &activations::DOUBLED_ACTIVATION,
    &sequences::PADDED_LAST_STATE,
    &sequences::WEIGHT_DROPOUT_WITH_ZONEOUT,
    &network::SMALL_NETWORK,
    &network::NO_EFFECT,
    &network::MONTE_CARLO_WITHOUT_DROPOUT,
    &network::RANDOM_IN_EVAL,
];

impl Code {
    /// All of them.
    pub const ALL: [Code; 24] = [
        Code::RateHigh,
        Code::RateLow,
        Code::RateForLayer,
        Code::RateInBranch,
        Code::RatesFall,
        Code::DropoutOnOutput,
        Code::DropoutBeforeActivation,
        Code::DropoutBeforeMaxPool,
        Code::DropoutInSeries,
        Code::DropoutOfPixels,
        Code::ChannelDropoutOfRows,
        Code::DropoutOnSkip,
        Code::DropoutWithBatchNorm,
        Code::BiasBeforeBatchNorm,
        Code::BatchOfOne,
        Code::SoftmaxBeforeLoss,
        Code::MissingActivation,
        Code::DoubledActivation,
        Code::PaddedLastState,
        Code::WeightDropoutWithZoneout,
        Code::SmallNetwork,
        Code::NoEffect,
        Code::MonteCarloWithoutDropout,
        Code::RandomInEval,
    ];

    /// What there is to know about it.
    pub fn rule(self) -> &'static Rule {
        RULES[self as usize]
    }
}

impl fmt::Display for Code {
    /// The number: `D101`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.rule().id)
    }
}

impl FromStr for Code {
    type Err = Error;

    /// A number or a name, in whatever case.
    fn from_str(text: &str) -> Result<Self, Error> {
        let is_called = |code: &Code| {
            let rule = code.rule();
            [rule.id, rule.name].iter().any(|known| known.eq_ignore_ascii_case(text))
        };
        Code::ALL.into_iter().find(is_called).ok_or_else(|| {
            let known: Vec<&str> = Code::ALL.iter().map(|code| code.rule().name).collect();
            let expected = format!("a number from D101 to D604, or one of {}", known.join(", "));
            Error::argument("code", expected, text)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_code_has_a_page_of_its_own() {
        let mut ids = BTreeSet::new();
        for code in Code::ALL {
            let rule = code.rule();
            assert_eq!(rule.code, code);
            assert!(ids.insert(rule.id) && ids.insert(rule.name), "{}", rule.id);
            assert_eq!(rule.id.parse::<Code>().unwrap(), code);
            assert_eq!(rule.name.to_uppercase().parse::<Code>().unwrap(), code);
            let texts = [rule.title, rule.why, rule.mend, rule.source];
            assert!(texts.iter().all(|text| text.len() > 15), "{}", rule.id);
            assert!(!rule.grades.is_empty(), "{}", rule.id);
            assert!(rule.page().contains("Source: "));
        }
        assert!(ids.iter().filter(|id| id.starts_with('D')).is_sorted());
    }

    #[test]
    fn a_code_that_is_none_names_those_that_are() {
        let error = "D999".parse::<Code>().unwrap_err().to_string();
        assert!(error.contains("rate-high") && error.contains("got D999"), "{error}");
    }
}
