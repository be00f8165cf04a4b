// SPDX-License-Identifier: MIT OR Apache-2.0
//! Optimisers, what they need of gradients, and state that is not trained.

use super::super::operands::Operands;
use super::super::simd::{self, Moments, Updated};
use super::super::state;
use super::{internal, write, Launch};
use crate::kernel::Clip;
use crate::op::{Decay, Nesterov, StateRule, Store, UpdateRule};
use crate::plan::Place;
use crate::scalars::Scalars;
use crate::{allocate, Result};

impl Launch<'_> {
    pub(super) fn store_gradient(mut self, store: Store) -> Result<()> {
        let parameter = self.shape(self.step.outputs[0]);
        let Place::Gradient(id) = self.plan.buffer(self.step.writes[0]).place else {
            return Err(internal("a gradient is stored outside its slot"));
        };
        let values = self.operands.reads[0].values()?;
        allocate::probe(2 * size_of_val(values), "a gradient")?;
        let packed = self.memory.slots[id.index()].layout.pack(parameter, values);
        let stored = write(&mut self.operands, 0)?;
        match store {
            Store::Overwrite => stored.copy_from_slice(&packed),
            Store::Accumulate => {
                stored.iter_mut().zip(&packed).for_each(|(sum, part)| *sum += part)
            }
        }
        Ok(())
    }

    pub(super) fn global_norm(mut self) -> Result<()> {
        let mut squares = 0.0;
        for read in &self.operands.reads {
            let values = read.values()?;
            squares += simd::sum_of_squares(&self.engine.pool, self.engine.isa, values);
        }
        write(&mut self.operands, 0)?[0] = squares.sqrt() as f32;
        Ok(())
    }

    pub(super) fn flat_update(self, rule: &UpdateRule, clip: Clip) -> Result<()> {
        let Operands { reads, writes, moments } = self.operands;
        let scale = match (clip, reads.last()) {
            (Clip::ByCoefficient, Some(coefficient)) => coefficient.values()?[0],
            _ => 1.0,
        };
        let rule = vector_rule(rule, self.scalars);
        for ((values, moments), gradient) in writes.into_iter().zip(moments).zip(&reads) {
            let updated = Updated { values, moments: moments_of(moments) };
            let (pool, isa) = (&self.engine.pool, self.engine.isa);
            simd::update(pool, isa, &rule, gradient.values()?, scale, updated);
        }
        Ok(())
    }

    pub(super) fn set_state(mut self, rule: StateRule) -> Result<()> {
        let inputs = self.operands.reads.clone();
        state::change(rule, write(&mut self.operands, 0)?, &inputs)
    }
}

pub(super) fn moments_of(moments: Vec<&mut [f32]>) -> Moments<'_> {
    let mut moments = moments.into_iter();
    match (moments.next(), moments.next()) {
        (Some(first), Some(second)) => Moments::Two(first, second),
        (Some(first), None) => Moments::One(first),
        _ => Moments::None,
    }
}

/// An optimiser's rule with this run's scalars worked out.
pub(super) fn vector_rule(rule: &UpdateRule, run: &Scalars) -> simd::UpdateRule {
    let rate = f64::from(run.learning_rate);
    match *rule {
        UpdateRule::Sgd { momentum, dampening, nesterov, weight_decay } => simd::UpdateRule::Sgd {
            learning_rate: run.learning_rate,
            momentum: run.momentum.unwrap_or(momentum) as f32,
            dampening: dampening as f32,
            nesterov: match nesterov {
                Nesterov::Off => simd::Nesterov::Off,
                Nesterov::On => simd::Nesterov::On,
            },
            weight_decay: weight_decay as f32,
            step: if run.update <= 1 { simd::Step::First } else { simd::Step::Later },
        },
        UpdateRule::Adam { beta1, beta2, eps, weight_decay, decay } => {
            let beta1 = run.momentum.unwrap_or(beta1);
            let update = f64::from(run.update);
            simd::UpdateRule::Adam {
                decays: [beta1, beta2].map(|beta| beta as f32),
                shares: [beta1, beta2].map(|beta| (1.0 - beta) as f32),
                step_size: (rate / (1.0 - beta1.powf(update))) as f32,
                inv_sqrt_bias2: (1.0 / (1.0 - beta2.powf(update)).sqrt()) as f32,
                eps: eps as f32,
                decay: match decay {
                    Decay::Gradient => simd::Decay::Coupled(weight_decay as f32),
                    Decay::Decoupled => simd::Decay::Decoupled((1.0 - rate * weight_decay) as f32),
                },
            }
        }
    }
}
