// SPDX-License-Identifier: MIT OR Apache-2.0
//! From the steps of a plan to the hot loops: which slices, which options, which function.
//!
//! Here is what all steps share and which method each kernel has; the methods are ordered as the loops
//! are: `products`, `recurrent`, `images`, `elements`, `moving`, `reductions` and `updates`.

mod elements;
mod images;
mod moving;
mod products;
pub(super) mod recurrent;
mod reductions;
mod updates;

use super::exchange::Readers;
use super::layouts::Foreign;
use super::memory::Arenas;
use super::operands::{Located, Operands, Read};
use super::pool::Pool;
use super::program::{Program, Ready};
use super::simd::Isa;
use super::{plain, rounding, state};
use crate::backend::{Memory, Run};
use crate::graph::NodeId;
use crate::kernel::{FusedImages, Kernel};
use crate::plan::{Plan, Step};
use crate::scalars::{Scalars, TrainingState};
use crate::{allocate, Error, Precision, Result, Shape};

/// What steps run with.
#[derive(Debug)]
pub(super) struct Engine {
    pub(super) pool: Pool,
    pub(super) isa: Isa,
}

/// Runs a step and rounds what it wrote, where its values are stored rounded.
pub(super) fn launch(
    engine: &Engine,
    arenas: &mut Arenas,
    program: &Program,
    run: &mut Run<'_>,
    index: usize,
) -> Result<()> {
    let rounds = match program.step(index) {
        Ready::Interpreted { rounds } => {
            plain::launch(arenas, run, index)?;
            *rounds
        }
        Ready::Loop { operands, foreign, readers, rounds } => {
            launch_loop(engine, arenas, (operands, foreign, *readers), run, index)?;
            *rounds
        }
    };
    if let Kernel::Unscale(unscale) = run.plan.steps[index].kernel {
        state::decide(arenas, run, index, unscale.scale)?;
    }
    match rounds {
        true => rounding::outputs(arenas, run, index),
        false => Ok(()),
    }
}

fn launch_loop(
    engine: &Engine,
    arenas: &mut Arenas,
    (located, foreign, readers): (&Located, &[Foreign], Readers),
    run: &mut Run<'_>,
    index: usize,
) -> Result<()> {
    let (plan, memory, scalars) = (run.plan, run.memory, run.scalars);
    let step = &plan.steps[index];
    let training = state::training_state(arenas, memory);
    let numbers = located.numbers(plan, scalars, training.loss_scale);
    let mut operands = located.borrow(arenas, run, &numbers)?;
    let row_major = row_major(plan, foreign, &operands)?;
    for (foreign, values) in foreign.iter().zip(&row_major) {
        operands.reads[foreign.index] = Read::F32(values);
    }
    let precision = rounding::of_factors(plan, step);
    let factors = rounding::factors(precision, &operands.reads)?;
    // Of tf32 only factors are cut off; numbers of 16 bits are stored so, whatever reads them.
    let summed = operands.reads.first().copied().filter(|_| precision == Precision::Tf32);
    for (read, rounded) in operands.reads.iter_mut().zip(&factors) {
        *read = Read::F32(rounded);
    }
    Launch { engine, plan, scalars, training, memory, step, operands, readers, summed }.dispatch()
}

/// Parameters in the order that all kernels know.
fn row_major(plan: &Plan, foreign: &[Foreign], operands: &Operands<'_>) -> Result<Vec<Vec<f32>>> {
    let unpacked = foreign.iter().map(|&Foreign { index, layout, parameter }| {
        let shape = &plan.graph.parameters()[parameter.index()].shape;
        allocate::probe(2 * shape.elements() * size_of::<f32>(), "a parameter in row-major order")?;
        Ok(layout.unpack(shape, operands.reads[index].values()?))
    });
    unpacked.collect()
}

/// One launch with everything it needs.
struct Launch<'a> {
    engine: &'a Engine,
    plan: &'a Plan,
    scalars: &'a Scalars,
    /// What the training has come to.
    training: TrainingState,
    memory: &'a Memory,
    step: &'a Step,
    operands: Operands<'a>,
    /// Which threads read what it writes first.
    readers: Readers,
    /// What a bias gradient sums, where it is not the product's factor.
    summed: Option<Read<'a>>,
}

impl<'a> Launch<'a> {
    fn dispatch(self) -> Result<()> {
        match &self.step.kernel {
            Kernel::Linear { tail } => self.linear(*tail),
            Kernel::InputGradient { mask } => self.input_gradient(*mask),
            Kernel::WeightGradient { sink, bias } => self.weight_gradient(*sink, *bias),
            Kernel::CrossEntropy { nll, gradient } => self.cross_entropy(nll, *gradient),
            Kernel::Nll(nll) => self.nll(nll),
            Kernel::NllGradient(nll) => self.nll_gradient(nll),
            Kernel::Dropout(dropout) => self.dropout(*dropout),
            Kernel::Chain(chain) => self.chain(chain),
            Kernel::Softmax(kind) => self.softmax(*kind),
            Kernel::SoftmaxGradient(kind) => self.softmax_gradient(*kind),
            Kernel::Sum => self.sum(),
            Kernel::MatMul(product) => self.matmul(*product),
            Kernel::ColumnSum => self.column_sum(),
            Kernel::Reduce(reduce) => self.reduce(reduce),
            Kernel::StoreGradient(store) => self.store_gradient(*store),
            Kernel::GlobalNorm => self.global_norm(None),
            Kernel::ClipNorm { max_norm } => self.global_norm(Some(*max_norm)),
            Kernel::Unscale(unscale) => self.unscale(*unscale),
            Kernel::FlatUpdate { clip, .. } => self.flat_update(*clip),
            Kernel::Average => self.average(),
            Kernel::SetState(rule) => self.set_state(*rule),
            Kernel::Recurrent(recurrent) => self.recurrent(recurrent),
            Kernel::RecurrentGradient(recurrent, upstream) => {
                self.recurrent_gradient(recurrent, *upstream)
            }
            Kernel::Transpose { extents } => self.transpose(*extents),
            Kernel::Conv { conv, way, tail } => self.conv(*conv, *way, *tail),
            Kernel::FusedImages(FusedImages::ConvNormalize {
                conv, way, tail, normalize, ..
            }) => self.conv_normalize(*conv, *way, *tail, *normalize),
            Kernel::ConvInputGradient { conv, way, mask } => {
                self.conv_input_gradient(*conv, *way, *mask)
            }
            Kernel::ConvWeightGradient { conv, way, sink, bias } => {
                self.conv_weight_gradient(*conv, *way, (*sink, *bias))
            }
            Kernel::MaxPool(pool) => self.max_pool(*pool),
            Kernel::MaxPoolGradient(pool) => self.max_pool_gradient(*pool),
            Kernel::AvgPool(pool) => self.avg_pool(*pool),
            Kernel::AvgPoolGradient(pool) => self.avg_pool_gradient(*pool),
            Kernel::Statistics(over) => self.statistics(*over),
            Kernel::StatisticsGradient(over) => self.statistics_gradient(*over),
            Kernel::Normalize(normalize) => self.normalize(*normalize),
            Kernel::NormalizeGradient(normalize) => self.normalize_gradient(*normalize),
            Kernel::Blend { blend, outer, inner } => self.blend(blend, [*outer, *inner]),
            Kernel::Copy(pieces) => self.copy(pieces),
            Kernel::Take(picks) => self.take(*picks),
            Kernel::TakeGradient(picks, padding) => self.take_gradient(*picks, *padding),
            Kernel::Gather(picks) => self.gather(*picks),
            Kernel::GatherGradient(picks) => self.gather_gradient(*picks),
            Kernel::BatchMatMul(product) => self.batch_matmul(*product),
            Kernel::WeightGradients(_)
            | Kernel::LinearCrossEntropy(_)
            | Kernel::RecurrentDropout(_)
            | Kernel::RecurrentGradientDropout(..)
            | Kernel::TakeDropout(..)
            | Kernel::TakeGradientDropout(..)
            | Kernel::FusedImages(_)
            | Kernel::Plain => Err(internal("a step without a loop of its own is interpreted")),
        }
    }

    fn shape(&self, node: NodeId) -> &'a Shape {
        &self.plan.graph.node(node).ty.shape
    }
}

/// Takes an output out of a step's operands.
fn write<'a>(operands: &mut Operands<'a>, index: usize) -> Result<&'a mut [f32]> {
    let slice = operands.writes.get_mut(index).map(std::mem::take);
    slice.ok_or_else(|| internal("a kernel has fewer outputs than it writes"))
}

fn internal(message: &str) -> Error {
    Error::Internal { pass: "cpu", message: message.into() }
}
