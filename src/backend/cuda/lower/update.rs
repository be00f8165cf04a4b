// SPDX-License-Identifier: MIT OR Apache-2.0
//! The norm of all gradients and the optimisers, over ranges of the flat arenas.

use super::scratch::{Kept, Turned};
use super::{internal, Lowering};
use crate::backend::cuda::abi::*;
use crate::backend::cuda::geometry::{divider, norm_blocks};
use crate::backend::cuda::launch::{Grid, Launch};
use crate::backend::cuda::memory::Address;
use crate::backend::cuda::sizes::{halves, single, word};
use crate::graph::{NodeId, ParamId, ParamRole};
use crate::kernel::{Clip, Kernel};
use crate::op::{Decay, Nesterov, Op, StateRule, Update, UpdateRule};
use crate::plan::{Place, Step};
use crate::{DType, Result};

/// Elements of a block of the optimisers.
const PER_BLOCK: u32 = KILN_BLOCK_THREADS * KILN_OPTIMIZER_VECTOR;

impl Lowering<'_> {
    /// The norm and, with a limit, the clipping coefficient: a launch per stretch of gradients, one in
    /// all where no parameter is frozen.
    pub(super) fn norm(&mut self, max_norm: Option<f64>) -> Result<Vec<Launch>> {
        let (stretches, all) = self.stretches_of_gradients()?;
        let params = KilnNormParams {
            norm: self.write(0)?,
            coefficient: max_norm.map_or(Ok(Address::NONE), |_| self.write(1))?,
            partials: self.scratch.numbers(all),
            tickets: self.scratch.numbers(1),
            blocks: word(all),
            max_norm: single(max_norm.unwrap_or(0.0)),
            ..KilnNormParams::default()
        };
        let mut first_block = 0;
        let launch = |stretch: &Stretch| {
            let Stretch { x, count, grid } = *stretch;
            let params = KilnNormParams { x, count, first_block, ..params };
            first_block += word(grid);
            Launch::new("square_sum_f32", Grid::of(grid), params)
        };
        Ok(stretches.iter().map(launch).collect())
    }

    /// The stretches of gradients that the step reads, and the blocks of all of them.
    pub(super) fn stretches_of_gradients(&self) -> Result<(Vec<Stretch>, usize)> {
        let gradients = self.places.gradients;
        let gradients = gradients.ok_or_else(|| internal("no gradients were reserved"))?;
        let mut parameters = Vec::with_capacity(self.step.reads.len());
        for buffer in self.step.reads.iter().flatten() {
            match self.plan.buffer(*buffer).place {
                Place::Gradient(id) => parameters.push((id, Alike::default())),
                _ => return Err(internal("a norm is of gradients")),
            }
        }
        let stretch = |KilnStretch { start, count, .. }| Stretch {
            x: gradients.plus(4 * start as usize),
            count,
            grid: norm_blocks(count as usize, self.machine),
        };
        let stretches: Vec<_> = self.stretches(parameters).into_iter().map(stretch).collect();
        let blocks = stretches.iter().map(|stretch| stretch.grid).sum();
        Ok((stretches, blocks))
    }

    /// A change of state that is not trained.
    pub(super) fn set_state(&mut self, rule: StateRule) -> Result<Vec<Launch>> {
        let elements = self.output_shape(0).elements();
        let mut params = KilnStateParams {
            state: self.write(0)?,
            elements: word(elements),
            ..Default::default()
        };
        if rule == StateRule::Count {
            return Ok(vec![Launch::new("count_pass_i64", Grid::of(1), params)]);
        }
        params.statistic = self.read_as(0, DType::F32)?;
        match rule {
            StateRule::Count => {}
            StateRule::Average { momentum, factor } => {
                params.kept = single(1.0 - momentum);
                params.taken = single(momentum * factor);
            }
            StateRule::CumulativeAverage { factor } => {
                params.taken = single(factor);
                params.count = self.read(1)?;
            }
        }
        Ok(vec![Launch::new("running_average_f32", Grid::over(elements), params)])
    }

    /// The optimiser over stretches of parameters that are trained alike, and their moving averages.
    pub(super) fn flat_update(&mut self, rule: &UpdateRule, clip: Clip) -> Result<Vec<Launch>> {
        let (kernel, mut params) = optimizer(rule);
        params.scalars = self.scratch.scalars();
        params.progress = match self.places.training {
            Address::NONE => return Err(internal("nothing was reserved to count updates")),
            training => training,
        };
        (params.tickets, params.blocks) = (self.scratch.update_ticket(), self.update_blocks()?);
        let behind = match clip {
            Clip::Off => 0,
            Clip::ByCoefficient => 1,
            Clip::Unscaled => 2,
        };
        if let Some(behind) = self.step.inputs.len().checked_sub(behind).filter(|_| behind > 0) {
            params.coefficient = self.read(behind)?;
        }
        let gradients = self.places.gradients;
        params.gradients = gradients.ok_or_else(|| internal("no gradients were reserved"))?;
        params.values = self.places.values;
        for (index, moment) in
            [&mut params.moment1, &mut params.moment2].into_iter().enumerate().take(rule.moments())
        {
            let place = self.places.moments.get(index).copied();
            *moment = place.ok_or_else(|| internal("too few moments were reserved"))?;
        }
        for &node in &self.step.outputs {
            if let Op::Average(_) = self.plan.graph.node(node).op {
                params.averages = self.averages(ParamRole::Trained)?;
            }
        }
        let copied = self.keep_copies(&mut params);
        let mut launches = launches(kernel, &params, &self.updated(self.step)?);
        if let Some(first) = launches.first_mut() {
            first.extra_bytes += copied;
        }
        Ok(launches)
    }

    /// Tells an optimiser of the copies of what it updates that products before it read; their bytes.
    fn keep_copies(&mut self, params: &mut KilnOptimizerParams) -> usize {
        let (low, is_updated) =
            (self.product_type(), |&node: &NodeId| match self.plan.graph.node(node).op {
                Op::Update(id, _) => Some(id),
                _ => None,
            });
        let mut updated: Vec<ParamId> = self.step.outputs.iter().filter_map(is_updated).collect();
        updated.sort_unstable_by_key(|id| self.places.slots[id.index()].start);
        let mut bytes = 0;
        if let Some(shadow) = self.scratch.copy_in(self.places.values, low) {
            (params.shadow, params.shadow_type) = (shadow, copy_type(low));
            let elements = |id: &ParamId| self.plan.graph.parameters()[id.index()].shape.elements();
            bytes += low.bytes() * updated.iter().map(elements).sum::<usize>();
        }
        let (mut words, mut further) = (Vec::new(), 0);
        for &id in &updated {
            let start = word(self.places.slots[id.index()].start.0 / DType::F32.bytes());
            let mut copies = self.scratch.turned_of(id);
            if let Some(copy) = copies.next() {
                let count = copy.extents.iter().product::<usize>();
                bytes += copy.dtype.bytes() * count;
                params.turned_count += 1;
                words.extend(turned_words(start, word(count), copy));
            }
            further += copies.count();
        }
        if further > 0 {
            self.scratch.kept = Kept::Outdated;
        }
        params.turned = self.scratch.table(words);
        bytes
    }

    /// What an optimiser's step updates.
    fn updated(&self, step: &Step) -> Result<Vec<KilnStretch>> {
        let mut parameters = Vec::with_capacity(step.outputs.len());
        for &node in &step.outputs {
            match self.plan.graph.node(node).op {
                Op::Update(id, Update { rule, rate_factor, skipped }) => {
                    let weight_decay = single(rule.weight_decay());
                    let rate_factor = single(rate_factor);
                    parameters.push((id, Alike { skipped, rate_factor, weight_decay }));
                }
                Op::Average(_) => {}
                _ => return Err(internal("an optimiser yields parameters and their averages")),
            }
        }
        Ok(self.stretches(parameters))
    }

    /// Blocks of all optimisers of the plan: the last of them counts the update.
    fn update_blocks(&self) -> Result<u32> {
        let mut blocks = 0;
        for step in &self.plan.steps {
            if matches!(step.kernel, Kernel::FlatUpdate { .. }) {
                blocks += self.updated(step)?.iter().map(blocks_of).sum::<u32>();
            }
        }
        Ok(blocks)
    }

    /// Moving averages of what no optimiser changes.
    pub(super) fn average(&mut self) -> Result<Vec<Launch>> {
        let mut all = Vec::new();
        for role in [ParamRole::Trained, ParamRole::State] {
            let averaged =
                self.step.outputs.iter().filter_map(|&node| match self.plan.graph.node(node).op {
                    Op::Average(id) => Some((id, Alike::default())),
                    _ => None,
                });
            let is_of_role = |(id, _): &(ParamId, Alike)| self.role(*id) == role;
            let parameters: Vec<_> = averaged.filter(is_of_role).collect();
            if parameters.is_empty() {
                continue;
            }
            let params = KilnOptimizerParams {
                values: match role {
                    ParamRole::Trained => self.places.values,
                    ParamRole::State => self.places.state,
                },
                averages: self.averages(role)?,
                overflow: match self.step.inputs.len() > self.step.outputs.len() {
                    true => self.read(self.step.outputs.len())?,
                    false => Address::NONE,
                },
                scalars: self.scratch.scalars(),
                ..KilnOptimizerParams::default()
            };
            all.extend(launches("average_f32", &params, &self.stretches(parameters)));
        }
        Ok(all)
    }

    fn averages(&self, role: ParamRole) -> Result<Address> {
        let [trained, state] = self.places.averages;
        let arena = match role {
            ParamRole::Trained => trained,
            ParamRole::State => state,
        };
        arena.ok_or_else(|| internal("no averages were reserved"))
    }

    fn role(&self, id: ParamId) -> ParamRole {
        self.places.slots[id.index()].role
    }

    /// Parameters of one role, joined where they are neighbours that are trained alike. Between
    /// neighbours lie zeros.
    fn stretches(&self, mut parameters: Vec<(ParamId, Alike)>) -> Vec<KilnStretch> {
        parameters.sort_unstable_by_key(|(id, _)| *id);
        let mut stretches: Vec<KilnStretch> = Vec::new();
        let mut previous: Option<(ParamId, Alike)> = None;
        for (id, alike) in parameters {
            let slot = &self.places.slots[id.index()];
            let [start, moments] = [slot.start, slot.moments].map(|at| word(at.0 / 4));
            let elements = self.plan.graph.parameters()[id.index()].shape.elements();
            let end = start + word(elements.next_multiple_of(KILN_OPTIMIZER_VECTOR as usize));
            match stretches.last_mut() {
                Some(last) if previous == self.neighbour(id).map(|before| (before, alike)) => {
                    last.count = end - last.start;
                }
                _ => {
                    let Alike { skipped, rate_factor, weight_decay } = alike;
                    let (first_block, count) = (0, end - start);
                    stretches.push(KilnStretch {
                        first_block,
                        count,
                        start,
                        moments,
                        skipped,
                        rate_factor,
                        weight_decay,
                    });
                }
            }
            previous = Some((id, alike));
        }
        stretches
    }

    /// The parameter that lies before another in the arenas of its role.
    fn neighbour(&self, id: ParamId) -> Option<ParamId> {
        let earlier = (0..id.index()).rev().map(ParamId::at);
        earlier.into_iter().find(|&before| self.role(before) == self.role(id))
    }
}

/// Gradients of neighbours, and the blocks that look at them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stretch {
    pub(super) x: Address,
    pub(super) count: u32,
    pub(super) grid: usize,
}

fn copy_type(dtype: DType) -> KilnCopyType {
    match dtype {
        DType::Bf16 => KILN_COPY_BF16,
        DType::F16 => KILN_COPY_F16,
        _ => KILN_COPY_F32,
    }
}

const _: () = assert!(std::mem::size_of::<KilnTurned>() == 48);

/// A [`KilnTurned`] as it lies in a table.
fn turned_words(start: u32, count: u32, copy: &Turned) -> [u32; 12] {
    let [columns, rows] = [copy.extents[2], copy.extents[1]].map(divider);
    let [low, high] = halves(copy.copy.0);
    [
        start,
        count,
        columns.divisor,
        columns.multiplier,
        columns.shift,
        rows.divisor,
        rows.multiplier,
        rows.shift,
        copy_type(copy.dtype),
        0,
        low,
        high,
    ]
}

/// What neighbours must have in common to be trained in one stretch.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Alike {
    skipped: u32,
    rate_factor: f32,
    weight_decay: f32,
}

/// Blocks of an optimiser over a stretch.
fn blocks_of(stretch: &KilnStretch) -> u32 {
    stretch.count.div_ceil(PER_BLOCK)
}

/// Launches over stretches, as many as one takes in each.
fn launches(
    kernel: &'static str,
    params: &KilnOptimizerParams,
    stretches: &[KilnStretch],
) -> Vec<Launch> {
    let launch = |stretches: &[KilnStretch]| {
        let mut params = *params;
        let mut blocks = 0;
        for (place, stretch) in params.stretches.iter_mut().zip(stretches) {
            *place = KilnStretch { first_block: blocks, ..*stretch };
            blocks += blocks_of(stretch);
        }
        params.stretch_count = word(stretches.len());
        Launch::new(kernel, Grid::of(blocks as usize), params)
    };
    stretches.chunks(KILN_OPTIMIZER_STRETCHES as usize).map(launch).collect()
}

/// An optimiser's kernel and what is the same for all its parameters in every run.
fn optimizer(rule: &UpdateRule) -> (&'static str, KilnOptimizerParams) {
    let mut params = KilnOptimizerParams::default();
    match *rule {
        UpdateRule::Sgd { dampening, nesterov, .. } => {
            params.dampening = single(dampening);
            params.nesterov = match nesterov {
                Nesterov::Off => KILN_NESTEROV_OFF,
                Nesterov::On => KILN_NESTEROV_ON,
            };
            (if rule.moments() == 0 { "sgd" } else { "sgd_momentum" }, params)
        }
        UpdateRule::Adam { beta2, eps, decay, .. } => {
            (params.beta2, params.exact_beta2) = (single(beta2), beta2);
            params.one_minus_beta2 = single(1.0 - beta2);
            params.eps = single(eps);
            params.decay = match decay {
                Decay::Gradient => KILN_DECAY_GRADIENT,
                Decay::Decoupled => KILN_DECAY_DECOUPLED,
            };
            ("adam", params)
        }
    }
}
