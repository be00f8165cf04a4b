// SPDX-License-Identifier: MIT OR Apache-2.0
//! Training with a loss scale: updates that are skipped, and what does not count them.

use std::collections::VecDeque;

use super::{is_rate, Trainer};
use crate::exec::Number;
use crate::loss_scale::{LossScale, Overflow};
use crate::nn::Module;
use crate::scalars::{Scalars, TrainingState, UpdateRates};
use crate::values::Values;
use crate::{Error, Result};

/// Updates that were skipped, and those of which it is not known yet: a device decides by itself.
#[derive(Debug, Default)]
pub(super) struct Skips {
    unread: VecDeque<Number>,
    known: u64,
}

impl Skips {
    /// So many, all known.
    pub(super) fn of(known: u64) -> Self {
        Skips { unread: VecDeque::new(), known }
    }

    /// Updates that are known to have been skipped.
    pub(super) fn known(&self) -> u64 {
        self.known
    }

    /// Takes note of what a step says of its gradients.
    pub(super) fn add(&mut self, overflow: Number) {
        self.unread.push_back(overflow);
    }

    /// Reads what the oldest steps say until only so many are left; how many were skipped.
    fn read_down_to(&mut self, count: usize) -> Result<u64> {
        let mut skipped = 0;
        while self.unread.len() > count {
            let Some(overflow) = self.unread.pop_front() else { break };
            skipped += u64::from(Overflow::of(overflow.item()?) == Overflow::Found);
        }
        self.known += skipped;
        Ok(skipped)
    }
}

impl<M, In, Out, Target> Trainer<M, In, Out, Target>
where
    M: Module<In, Out>,
    In: Values,
    Out: Values,
    Target: Values,
{
    /// Multiplies the loss before its gradients are taken, from the next step on, in another way than
    /// the network's precision does by default.
    ///
    /// ```
    /// use kiln::{loss::Mse, nn::Linear, optim::Sgd, Device, LossScale, Net, Seed, Trainer};
    ///
    /// let net = Net::new(Device::cpu(), Seed(7), |p| Linear::new(&p.at("fc"), 3, 1))?;
    /// let fit = Trainer::new(net, Mse::default(), Sgd::new(0.1))?;
    /// assert_eq!(fit.loss_scale(), LossScale::Off); // f32 needs none
    /// let fit = fit.with_loss_scale(LossScale::Static(1024.0))?;
    /// assert_eq!(fit.loss_scale(), LossScale::Static(1024.0));
    /// # Ok::<(), kiln::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Argument`] if an option is out of range; [`Error::Device`] if the device failed
    /// meanwhile.
    pub fn with_loss_scale(mut self, scale: LossScale) -> Result<Self> {
        scale.check()?;
        let state = match self.updates {
            0 => TrainingState::default(),
            _ => self.training_state()?,
        };
        (self.scale, self.watch.scale) = (scale, scale);
        let loss_scale = scale.first();
        self.net.set_training_state(TrainingState { loss_scale, growth: 0, ..state })?;
        Ok(self)
    }

    /// What the loss is multiplied by. The factor of the next step is in
    /// [`training_state`](Trainer::training_state).
    pub fn loss_scale(&self) -> LossScale {
        self.scale
    }

    /// Updates that were made, and those of which it is not known whether they were.
    pub(super) fn made(&self) -> u64 {
        self.updates.saturating_sub(self.skips.known())
    }

    /// Reads which updates were skipped, until only so many are left of which it is not known.
    pub(super) fn note_skips(&mut self, unread: usize) -> Result<()> {
        let skipped = self.skips.read_down_to(unread)?;
        if self.average.is_some() {
            self.averaged = self.averaged.saturating_sub(skipped);
        }
        Ok(())
    }

    /// What the next update is given, and what it is given instead where 1, 2, ... of those were
    /// skipped of which it is not known.
    pub(super) fn update_rates(&self) -> Result<(UpdateRates, [UpdateRates; Scalars::LATER])> {
        let now = self.rates_after(0)?;
        let mut later = [now; Scalars::LATER];
        for (place, rates) in later.iter_mut().enumerate().take(self.skips.unread.len()) {
            *rates = self.rates_after(place as u64 + 1)?;
        }
        Ok((now, later))
    }

    /// What the next update is given where so many of those were skipped of which it is not known.
    fn rates_after(&self, skipped: u64) -> Result<UpdateRates> {
        let made = self.made().saturating_sub(skipped);
        let rate = self.schedule.rate(self.base_rate(), made);
        if !is_rate(rate) {
            let what = format!("learning rate of update {}", made + 1);
            return Err(Error::argument(what, "0 or more", rate));
        }
        let averaged = self.averaged.saturating_sub(skipped);
        Ok(UpdateRates {
            learning_rate: rate as f32,
            momentum: self.schedule.momentum(made),
            average: self.average.map_or(1.0, |average| average.weight(averaged)),
        })
    }

    /// The state of a training that goes on, with a scale where there is to be one.
    pub(super) fn scaled_on(&self, state: TrainingState) -> TrainingState {
        let first = self.scale.first();
        match self.scale {
            LossScale::Dynamic { .. } if state.loss_scale != 0.0 => state,
            _ => TrainingState { loss_scale: first, growth: 0, ..state },
        }
    }
}
