// SPDX-License-Identifier: MIT OR Apache-2.0
//! Schedules of one's own.

use std::fmt;
use std::sync::Arc;

use super::Schedule;

/// A function of base rate and update, from [`Schedule::from_fn`].
///
/// It is shown, and so compared by a checkpoint, as its name and the rates that it gives for a base of
/// 1. Two are equal if these are.
#[derive(Clone)]
pub struct RateFn {
    name: String,
    function: Arc<dyn Fn(f64, u64) -> f64 + Send + Sync>,
}

/// Updates whose rates are written down: 0 and powers of 2, up to about a million.
const NOTED: u32 = 20;

impl Schedule {
    /// Any schedule: `function` gives the learning rate for the base rate and the number of updates
    /// made so far. It must depend on nothing else.
    ///
    /// A checkpoint notes the name and the rates of the updates 0, 1, 2, 4, 8 and so on, and refuses to
    /// go on with a schedule that differs in those.
    ///
    /// ```
    /// use kiln::optim::Schedule;
    ///
    /// let noam = Schedule::from_fn("inverse root after 100", |base, update| {
    ///     let update = (update + 1) as f64;
    ///     base * (update / 100.0).min((100.0 / update).sqrt())
    /// });
    /// assert_eq!(noam.rate(0.1, 99), 0.1);
    /// assert_eq!(noam.rate(0.1, 399), 0.05);
    /// ```
    pub fn from_fn(
        name: impl Into<String>,
        function: impl Fn(f64, u64) -> f64 + Send + Sync + 'static,
    ) -> Self {
        Schedule::Function(RateFn { name: name.into(), function: Arc::new(function) })
    }
}

impl RateFn {
    pub(super) fn rate(&self, base: f64, step: u64) -> f64 {
        (self.function)(base, step)
    }

    /// Rates for a base of 1, by update.
    pub(super) fn noted(&self) -> impl Iterator<Item = (u64, f64)> + '_ {
        let steps = std::iter::once(0).chain((0..=NOTED).map(|power| 1 << power));
        steps.map(|step| (step, self.rate(1.0, step)))
    }
}

impl PartialEq for RateFn {
    fn eq(&self, other: &Self) -> bool {
        let bits = |of: &Self| of.noted().map(|(_, rate)| rate.to_bits()).collect::<Vec<_>>();
        self.name == other.name && bits(self) == bits(other)
    }
}

impl fmt::Debug for RateFn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} ", self.name)?;
        f.debug_list().entries(self.noted().map(|(_, rate)| rate)).finish()
    }
}
