// SPDX-License-Identifier: MIT OR Apache-2.0
//! The rates of a network's dropout layers that change from pass to pass.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::dropout::check_rate;
use super::dropout_schedule::{is_dropout_rate, RATE};
use super::{DropoutSchedule, Scope};
use crate::error::list;
use crate::op::DropRate;
use crate::scalars::{DropoutRates, RateSlot};
use crate::{Error, Result};

/// A rate that was set: from which pass on, and what it is.
pub(crate) type RateChange = (u32, f32);

/// All rates of a network that change, in order of creation.
#[derive(Debug, Default)]
pub(crate) struct Rates {
    layers: Vec<LayerRate>,
}

#[derive(Debug)]
struct LayerRate {
    layer: String,
    schedule: DropoutSchedule,
    /// What was set in its place, in the order of passes. All of it is kept, so that the rate of any pass
    /// can be told.
    set: Vec<RateChange>,
}

impl Rates {
    /// Adds a layer's rate; none if there are too many.
    pub(super) fn add(&mut self, layer: String, schedule: DropoutSchedule) -> Option<RateSlot> {
        let slot = RateSlot::at(self.layers.len())?;
        self.layers.push(LayerRate { layer, schedule, set: Vec::new() });
        Some(slot)
    }

    /// The rates of a train-mode pass, by layer.
    ///
    /// # Errors
    /// [`Error::Argument`] with the layer's path for one outside `[0, 1)`.
    pub(crate) fn of_layers(&self, pass: u32) -> Result<Vec<(&str, f32)>> {
        let rate = |of: &LayerRate| of.rate(pass);
        let rates: Vec<f32> = self.layers.iter().map(rate).collect::<Result<_>>()?;
        Ok(self.layers.iter().map(|of| of.layer.as_str()).zip(rates).collect())
    }

    /// The same as a run takes them.
    ///
    /// # Errors
    /// As [`of_layers`](Rates::of_layers).
    pub(crate) fn of_pass(&self, pass: u32) -> Result<DropoutRates> {
        let mut rates = DropoutRates::default();
        for (index, of) in self.layers.iter().enumerate() {
            let p = of.rate(pass)?;
            RateSlot::at(index).into_iter().for_each(|slot| rates.set(slot, p));
        }
        Ok(rates)
    }

    /// Sets a layer's rate from a pass on, whatever its schedule says.
    ///
    /// # Errors
    /// [`Error::Argument`] if it is outside `[0, 1)`, and if the layer has no rate that changes.
    pub(crate) fn set(&mut self, layer: &str, from: u32, p: f32) -> Result<()> {
        if !is_dropout_rate(p) {
            return Err(wrong(layer, "p", p));
        }
        if !self.layers.iter().any(|of| of.layer == layer) {
            let layers = self.layers.iter().map(|of| of.layer.as_str());
            let expected = match self.layers.is_empty() {
                true => "a network with dropout whose rate changes".into(),
                false => format!("one of {}", list(layers, ", ")),
            };
            return Err(Error::argument("layer", expected, layer));
        }
        for of in self.layers.iter_mut().filter(|of| of.layer == layer) {
            of.set.retain(|(pass, _)| *pass < from);
            if of.set.last().is_none_or(|(_, last)| *last != p) {
                of.set.push((from, p));
            }
        }
        Ok(())
    }

    /// Everything that was set, by layer.
    pub(crate) fn changes(&self) -> BTreeMap<String, Vec<RateChange>> {
        let changed = self.layers.iter().filter(|of| !of.set.is_empty());
        changed.map(|of| (of.layer.clone(), of.set.clone())).collect()
    }

    /// Puts what was set elsewhere in the place of what was set here.
    pub(crate) fn restore(&mut self, changes: &BTreeMap<String, Vec<RateChange>>) {
        for of in &mut self.layers {
            of.set = changes.get(&of.layer).cloned().unwrap_or_default();
        }
    }

    /// Each layer's schedule in words.
    pub(crate) fn described(&self) -> impl Iterator<Item = (&str, String)> {
        self.layers.iter().map(|of| (of.layer.as_str(), format!("{:?}", of.schedule)))
    }
}

impl LayerRate {
    fn rate(&self, pass: u32) -> Result<f32> {
        let set = self.set.iter().rev().find(|(from, _)| *from <= pass);
        let p = set.map_or_else(|| self.schedule.rate(pass), |(_, p)| *p);
        match is_dropout_rate(p) {
            true => Ok(p),
            false => Err(wrong(&self.layer, &format!("p of pass {pass}"), p)),
        }
    }
}

/// What makes schedules of the rates that layers are given.
#[derive(Clone)]
pub(super) struct Schedules(Arc<ScheduleOf>);

/// From a layer's path and rate to its schedule.
type ScheduleOf = dyn Fn(&str, f32) -> DropoutSchedule + Send + Sync;

impl Schedules {
    pub(super) fn new(of: impl Fn(&str, f32) -> DropoutSchedule + Send + Sync + 'static) -> Self {
        Schedules(Arc::new(of))
    }

    pub(super) fn of(&self, layer: &str, p: f32) -> DropoutSchedule {
        (self.0)(layer, p)
    }
}

impl fmt::Debug for Schedules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Schedules")
    }
}

/// The rate of a layer that was given a number, which is checked.
pub(super) fn rate_of(scope: &Scope, p: f32) -> DropRate {
    check_rate(scope, p);
    rate_below(scope, p)
}

/// The same for a number that has been checked.
pub(super) fn rate_below(scope: &Scope, p: f32) -> DropRate {
    scope.schedule_of(p).map_or(DropRate::constant(p), |schedule| scheduled(scope, schedule))
}

/// The rate of a layer that was given a schedule.
pub(super) fn scheduled(scope: &Scope, schedule: DropoutSchedule) -> DropRate {
    if let Some((what, expected, got)) = schedule.refusal() {
        scope.reject(&what, expected, got);
        return DropRate::constant(0.0);
    }
    let most = schedule.most();
    match scope.changing_rate(schedule) {
        Some(slot) => DropRate::changing(slot, most),
        None => {
            let expected = format!("at most {} rates that change", DropoutRates::MOST);
            scope.reject("p", &expected, "one more");
            DropRate::constant(0.0)
        }
    }
}

fn wrong(layer: &str, what: &str, p: f32) -> Error {
    let (expected, got) = (RATE.into(), p.to_string());
    Error::Argument { layer: layer.into(), what: what.into(), expected, got }
}
