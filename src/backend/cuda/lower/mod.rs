// SPDX-License-Identifier: MIT OR Apache-2.0
//! From the steps of a plan to launches, copies and fills: plain data from plain data, without a
//! device.

mod along;
mod batch_norm;
mod blend;
mod chain;
mod conv;
mod divisor;
mod elements;
mod fused_images;
mod given;
mod head;
mod images;
mod linear;
mod loss;
mod moves;
mod moving;
mod operands;
mod recurrent;
mod scratch;
mod unscale;
mod update;

use super::abi::*;
use super::geometry::Machine;
use super::launch::{Item, Launch};
use super::memory::Address;
use crate::backend::cuda::sizes::single;
use crate::backend::Slot;
use crate::graph::{NodeId, ParamId, ParamRole};
use crate::kernel::{
    ClassifierHead, FusedImages, Kernel, LinearCrossEntropy, Planes, RecurrentDropout,
};
use crate::op::{Store, Unary};
use crate::plan::{BufferId, Place, Plan, Step};
use crate::{Error, Precision, Result, Shape};
pub(super) use given::Given;
pub(super) use scratch::{Kept, Scratch, GIVEN};

/// Where everything that a plan touches lies on the device.
#[derive(Clone, Debug)]
pub(super) struct Places<'a> {
    pub(super) plan: Address,
    pub(super) values: Address,
    pub(super) state: Address,
    pub(super) gradients: Option<Address>,
    pub(super) moments: Vec<Address>,
    /// Of trained parameters and of the state.
    pub(super) averages: [Option<Address>; 2],
    /// What the device keeps of the training; none before a plan updates parameters.
    pub(super) training: Address,
    pub(super) slots: &'a [Slot],
    /// The network's seed, which makes the keys of masks.
    pub(super) seed: u64,
}

/// One step on its way to launches.
pub(super) struct Lowering<'a> {
    pub(super) plan: &'a Plan,
    pub(super) step: &'a Step,
    pub(super) places: &'a Places<'a>,
    pub(super) machine: &'a Machine,
    pub(super) precision: Precision,
    pub(super) scratch: &'a mut Scratch,
    /// Operands brought to the type that the kernel takes.
    pub(super) before: Vec<Launch>,
    /// Results brought to the type in which they are stored.
    pub(super) after: Vec<Launch>,
}

impl Lowering<'_> {
    /// What the device does for the step, in order; `None` if the host computes it.
    ///
    /// # Errors
    /// [`Error::Internal`] if the plan contradicts itself.
    pub(super) fn items(mut self) -> Result<Option<Vec<Item>>> {
        let step = self.step;
        let launches = match &step.kernel {
            // Without rows there is no block to write the loss.
            Kernel::LinearCrossEntropy(LinearCrossEntropy { nll, .. })
            | Kernel::FusedImages(FusedImages::ClassifierHead(ClassifierHead {
                loss: LinearCrossEntropy { nll, .. },
                ..
            }))
            | Kernel::CrossEntropy { nll, .. }
            | Kernel::Nll(nll)
                if self.input_shape(0).samples() == 0 =>
            {
                return self.loss_of_nothing(nll).map(|item| Some(vec![item]));
            }
            Kernel::StoreGradient(Store::Overwrite) => {
                let item = self.copy_gradient()?;
                return Ok(Some(self.surrounded(vec![item])));
            }
            Kernel::Linear { tail } => self.linear(tail)?,
            Kernel::InputGradient { mask } => self.input_gradient(*mask)?,
            Kernel::WeightGradient { sink, bias } => {
                self.weight_gradients(&[crate::kernel::LayerGradient { sink: *sink, bias: *bias }])?
            }
            Kernel::WeightGradients(layers) => self.weight_gradients(layers)?,
            Kernel::LinearCrossEntropy(options) => self.linear_cross_entropy(options)?,
            Kernel::CrossEntropy { nll, gradient } => self.cross_entropy(nll, *gradient)?,
            Kernel::Nll(nll) => self.nll(nll)?,
            Kernel::NllGradient(nll) => self.nll_gradient(nll)?,
            Kernel::MatMul(product) => self.matmul(*product)?,
            Kernel::Dropout(dropout) => self.dropout(*dropout)?,
            Kernel::Chain(chain) => self.chain(chain)?,
            Kernel::Softmax(kind) => self.softmax(*kind)?,
            Kernel::SoftmaxGradient(kind) => self.softmax_gradient(*kind)?,
            Kernel::Sum => self.sum()?,
            Kernel::ColumnSum => self.column_sum()?,
            Kernel::Reduce(reduce) => self.reduce(reduce)?,
            Kernel::StoreGradient(Store::Accumulate) => self.add_gradient()?,
            Kernel::GlobalNorm => self.norm(None)?,
            Kernel::ClipNorm { max_norm } => self.norm(Some(*max_norm))?,
            Kernel::Unscale(unscale) => self.unscale(unscale)?,
            Kernel::FlatUpdate { rule, clip } => self.flat_update(rule, *clip)?,
            Kernel::Average => self.average()?,
            Kernel::Transpose { extents } => self.transpose(*extents)?,
            Kernel::Copy(pieces) => self.copy(pieces)?,
            Kernel::Take(picks) => self.take(*picks)?,
            Kernel::TakeGradient(picks, padding) => self.take_gradient(*picks, *padding, None)?,
            Kernel::TakeDropout(picks, dropout) => self.take_dropout(*picks, *dropout)?,
            Kernel::TakeGradientDropout(picks, padding, dropout) => {
                self.take_gradient(*picks, *padding, Some(*dropout))?
            }
            Kernel::Gather(picks) => self.gather(*picks)?,
            Kernel::GatherGradient(picks) => self.gather_gradient(*picks)?,
            Kernel::BatchMatMul(product) => self.batch_matmul(*product)?,
            Kernel::SetState(rule) => self.set_state(*rule)?,
            Kernel::Conv { conv, tail, .. } => self.conv(conv, tail)?,
            Kernel::ConvInputGradient { conv, mask, .. } => {
                self.conv_input_gradient(conv, *mask)?
            }
            Kernel::ConvWeightGradient { conv, sink, bias, .. } => {
                self.conv_weight_gradient(conv, *sink, *bias)?
            }
            Kernel::MaxPool(pool) => self.max_pool(*pool)?,
            Kernel::MaxPoolGradient(pool) => self.max_pool_gradient(*pool, Planes::Interleaved)?,
            Kernel::AvgPool(pool) => self.avg_pool(*pool, Planes::Interleaved)?,
            Kernel::AvgPoolGradient(pool) => self.avg_pool_gradient(*pool, Planes::Interleaved)?,
            Kernel::Statistics(over) => self.statistics(*over)?,
            Kernel::StatisticsGradient(over) => self.statistics_gradient(*over)?,
            Kernel::Normalize(normalize) => self.normalize(*normalize)?,
            Kernel::NormalizeGradient(normalize) => self.normalize_gradient(*normalize)?,
            Kernel::Recurrent(recurrent) => self.recurrent(&RecurrentDropout::none(*recurrent))?,
            Kernel::RecurrentGradient(recurrent, upstream) => {
                self.recurrent_gradient(&RecurrentDropout::none(*recurrent), *upstream)?
            }
            Kernel::RecurrentDropout(of) => self.recurrent(of)?,
            Kernel::RecurrentGradientDropout(of, upstream) => {
                self.recurrent_gradient(of, *upstream)?
            }
            Kernel::FusedImages(fused) => self.fused_images(fused)?,
            Kernel::Blend { blend, outer, inner } => match self.blend(blend, [*outer, *inner])? {
                Some(launches) => launches,
                None => return Ok(None),
            },
            Kernel::Plain => return Ok(None),
        };
        let items = launches.into_iter().map(Item::from).collect();
        Ok(Some(self.surrounded(items)))
    }

    /// Items with the copies of operands that they need.
    fn surrounded(self, items: Vec<Item>) -> Vec<Item> {
        let Lowering { before, after, .. } = self;
        let [before, after] = [before, after].map(|casts| casts.into_iter().map(Item::from));
        before.chain(items).chain(after).collect()
    }

    fn shape(&self, node: NodeId) -> &Shape {
        &self.plan.graph.node(node).ty.shape
    }

    fn input_shape(&self, index: usize) -> &Shape {
        self.shape(self.step.inputs[index])
    }

    fn output_shape(&self, index: usize) -> &Shape {
        self.shape(self.step.outputs[index])
    }
}

/// Where a buffer lies on the device.
pub(super) fn address(plan: &Plan, places: &Places<'_>, id: BufferId) -> Result<Address> {
    match plan.buffer(id).place {
        Place::Arena(offset) | Place::Uploaded(_, offset) => Ok(places.plan.plus(offset.0)),
        Place::Parameter(id) => {
            let home = match places.slots[id.index()].role {
                ParamRole::Trained => places.values,
                ParamRole::State => places.state,
            };
            Ok(slot(places, home, id))
        }
        Place::Gradient(id) => {
            let base = places.gradients.ok_or_else(|| internal("no gradients were reserved"))?;
            Ok(slot(places, base, id))
        }
        Place::Average(id) => {
            let [trained, state] = places.averages;
            let base = match places.slots[id.index()].role {
                ParamRole::Trained => trained,
                ParamRole::State => state,
            };
            Ok(slot(places, base.ok_or_else(|| internal("no averages were reserved"))?, id))
        }
        Place::Input(_) | Place::Output(_) => Err(internal("a buffer lies in host memory")),
    }
}

fn slot(places: &Places<'_>, base: Address, id: ParamId) -> Address {
    base.plus(places.slots[id.index()].start.0)
}

/// A function and its parameters as kernels know them.
fn unary(function: Unary) -> (KilnUnary, [f32; 2]) {
    let plain = |function| (function, [0.0; 2]);
    match function {
        Unary::Relu => plain(KILN_UNARY_RELU),
        Unary::LeakyRelu(slope) => (KILN_UNARY_LEAKY_RELU, [single(slope), 0.0]),
        Unary::Gelu => plain(KILN_UNARY_GELU),
        Unary::GeluTanh => plain(KILN_UNARY_GELU_TANH),
        Unary::Silu => plain(KILN_UNARY_SILU),
        Unary::Tanh => plain(KILN_UNARY_TANH),
        Unary::Sigmoid => plain(KILN_UNARY_SIGMOID),
        Unary::Softplus => plain(KILN_UNARY_SOFTPLUS),
        Unary::Exp => plain(KILN_UNARY_EXP),
        Unary::Log => plain(KILN_UNARY_LOG),
        Unary::Square => plain(KILN_UNARY_SQUARE),
        Unary::Scale(factor) => (KILN_UNARY_SCALE, [single(factor), 0.0]),
        Unary::Offset(number) => (KILN_UNARY_OFFSET, [single(number), 0.0]),
        Unary::Abs => plain(KILN_UNARY_ABS),
        Unary::Sqrt => plain(KILN_UNARY_SQRT),
        Unary::Rsqrt => plain(KILN_UNARY_RSQRT),
        Unary::Reciprocal => plain(KILN_UNARY_RECIPROCAL),
        Unary::Sin => plain(KILN_UNARY_SIN),
        Unary::Cos => plain(KILN_UNARY_COS),
        Unary::Erf => plain(KILN_UNARY_ERF),
        Unary::Pow(exponent) => (KILN_UNARY_POW, [single(exponent), 0.0]),
        Unary::Clamp { min, max } => (KILN_UNARY_CLAMP, [single(min), single(max)]),
        Unary::Not => plain(KILN_UNARY_NOT),
    }
}

pub(super) fn internal(message: &str) -> Error {
    Error::Internal { pass: "cuda", message: message.into() }
}
