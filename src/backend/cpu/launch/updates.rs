// SPDX-License-Identifier: MIT OR Apache-2.0
//! Optimisers, what they need of gradients, and state that is not trained.

use super::super::operands::Operands;
use super::super::simd::{self, Moments, Updated};
use super::super::state;
use super::{internal, write, Launch};
use crate::kernel::Clip;
use crate::op::{clip_coefficient, weight_so_far};
use crate::op::{Decay, Nesterov, Op, StateRule, Store, Unscale, Update, UpdateRule};
use crate::plan::{Place, Plan, Step};
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

    /// The norm and, with its largest value, the factor that clips it.
    pub(super) fn global_norm(mut self, max_norm: Option<f64>) -> Result<()> {
        let mut squares = 0.0;
        for read in &self.operands.reads {
            let values = read.values()?;
            squares += simd::sum_of_squares(&self.engine.pool, self.engine.isa, values);
        }
        let norm = squares.sqrt() as f32;
        write(&mut self.operands, 0)?[0] = norm;
        if let Some(max_norm) = max_norm {
            let coefficient = clip_coefficient(max_norm, f64::from(norm));
            write(&mut self.operands, 1)?[0] = coefficient as f32;
        }
        Ok(())
    }

    /// Whether gradients of a scaled loss are finite, what makes them those of the loss, and their
    /// norm.
    pub(super) fn unscale(mut self, unscale: Unscale) -> Result<()> {
        let scale = self.operands.reads[0].values()?[0];
        let inverse = 1.0 / scale;
        let (mut squares, mut is_finite) = (0.0, true);
        for read in &self.operands.reads[1..] {
            let values = read.values()?;
            let sum = simd::sum_of_squares(&self.engine.pool, self.engine.isa, values);
            squares += match sum.is_finite() {
                true => sum,
                false => {
                    is_finite &= all_finite(values);
                    // Of large numbers only the squares are too large.
                    values.iter().map(|&value| f64::from(value).powi(2)).sum()
                }
            };
        }
        let norm = (squares.sqrt() * f64::from(inverse)) as f32;
        let coefficient = match is_finite {
            true => unscale.clip(f64::from(norm)) as f32 * inverse,
            false => 0.0,
        };
        write(&mut self.operands, 0)?[0] = coefficient;
        write(&mut self.operands, Unscale::OVERFLOW)?[0] = if is_finite { 0.0 } else { scale };
        if self.step.outputs.len() > Unscale::NORM {
            write(&mut self.operands, Unscale::NORM)?[0] = norm;
        }
        Ok(())
    }

    pub(super) fn flat_update(self, clip: Clip) -> Result<()> {
        let (plan, step, run) = (self.plan, self.step, (self.scalars, self.training.update()));
        let Operands { reads, writes, moments } = self.operands;
        let scale = match (clip, reads.as_slice()) {
            (Clip::Unscaled, [.., overflow]) if overflow.values()?[0] != 0.0 => return Ok(()),
            (Clip::ByCoefficient, [.., coefficient]) | (Clip::Unscaled, [.., coefficient, _]) => {
                coefficient.values()?[0]
            }
            _ => 1.0,
        };
        let updates = updates(plan, step, run, (writes, moments));
        for ((rule, updated), gradient) in updates.into_iter().zip(&reads) {
            let (pool, isa) = (&self.engine.pool, self.engine.isa);
            simd::update(pool, isa, &rule, gradient.values()?, scale, updated);
        }
        Ok(())
    }

    pub(super) fn average(self) -> Result<()> {
        let weight = self.scalars.average;
        let Operands { reads, writes, .. } = self.operands;
        if let Some(overflow) = reads.get(writes.len()) {
            if overflow.values()?[0] != 0.0 {
                return Ok(());
            }
        }
        for (averages, read) in writes.into_iter().zip(&reads) {
            let average = simd::Average { averages, weight };
            simd::average(&self.engine.pool, self.engine.isa, read.values()?, average);
        }
        Ok(())
    }

    pub(super) fn set_state(mut self, rule: StateRule) -> Result<()> {
        let inputs = self.operands.reads.clone();
        state::change(rule, write(&mut self.operands, 0)?, &inputs)
    }
}

/// Whether no number is NaN or infinite; without a branch, so that it runs on vectors.
fn all_finite(values: &[f32]) -> bool {
    values.iter().fold(true, |all, value| all & value.is_finite())
}

/// What a step updates, in the order of its outputs, with the rules of its parameters worked out for a
/// run and the number of its update.
pub(super) fn updates<'a>(
    plan: &Plan,
    step: &Step,
    run: (&Scalars, u32),
    (writes, moments): (Vec<&'a mut [f32]>, Vec<Vec<&'a mut [f32]>>),
) -> Vec<(simd::UpdateRule, Updated<'a>)> {
    let mut updates: Vec<(simd::UpdateRule, Updated<'a>)> = Vec::with_capacity(writes.len());
    let mut last: Option<Update> = None;
    for ((&node, values), moments) in step.outputs.iter().zip(writes).zip(moments) {
        match plan.graph.node(node).op {
            Op::Update(_, update) => {
                // Neighbours mostly have one rule, and powers take their time.
                let rule = match (updates.last(), last == Some(update)) {
                    (Some((rule, _)), true) => *rule,
                    _ => vector_rule(&update, run),
                };
                let moments = moments_of(moments);
                updates.push((rule, Updated { values, moments, average: None }));
                last = Some(update);
            }
            Op::Average(_) => {
                if let Some((_, updated)) = updates.last_mut() {
                    let weight = run.0.average;
                    updated.average = Some(simd::Average { averages: values, weight });
                }
            }
            _ => {}
        }
    }
    updates
}

fn moments_of(moments: Vec<&mut [f32]>) -> Moments<'_> {
    let mut moments = moments.into_iter();
    match (moments.next(), moments.next()) {
        (Some(first), Some(second)) => Moments::Two(first, second),
        (Some(first), None) => Moments::One(first),
        _ => Moments::None,
    }
}

/// What is done to a parameter, with this run's scalars worked out.
fn vector_rule(own: &Update, (run, update): (&Scalars, u32)) -> simd::UpdateRule {
    let (rate, count) = (own.rate(run), own.count(update));
    match own.rule {
        UpdateRule::Sgd { momentum, dampening, nesterov, weight_decay } => simd::UpdateRule::Sgd {
            learning_rate: rate as f32,
            momentum: run.momentum.unwrap_or(momentum) as f32,
            dampening: dampening as f32,
            nesterov: match nesterov {
                Nesterov::Off => simd::Nesterov::Off,
                Nesterov::On => simd::Nesterov::On,
            },
            weight_decay: weight_decay as f32,
            step: if count <= 1 { simd::Step::First } else { simd::Step::Later },
        },
        UpdateRule::Adam { beta1, beta2, eps, weight_decay, decay } => {
            let beta1 = run.momentum.unwrap_or(beta1);
            simd::UpdateRule::Adam {
                decays: [beta1, beta2].map(|beta| beta as f32),
                shares: [beta1, beta2].map(|beta| (1.0 - beta) as f32),
                step_size: (rate / weight_so_far(beta1, count)) as f32,
                inv_sqrt_bias2: (1.0 / weight_so_far(beta2, count).sqrt()) as f32,
                eps: eps as f32,
                decay: match decay {
                    Decay::Gradient => simd::Decay::Coupled(weight_decay as f32),
                    Decay::Decoupled => simd::Decay::Decoupled((1.0 - rate * weight_decay) as f32),
                },
            }
        }
    }
}
