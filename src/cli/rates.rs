// SPDX-License-Identifier: MIT OR Apache-2.0
//! Dropout rates of a network.

use std::array;

use serde::{Deserialize, Serialize};

/// One rate for all layers of a network that drop, or one for each in their order.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum Rates {
    All(f32),
    Each(RateList),
}

/// A rate for each layer, of as many layers as a network of the program may have.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Vec<f32>", into = "Vec<f32>")]
pub(super) struct RateList {
    rates: [f32; MOST],
    count: usize,
}

const MOST: usize = 16;

impl Rates {
    /// The rate, if it is one for all layers.
    pub(super) fn one(self) -> Option<f32> {
        match self {
            Rates::All(p) => Some(p),
            Rates::Each(_) => None,
        }
    }

    /// The rates of so many layers; NaN, which no layer takes, where there are fewer.
    pub(super) fn of_layers<const COUNT: usize>(self) -> [f32; COUNT] {
        match self {
            Rates::All(p) => [p; COUNT],
            Rates::Each(list) => {
                array::from_fn(|layer| list.as_slice().get(layer).copied().unwrap_or(f32::NAN))
            }
        }
    }

    /// For people and names of directories.
    pub(super) fn describe(self) -> String {
        match self {
            Rates::All(p) => p.to_string(),
            Rates::Each(list) => describe(list.as_slice()),
        }
    }
}

impl RateList {
    pub(super) fn as_slice(&self) -> &[f32] {
        &self.rates[..self.count]
    }
}

impl TryFrom<Vec<f32>> for RateList {
    type Error = String;

    fn try_from(list: Vec<f32>) -> Result<Self, String> {
        let mut rates = [0.0; MOST];
        let count = list.len();
        match rates.get_mut(..count) {
            Some(known) if count > 0 => known.copy_from_slice(&list),
            _ => return Err(format!("expected 1 to {MOST} rates, got {count}")),
        }
        Ok(RateList { rates, count })
    }
}

impl From<RateList> for Vec<f32> {
    fn from(list: RateList) -> Self {
        list.as_slice().to_vec()
    }
}

/// Rates of several layers, for people and names of directories.
pub(super) fn describe(rates: &[f32]) -> String {
    let rates: Vec<String> = rates.iter().map(f32::to_string).collect();
    rates.join("+")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checkpoints of networks with one rate have a number there.
    #[test]
    fn rates_are_written_as_numbers_or_lists() {
        let list = RateList::try_from(vec![0.2, 0.5]).expect("two");
        for (rates, text) in [(Rates::All(0.1), "0.1"), (Rates::Each(list), "[0.2,0.5]")] {
            assert_eq!(serde_json::to_string(&rates).expect("JSON"), text);
            assert_eq!(serde_json::from_str::<Rates>(text).expect("rates"), rates);
        }
        assert!(serde_json::from_str::<Rates>("[]").is_err());
        assert!(serde_json::from_str::<Rates>(&format!("{:?}", [0.1; 17])).is_err());
    }

    #[test]
    fn layers_without_a_rate_have_none_that_a_layer_takes() {
        let list = RateList::try_from(vec![0.2, 0.5]).expect("two");
        assert_eq!(Rates::Each(list).of_layers(), [0.2, 0.5]);
        assert_eq!(Rates::All(0.3).of_layers(), [0.3; 9]);
        assert!(Rates::Each(list).of_layers::<3>()[2].is_nan());
        assert_eq!(Rates::Each(list).describe(), "0.2+0.5");
    }
}
