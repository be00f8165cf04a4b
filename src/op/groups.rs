// SPDX-License-Identifier: MIT OR Apache-2.0
//! How each parameter of a network is trained, where it is not as all others are.

use std::sync::Arc;

use super::{ParamId, Update, UpdateRule};

/// How the parameters of a network are trained, one by one. Copies share one table.
#[derive(Clone, Debug, Default)]
pub struct Groups(Option<Arc<Vec<Training>>>);

/// How a parameter is trained.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Training {
    /// Not at all: it gets no gradient and keeps no moments.
    Frozen,
    /// By the optimiser, with options of its own.
    Trained(GroupOptions),
}

/// What sets a parameter apart from others.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GroupOptions {
    /// Factor of the learning rate.
    pub rate_factor: f64,
    /// Weight decay, if it is not the optimiser's.
    pub weight_decay: Option<f64>,
    /// Updates that were made without the parameter.
    pub skipped: u32,
}

impl Default for GroupOptions {
    fn default() -> Self {
        GroupOptions { rate_factor: 1.0, weight_decay: None, skipped: 0 }
    }
}

impl Groups {
    /// One entry per parameter of the network, in order.
    pub fn new(table: Vec<Training>) -> Self {
        let plain = Training::Trained(GroupOptions::default());
        Groups(table.iter().any(|training| *training != plain).then(|| Arc::new(table)))
    }

    /// How a parameter is trained.
    pub fn of(&self, parameter: ParamId) -> Training {
        let own = self.0.as_ref().and_then(|table| table.get(parameter.index()).copied());
        own.unwrap_or(Training::Trained(GroupOptions::default()))
    }

    /// Whether a parameter stays as it is.
    pub fn is_frozen(&self, parameter: ParamId) -> bool {
        self.of(parameter) == Training::Frozen
    }

    /// What an optimiser with this rule does to a parameter; `None` if it is frozen.
    pub fn update(&self, parameter: ParamId, rule: UpdateRule) -> Option<Update> {
        let Training::Trained(options) = self.of(parameter) else { return None };
        let GroupOptions { rate_factor, weight_decay, skipped } = options;
        let rule = weight_decay.map_or(rule, |decay| rule.with_weight_decay(decay));
        Some(Update { rule, rate_factor, skipped })
    }
}

/// Steps compare them to find their plan, so it must not take longer for more parameters.
impl PartialEq for Groups {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (None, None) => true,
            (Some(a), Some(b)) => Arc::ptr_eq(a, b) || a == b,
            _ => false,
        }
    }
}
