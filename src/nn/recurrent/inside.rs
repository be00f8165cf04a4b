// SPDX-License-Identifier: MIT OR Apache-2.0
//! What options change inside of a step.

use crate::graph::{LayerPath, Var};
use crate::mask::site_of_step;
use crate::nn::Scope;
use crate::op::{DropRate, Drops};

use super::{GateNorm, RecurrentOptions};

/// Dropouts inside of steps.
#[derive(Clone, Debug)]
pub(super) struct Inside {
    updates: Drawn,
    zoneout: Drawn,
    /// Of hidden and of cell states.
    stays: [DropRate; 2],
}

/// What is drawn in each step anew, under a path of its own.
#[derive(Clone, Debug)]
struct Drawn {
    layer: LayerPath,
    rate: DropRate,
}

/// The sites of one call of a layer in one direction.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sites {
    update: u32,
    states: [u32; 2],
}

/// Which state of a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Hidden,
    Cell,
}

impl Inside {
    /// What options ask for; `None` if steps are as they are without.
    pub(super) fn new(p: &Scope, options: &RecurrentOptions) -> Option<Self> {
        let drawn = |name: &str, kind: &'static str, rate: f32| Drawn {
            layer: p.at(name).layer(kind),
            rate: DropRate::constant(rate),
        };
        let stays = [options.zoneout, options.cell_zoneout].map(DropRate::constant);
        let inside = Inside {
            updates: drawn("recurrent_dropout", "RecurrentDropout", options.recurrent_dropout),
            zoneout: drawn("zoneout", "Zoneout", options.zoneout),
            stays,
        };
        let is_needed = inside.drops_updates()
            || stays.iter().any(|&rate| drops(rate))
            || options.norm == GateNorm::Layer;
        is_needed.then_some(inside)
    }

    pub(super) fn drops_updates(&self) -> bool {
        drops(self.updates.rate)
    }

    /// The sites of the next call; `x` only says which trace is meant.
    pub(super) fn sites(&self, x: &Var) -> Sites {
        let mut sites = Sites { update: 0, states: [0; 2] };
        if self.drops_updates() {
            x.within(&self.updates.layer, |x| {
                sites.update = x.next_site();
                x.clone()
            });
        }
        if self.stays.iter().any(|&rate| drops(rate)) {
            x.within(&self.zoneout.layer, |x| {
                sites.states = [x.next_site(), x.next_site()];
                x.clone()
            });
        }
        sites
    }

    /// What a step adds to the state, of which some is dropped.
    pub(super) fn update(&self, sites: &Sites, step: usize, update: &Var) -> Var {
        if !self.drops_updates() {
            return update.clone();
        }
        let Drawn { layer, rate } = &self.updates;
        let site = site_of_step(sites.update, step as u32);
        update.within(layer, |update| update.dropout_at(site, *rate, Drops::Elements))
    }

    /// A state after a step, of which some stays as it was. Where nothing is dropped, as in eval mode, the same
    /// operations give the expectation.
    pub(super) fn zoned(
        &self,
        sites: &Sites,
        step: usize,
        state: State,
        before: &Var,
        after: &Var,
    ) -> Var {
        let (rate, site) = match state {
            State::Hidden => (self.stays[0], sites.states[0]),
            State::Cell => (self.stays[1], sites.states[1]),
        };
        if !drops(rate) {
            return after.clone();
        }
        let site = site_of_step(site, step as u32);
        after.within(&self.zoneout.layer, |after| {
            let change = (after - before).dropout_at(site, rate, Drops::Elements);
            before + change.scale((1.0 - rate.most()) as f32)
        })
    }
}

fn drops(rate: DropRate) -> bool {
    rate != DropRate::Constant(0)
}
