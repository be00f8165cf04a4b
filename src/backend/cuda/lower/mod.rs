// SPDX-License-Identifier: MIT OR Apache-2.0
//! From the steps of a plan to launches: plain data from plain data, without a device.

mod elements;
mod linear;
mod loss;
mod operands;
mod scratch;
mod update;

use super::abi::*;
use super::geometry::Machine;
use super::launch::Launch;
use super::memory::Address;
use crate::backend::Slot;
use crate::graph::{NodeId, ParamId, ParamRole};
use crate::kernel::Kernel;
use crate::op::Unary;
use crate::plan::{BufferId, Place, Plan, Step};
use crate::{Error, Precision, Result, Shape};
pub(super) use scratch::Scratch;

/// Where everything that a plan touches lies on the device.
#[derive(Clone, Debug)]
pub(super) struct Places<'a> {
    pub(super) plan: Address,
    pub(super) values: Address,
    pub(super) state: Address,
    pub(super) gradients: Option<Address>,
    pub(super) moments: Vec<Address>,
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
    /// The launches of the step, in order; `None` if no kernel computes it.
    ///
    /// # Errors
    /// [`Error::Internal`] if the plan contradicts itself.
    pub(super) fn launches(mut self) -> Result<Option<Vec<Launch>>> {
        let step = self.step;
        let launches = match &step.kernel {
            // Without rows there is no block to write the loss.
            Kernel::LinearCrossEntropy(_) | Kernel::CrossEntropy { .. }
                if self.input_shape(0).elements() == 0 =>
            {
                return Ok(None)
            }
            Kernel::Linear { tail } => self.linear(tail)?,
            Kernel::InputGradient { mask } => self.input_gradient(*mask)?,
            Kernel::WeightGradient { sink, bias } => {
                self.weight_gradients(&[crate::kernel::LayerGradient { sink: *sink, bias: *bias }])?
            }
            Kernel::WeightGradients(layers) => self.weight_gradients(layers)?,
            Kernel::LinearCrossEntropy(options) => self.linear_cross_entropy(options)?,
            Kernel::CrossEntropy { nll, gradient } => self.cross_entropy(nll, *gradient)?,
            Kernel::MatMul(product) => match self.matmul(*product)? {
                Some(launches) => launches,
                None => return Ok(None),
            },
            Kernel::Dropout(dropout) => self.dropout(*dropout)?,
            Kernel::MaskNonZero(scale) => self.mask_nonzero(*scale)?,
            Kernel::Map(function) => match self.map(*function)? {
                Some(launches) => launches,
                None => return Ok(None),
            },
            Kernel::MapGradient(function) => match self.map_gradient(*function)? {
                Some(launches) => launches,
                None => return Ok(None),
            },
            Kernel::Zip(function) => match self.zip(*function)? {
                Some(launches) => launches,
                None => return Ok(None),
            },
            Kernel::Softmax(kind) => self.softmax(*kind)?,
            Kernel::SoftmaxGradient(kind) => self.softmax_gradient(*kind)?,
            Kernel::Repeat => self.repeat()?,
            Kernel::Sum => self.sum()?,
            Kernel::ColumnSum => self.column_sum()?,
            Kernel::StoreGradient(store) => self.store_gradient(*store)?,
            Kernel::GlobalNorm => return self.norm(None),
            Kernel::ClipNorm { max_norm } => return self.norm(Some(*max_norm)),
            Kernel::FlatUpdate { rule, clip } => self.flat_update(rule, *clip)?,
            Kernel::Transpose { extents } => self.transpose(*extents)?,
            Kernel::SetState(rule) => self.set_state(*rule)?,
            // Plans for this backend hold none of them.
            Kernel::Conv { .. }
            | Kernel::ConvInputGradient { .. }
            | Kernel::ConvWeightGradient { .. }
            | Kernel::MaxPool(_)
            | Kernel::MaxPoolGradient(_)
            | Kernel::AvgPool(_)
            | Kernel::AvgPoolGradient(_)
            | Kernel::Statistics(_)
            | Kernel::StatisticsGradient(_)
            | Kernel::Normalize(_)
            | Kernel::NormalizeGradient(_)
            | Kernel::Plain => return Ok(None),
        };
        let Lowering { before, after, .. } = self;
        Ok(Some(before.into_iter().chain(launches).chain(after).collect()))
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
        Place::Input(_) | Place::Output(_) => Err(internal("a buffer lies in host memory")),
    }
}

fn slot(places: &Places<'_>, base: Address, id: ParamId) -> Address {
    base.plus(places.slots[id.index()].start.0)
}

/// A function and its parameter as kernels know them, if they do.
fn unary(function: Unary) -> Option<(KilnUnary, f32)> {
    Some(match function {
        Unary::Relu => (KILN_UNARY_RELU, 0.0),
        Unary::LeakyRelu(slope) => (KILN_UNARY_LEAKY_RELU, slope as f32),
        Unary::Gelu => (KILN_UNARY_GELU, 0.0),
        Unary::GeluTanh => (KILN_UNARY_GELU_TANH, 0.0),
        Unary::Silu => (KILN_UNARY_SILU, 0.0),
        Unary::Tanh => (KILN_UNARY_TANH, 0.0),
        Unary::Sigmoid => (KILN_UNARY_SIGMOID, 0.0),
        Unary::Softplus => (KILN_UNARY_SOFTPLUS, 0.0),
        Unary::Exp => (KILN_UNARY_EXP, 0.0),
        Unary::Log => (KILN_UNARY_LOG, 0.0),
        Unary::Square => (KILN_UNARY_SQUARE, 0.0),
        Unary::Scale(factor) => (KILN_UNARY_SCALE, factor as f32),
        _ => return None,
    })
}

pub(super) fn internal(message: &str) -> Error {
    Error::Internal { pass: "cuda", message: message.into() }
}
