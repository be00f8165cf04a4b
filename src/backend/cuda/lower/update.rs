// SPDX-License-Identifier: MIT OR Apache-2.0
//! The norm of all gradients and the optimisers, over ranges of the flat arenas.

use super::{internal, Lowering};
use crate::backend::cuda::abi::*;
use crate::backend::cuda::geometry::{norm_blocks, Grid};
use crate::backend::cuda::launch::Launch;
use crate::backend::cuda::memory::Address;
use crate::graph::ParamId;
use crate::kernel::Clip;
use crate::op::{Decay, Nesterov, StateRule, UpdateRule};
use crate::plan::{BufferId, Place};
use crate::{DType, Result};

/// Neighbouring parameters, with the zeros between them: one flat array.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stretch {
    /// First byte in each of the state's arenas.
    start: usize,
    /// Number of elements, a multiple of [`KILN_OPTIMIZER_VECTOR`].
    count: usize,
}

impl Lowering<'_> {
    /// The norm and, with a limit, the clipping coefficient; `None` if the gradients do not lie in
    /// one piece.
    pub(super) fn norm(&mut self, max_norm: Option<f64>) -> Result<Option<Vec<Launch>>> {
        let gradients: Vec<BufferId> = self.step.reads.iter().flatten().copied().collect();
        let stretches = self.stretches(&gradients)?;
        let (&[stretch], Some(base)) = (stretches.as_slice(), self.places.gradients) else {
            return Ok(None);
        };
        let blocks = norm_blocks(stretch.count, self.machine);
        let params = KilnNormParams {
            x: base.plus(stretch.start),
            norm: self.write(0)?,
            coefficient: max_norm.map_or(Ok(Address::NONE), |_| self.write(1))?,
            partials: self.scratch.numbers(blocks),
            tickets: self.scratch.numbers(1),
            count: stretch.count as u32,
            max_norm: max_norm.unwrap_or(0.0) as f32,
        };
        Ok(Some(vec![Launch::new("square_sum_f32", Grid::of(blocks), params)]))
    }

    /// A change of state that is not trained.
    pub(super) fn set_state(&mut self, rule: StateRule) -> Result<Vec<Launch>> {
        let elements = self.output_shape(0).elements();
        let mut params = KilnStateParams {
            state: self.write(0)?,
            elements: elements as u32,
            ..Default::default()
        };
        if rule == StateRule::Count {
            return Ok(vec![Launch::new("count_pass_i64", Grid::of(1), params)]);
        }
        params.statistic = self.read_as(0, DType::F32)?;
        match rule {
            StateRule::Count => {}
            StateRule::Average { momentum, factor } => {
                params.kept = (1.0 - momentum) as f32;
                params.taken = (momentum * factor) as f32;
            }
            StateRule::CumulativeAverage { factor } => {
                params.taken = factor as f32;
                params.count = self.read(1)?;
            }
        }
        Ok(vec![Launch::new("running_average_f32", Grid::over(elements), params)])
    }

    /// One launch per stretch of neighbouring parameters: one in all where every parameter is
    /// trained.
    pub(super) fn flat_update(&mut self, rule: &UpdateRule, clip: Clip) -> Result<Vec<Launch>> {
        let (kernel, mut params) = optimizer(rule);
        params.scalars = self.scratch.scalars();
        if clip == Clip::ByCoefficient {
            params.coefficient = self.read(self.step.inputs.len() - 1)?;
        }
        let gradients = self.places.gradients;
        let gradients = gradients.ok_or_else(|| internal("no gradients were reserved"))?;
        if self.places.moments.len() < rule.moments() {
            return Err(internal("too few moments were reserved"));
        }
        let moment = |index: usize, start: usize| match index < rule.moments() {
            true => self.places.moments[index].plus(start),
            false => Address::NONE,
        };
        let launches = self.stretches(&self.step.writes)?.into_iter().map(|stretch| {
            let Stretch { start, count } = stretch;
            let params = KilnOptimizerParams {
                values: self.places.values.plus(start),
                gradients: gradients.plus(start),
                moment1: moment(0, start),
                moment2: moment(1, start),
                count: count as u32,
                ..params
            };
            let threads = count / KILN_OPTIMIZER_VECTOR as usize;
            Launch::new(kernel, Grid::over(threads), params)
        });
        Ok(launches.collect())
    }

    /// The parameters behind buffers of values or gradients, joined where they are neighbours.
    fn stretches(&self, buffers: &[BufferId]) -> Result<Vec<Stretch>> {
        let mut parameters = Vec::with_capacity(buffers.len());
        for buffer in buffers {
            match self.plan.buffer(*buffer).place {
                Place::Parameter(id) | Place::Gradient(id) => parameters.push(id),
                _ => return Err(internal("an optimiser's operand is no parameter")),
            }
        }
        parameters.sort_unstable();
        let mut stretches: Vec<Stretch> = Vec::new();
        let mut previous: Option<ParamId> = None;
        for id in parameters {
            let start = self.places.slots[id.index()].start.0;
            let elements = self.plan.graph.parameters()[id.index()].shape.elements();
            let end = start / 4 + elements.next_multiple_of(KILN_OPTIMIZER_VECTOR as usize);
            match (previous, stretches.last_mut()) {
                (Some(before), Some(last)) if before.index() + 1 == id.index() => {
                    last.count = end - last.start / 4;
                }
                _ => stretches.push(Stretch { start, count: end - start / 4 }),
            }
            previous = Some(id);
        }
        Ok(stretches)
    }
}

/// An optimiser's kernel and what of its parameters is fixed; momentum is a scalar of the run.
fn optimizer(rule: &UpdateRule) -> (&'static str, KilnOptimizerParams) {
    let mut params = KilnOptimizerParams::default();
    match *rule {
        UpdateRule::Sgd { momentum: _, dampening, nesterov, weight_decay } => {
            params.dampening = dampening as f32;
            params.weight_decay = weight_decay as f32;
            params.nesterov = match nesterov {
                Nesterov::Off => KILN_NESTEROV_OFF,
                Nesterov::On => KILN_NESTEROV_ON,
            };
            (if rule.moments() == 0 { "sgd" } else { "sgd_momentum" }, params)
        }
        UpdateRule::Adam { beta1: _, beta2, eps, weight_decay, decay } => {
            params.beta2 = beta2 as f32;
            params.one_minus_beta2 = (1.0 - beta2) as f32;
            (params.eps, params.weight_decay) = (eps as f32, weight_decay as f32);
            params.decay = match decay {
                Decay::Gradient => KILN_DECAY_GRADIENT,
                Decay::Decoupled => KILN_DECAY_DECOUPLED,
            };
            ("adam", params)
        }
    }
}
