// SPDX-License-Identifier: MIT OR Apache-2.0
//! The primitive operations.
//!
//! Each operation has one definition in three parts: the shape rule (`infer`), the gradient
//! as further graph ([`gradient`](Op::gradient)) and the plain meaning ([`Op::eval`]), written for
//! clarity in `f64`. Backends may run groups of operations as fused kernels; what such a kernel
//! must compute is what its operations mean here.

mod array;
mod binary;
mod blend;
mod conv;
mod corrections;
mod extreme;
mod format;
mod formats;
mod groups;
mod id;
mod loss;
mod matmul;
mod mode;
mod movement;
mod normalize;
mod pieces;
mod pool;
mod random;
mod record;
mod recurrent;
mod select;
mod softmax;
mod state;
mod take;
mod unary;
mod unscale;
mod update;
mod window;

pub use crate::error::Mismatch;
pub use array::Array;
pub use binary::Binary;
pub use blend::{Blend, Term};
pub use conv::Conv;
pub(crate) use corrections::weight_so_far;
pub use extreme::{ArgExtreme, Extreme, Extremum};
pub(crate) use format::channels_last;
pub use format::MemoryFormat;
pub(crate) use formats::is_per_channel;
pub use formats::Formats;
pub use groups::{GroupOptions, Groups, Training};
pub use id::{InputId, NodeId, ParamId};
pub(crate) use loss::mean_divisor;
pub use loss::{Nll, Reduction};
pub use matmul::{MatMul, Order};
pub use mode::When;
pub use normalize::{Normalize, Over};
pub(crate) use pieces::around;
pub use pool::{AvgPool, Divisor, MaxPool};
pub use random::{DropRate, Dropout, Drops};
pub use record::Record;
pub use recurrent::{Cell, Direction, Presence, Recurrent, Upstream};
pub(crate) use recurrent::{Extents, Operand, Slope};
pub use softmax::Softmax;
pub use state::StateRule;
pub use unary::{Saved, Unary};
pub use unscale::Unscale;
pub(crate) use update::{clip_coefficient, moved};
pub use update::{Decay, Nesterov, Store, Update, UpdateRule};
pub(crate) use window::{spatial, SPATIAL};
pub use window::{Rounding, Window};

use smallvec::{smallvec, SmallVec};

use crate::scalars::{Scalar, Scalars};
use crate::{DType, Shape};

/// A primitive operation, with everything about it that is known when the graph is traced.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// A tensor given with each run.
    Input(InputId),
    /// The value of a parameter.
    Parameter(ParamId),
    /// One number, the same in every run.
    Constant(f64),
    /// One number that changes from run to run without a new plan.
    Scalar(Scalar),
    /// A function of each element.
    Unary(Unary),
    /// Gradient of [`Op::Unary`]: `(saved, dy) -> dx`, where `saved` is the function's input or
    /// output as [`Unary::saved`] says.
    UnaryGrad(Unary),
    /// A function of pairs of elements; both tensors have the same shape.
    Binary(Binary),
    /// The same elements under another shape.
    Reshape(Shape),
    /// NumPy broadcasting to a shape.
    Broadcast(Shape),
    /// The reverse of broadcasting: sums down to a shape.
    SumTo(Shape),
    /// Exchanges the two extents of a matrix.
    Transpose,
    /// Product of two matrices.
    MatMul(MatMul),
    /// Products of two batches of matrices, pair by pair.
    BatchMatMul(MatMul),
    /// `(condition, a, b) -> condition != 0 ? a : b`, all of one shape.
    Where,
    /// The largest or smallest elements along some extents.
    Extreme(Extreme),
    /// Where along an extent the largest or smallest elements are, as `i32`. Without a gradient.
    ArgExtreme(ArgExtreme),
    /// Puts the extents in the order in which their old numbers are listed.
    Permute(Vec<usize>),
    /// A part of one extent.
    Slice {
        /// The extent.
        axis: usize,
        /// The first of what remains.
        start: usize,
        /// How many remain.
        length: usize,
    },
    /// Zeros before and behind what there is along one extent.
    Pad {
        /// The extent.
        axis: usize,
        /// Number of zeros before.
        before: usize,
        /// Number of zeros behind.
        after: usize,
    },
    /// Tensors one behind the other along an extent.
    Concat {
        /// The extent.
        axis: usize,
    },
    /// `(x, index) -> y`: the slices along an extent that the indices name; the extents of `index`
    /// take its place. An index that names nothing gives NaN.
    Take {
        /// The extent.
        axis: usize,
        /// A slice that has no gradient, an embedding's padding.
        padding: Option<usize>,
    },
    /// Gradient of [`Op::Take`]: `(index, dy) -> dx`, summed in the order of the indices.
    TakeGrad {
        /// The extent.
        axis: usize,
        /// How many slices `x` has along it.
        rows: usize,
        /// The slice whose gradient is 0.
        padding: Option<usize>,
    },
    /// `(x, index) -> y`: for each index the element at its place, but along this extent at the place
    /// that it names. An index that names nothing gives NaN.
    Gather(usize),
    /// Gradient of [`Op::Gather`] for tensors of a shape: `(index, dy) -> dx`, summed in the order of
    /// the indices.
    GatherGrad(usize, Shape),
    /// Softmax or its logarithm over the innermost extent.
    Softmax(Softmax),
    /// Gradient of [`Op::Softmax`]: `(y, dy) -> dx`.
    SoftmaxGrad(Softmax),
    /// Convolution: `(x, weight) -> y`.
    Conv(Conv),
    /// Gradient of [`Op::Conv`] for images of a shape, and transposed convolution:
    /// `(dy, weight) -> dx`.
    ConvInputGrad(Conv, Shape),
    /// Gradient of [`Op::Conv`] for filters of a shape: `(x, dy) -> dw`.
    ConvWeightGrad(Conv, Shape),
    /// The largest elements under a window: `x -> (y, index)`.
    MaxPool(MaxPool),
    /// Gradient of [`Op::MaxPool`] for images of a shape: `(index, dy) -> dx`.
    MaxPoolGrad(MaxPool, Shape),
    /// The means under a window: `x -> y`.
    AvgPool(AvgPool),
    /// Gradient of [`Op::AvgPool`] for images of a shape: `dy -> dx`.
    AvgPoolGrad(AvgPool, Shape),
    /// `(x[, running_mean, running_variance]) -> (mean, variance)` of each group; the variance is
    /// biased. Running statistics take their place where the mode is not train mode.
    Statistics(Over),
    /// Gradient of [`Op::Statistics`]: `(x, mean, d_mean, d_variance) -> dx`.
    StatisticsGrad(Over),
    /// Normalisation with given statistics: `(x, mean, variance[, gamma, beta]) -> y`.
    Normalize(Normalize),
    /// Gradient of [`Op::Normalize`]:
    /// `(x, dy, mean, variance[, gamma]) -> (dx, d_mean, d_variance, d_gamma, d_beta)`.
    NormalizeGrad(Normalize),
    /// A recurrent layer over all steps of sequences; operands and results as [`Recurrent`] says.
    Recurrent(Recurrent),
    /// Gradient of [`Op::Recurrent`]: of its operands but for the weights, whose gradients are products
    /// of these results.
    RecurrentGrad(Recurrent, Upstream),
    /// Negative log-likelihood: `(log_probabilities, labels[, class_weights]) -> loss`.
    Nll(Nll),
    /// Gradient of [`Op::Nll`]: `(dloss, labels[, class_weights]) -> d_log_probabilities`, for the
    /// given number of classes.
    NllGrad(Nll, usize),
    /// Drops elements by the mask function and scales the rest.
    Dropout(Dropout),
    /// `(then, otherwise) -> then` in some modes, else `otherwise`, both of one shape. The first pass
    /// leaves one of them.
    ByMode(When),
    /// Weighted sums along one extent.
    Blend(Blend),
    /// `(y, dy) -> y != 0 ? scale * dy : 0`, the gradient of ReLU and of ReLU with dropout: the
    /// zeros of the output are the mask.
    MaskNonZero(f64),
    /// Stores a gradient in the parameter's slot of the gradient arena and yields what is stored.
    Gradient(ParamId, Store),
    /// Euclidean norm over all elements of all inputs.
    GlobalNorm,
    /// `norm -> min(max_norm / (norm + 1e-6), 1)`.
    ClipCoefficient(f64),
    /// What an update needs of the gradients of a scaled loss.
    Unscale(Unscale),
    /// Changes a parameter and its moments by `(gradient[, coefficient[, overflow]])`, unless there is
    /// an overflow that is not 0; yields the new value.
    Update(ParamId, Update),
    /// Moves a parameter's average towards `(value[, overflow])`, by [`Scalars::average`], unless there
    /// is an overflow that is not 0; yields the new average.
    Average(ParamId),
    /// Changes state that is not trained, in train mode; yields the new state. Inputs as
    /// [`StateRule`] says.
    SetState(ParamId, StateRule),
    /// The same value with its elements in another order in memory.
    ToFormat(MemoryFormat),
    /// One of the further results of an operation that yields several, counted from 1: the node of
    /// such an operation stands for its first result. Costs nothing: the kernel writes it.
    Result(usize),
}

/// Types of an operation's results. Passes ask for them all the time, and most operations have one.
pub(crate) type Results = SmallVec<[TensorType; 1]>;

/// Shape and element type of a value in the graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorType {
    /// The extents.
    pub shape: Shape,
    /// The element type.
    pub dtype: DType,
}

impl TensorType {
    /// A floating-point tensor of this shape.
    pub fn f32(shape: Shape) -> Self {
        TensorType { shape, dtype: DType::F32 }
    }

    /// An integer tensor of this shape.
    pub fn i32(shape: Shape) -> Self {
        TensorType { shape, dtype: DType::I32 }
    }
}

impl From<(Shape, DType)> for TensorType {
    fn from((shape, dtype): (Shape, DType)) -> Self {
        TensorType { shape, dtype }
    }
}

impl std::fmt::Display for TensorType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}", self.dtype, self.shape)
    }
}

impl Op {
    /// The operation's name, as shown in errors, dumps and plans.
    pub fn name(&self) -> &'static str {
        match self {
            Op::Input(_) => "input",
            Op::Parameter(_) => "parameter",
            Op::Constant(_) => "constant",
            Op::Scalar(_) => "scalar",
            Op::Unary(function) => function.name(),
            Op::UnaryGrad(function) => function.gradient_name(),
            Op::Binary(function) => function.name(),
            Op::Reshape(_) => "reshape",
            Op::Broadcast(_) => "broadcast",
            Op::SumTo(_) => "sum_to",
            Op::Transpose => "transpose",
            Op::MatMul(_) => "matmul",
            Op::BatchMatMul(_) => "batch_matmul",
            Op::Where => "where",
            Op::Extreme(extreme) => extreme.name(),
            Op::ArgExtreme(extreme) => extreme.name(),
            Op::Permute(_) => "permute",
            Op::Slice { .. } => "slice",
            Op::Pad { .. } => "pad",
            Op::Concat { .. } => "concat",
            Op::Take { .. } => "take",
            Op::TakeGrad { .. } => "take_grad",
            Op::Gather(_) => "gather",
            Op::GatherGrad(..) => "gather_grad",
            Op::Softmax(Softmax::Plain) => "softmax",
            Op::Softmax(Softmax::Log) => "log_softmax",
            Op::SoftmaxGrad(Softmax::Plain) => "softmax_grad",
            Op::SoftmaxGrad(Softmax::Log) => "log_softmax_grad",
            Op::Conv(_) => "conv",
            Op::ConvInputGrad(..) => "conv_input_grad",
            Op::ConvWeightGrad(..) => "conv_weight_grad",
            Op::MaxPool(_) => "max_pool",
            Op::MaxPoolGrad(..) => "max_pool_grad",
            Op::AvgPool(_) => "avg_pool",
            Op::AvgPoolGrad(..) => "avg_pool_grad",
            Op::Statistics(_) => "statistics",
            Op::StatisticsGrad(_) => "statistics_grad",
            Op::Normalize(_) => "normalize",
            Op::NormalizeGrad(_) => "normalize_grad",
            Op::Recurrent(recurrent) => recurrent.cell.name(),
            Op::RecurrentGrad(recurrent, _) => recurrent.cell.gradient_name(),
            Op::Nll(_) => "nll",
            Op::NllGrad(..) => "nll_grad",
            Op::Dropout(_) => "dropout",
            Op::ByMode(_) => "by_mode",
            Op::Blend(_) => "blend",
            Op::MaskNonZero(_) => "mask_nonzero",
            Op::Gradient(..) => "gradient",
            Op::GlobalNorm => "global_norm",
            Op::ClipCoefficient(_) => "clip_coefficient",
            Op::Unscale(_) => "unscale",
            Op::Update(..) => "update",
            Op::Average(_) => "average",
            Op::SetState(_, rule) => rule.name(),
            Op::ToFormat(MemoryFormat::Contiguous) => "to_contiguous",
            Op::ToFormat(MemoryFormat::ChannelsLast) => "to_channels_last",
            Op::Result(_) => "result",
        }
    }

    /// Whether the operation draws random numbers.
    pub fn is_random(&self) -> bool {
        matches!(self, Op::Dropout(_))
    }

    /// Whether the operation changes state that outlives the run.
    pub fn is_effect(&self) -> bool {
        matches!(self, Op::Gradient(..) | Op::Update(..) | Op::Average(_) | Op::SetState(..))
    }

    /// The shape rule: the types of the results for inputs of the given types, one for most
    /// operations.
    ///
    /// Leaves ([`Op::Input`], [`Op::Parameter`]) have no inputs to infer from, and a further result
    /// ([`Op::Result`]) is typed by the operation that yields it; the graph holds their types and
    /// this returns none for them.
    ///
    /// # Errors
    /// A [`Mismatch`] if the operation cannot take these inputs.
    pub(crate) fn infer(&self, inputs: &[&TensorType]) -> Result<Results, Mismatch> {
        let inferred = match self {
            Op::Input(_) | Op::Parameter(_) | Op::Result(_) => return Ok(Results::new()),
            Op::Constant(_) | Op::Scalar(_) => TensorType::f32(Shape::scalar()),
            Op::Unary(_) => unary::infer(inputs)?,
            Op::Dropout(_) => unary::infer(inputs)?,
            Op::UnaryGrad(_) | Op::Binary(_) | Op::MaskNonZero(_) => binary::infer(inputs)?,
            Op::ByMode(_) => binary::infer(inputs)?,
            Op::Blend(blend) => blend.infer(inputs)?,
            Op::Reshape(shape) => movement::infer_reshape(inputs, shape)?,
            Op::Broadcast(shape) => movement::infer_broadcast(inputs, shape)?,
            Op::SumTo(shape) => movement::infer_sum_to(inputs, shape)?,
            Op::Transpose => movement::infer_transpose(inputs)?,
            Op::ToFormat(_) => movement::infer_to_format(inputs)?,
            Op::MatMul(product) => product.infer(inputs)?,
            Op::BatchMatMul(product) => product.infer_batch(inputs)?,
            Op::Where => select::infer(inputs)?,
            Op::Extreme(extreme) => extreme.infer(inputs)?,
            Op::ArgExtreme(extreme) => extreme.infer(inputs)?,
            Op::Permute(axes) => pieces::infer_permute(inputs, axes)?,
            Op::Slice { axis, start, length } => {
                pieces::infer_slice(inputs, *axis, *start, *length)?
            }
            Op::Pad { axis, before, after } => pieces::infer_pad(inputs, *axis, *before, *after)?,
            Op::Concat { axis } => pieces::infer_concat(inputs, *axis)?,
            Op::Take { axis, .. } => take::infer_take(inputs, *axis)?,
            Op::TakeGrad { axis, rows, .. } => take::infer_take_gradient(inputs, *axis, *rows)?,
            Op::Gather(axis) => take::infer_gather(inputs, *axis)?,
            Op::GatherGrad(axis, shape) => take::infer_gather_gradient(inputs, *axis, shape)?,
            Op::Softmax(_) => softmax::infer(inputs)?,
            Op::SoftmaxGrad(_) => binary::infer(inputs)?,
            Op::Conv(conv) => conv.infer(inputs)?,
            Op::ConvInputGrad(conv, image) => conv.infer_input_gradient(inputs, image)?,
            Op::ConvWeightGrad(conv, filters) => conv.infer_weight_gradient(inputs, filters)?,
            Op::MaxPool(pool) => return pool.infer(inputs).map(Results::from_vec),
            Op::MaxPoolGrad(pool, image) => pool.infer_gradient(inputs, image)?,
            Op::AvgPool(pool) => pool.infer(inputs)?,
            Op::AvgPoolGrad(pool, image) => pool.infer_gradient(inputs, image)?,
            Op::Statistics(over) => return over.infer(inputs).map(Results::from_vec),
            Op::StatisticsGrad(over) => over.infer_gradient(inputs)?,
            Op::Normalize(normalize) => normalize.infer(inputs)?,
            Op::NormalizeGrad(normalize) => {
                return normalize.infer_gradient(inputs).map(Results::from_vec);
            }
            Op::Recurrent(recurrent) => return recurrent.infer(inputs).map(Results::from_vec),
            Op::RecurrentGrad(recurrent, upstream) => {
                return recurrent.infer_gradient(*upstream, inputs).map(Results::from_vec);
            }
            Op::Nll(nll) => nll.infer(inputs)?,
            Op::NllGrad(nll, classes) => nll.infer_gradient(*classes, inputs)?,
            Op::Gradient(..) | Op::Update(..) => update::infer(inputs)?,
            Op::Average(_) => update::infer_average(inputs)?,
            Op::SetState(_, rule) => rule.infer(inputs)?,
            Op::GlobalNorm => TensorType::f32(Shape::scalar()),
            Op::ClipCoefficient(_) => unary::infer(inputs)?,
            Op::Unscale(unscale) => return unscale.infer(inputs).map(Results::from_vec),
        };
        Ok(smallvec![inferred])
    }

    /// Appends the gradient to the graph: for each input, the node that holds the gradient with
    /// respect to it, or `None` where there is none (labels, masks). `dys` are the gradients with
    /// respect to the results; `None` for those without influence, and at least one is there.
    ///
    /// # Errors
    /// A [`Mismatch`] for operations that have no gradient of their own (gradients and updates).
    pub fn gradient(
        &self,
        graph: &mut dyn Record,
        node: NodeId,
        dys: &[Option<NodeId>],
    ) -> Result<Vec<Option<NodeId>>, Mismatch> {
        let inputs = graph.inputs(node).to_vec();
        if let Op::Statistics(over) = self {
            return over.gradient(graph, node, dys);
        }
        if let Op::Recurrent(recurrent) = self {
            return recurrent.gradient(graph, node, dys);
        }
        // Operations with one result are differentiated only where that has a gradient.
        let Some(dy) = dys[0] else { return Ok(vec![None; inputs.len()]) };
        let one = |id| Ok(vec![Some(id)]);
        match self {
            Op::Input(_) | Op::Parameter(_) | Op::Constant(_) | Op::Scalar(_) => Ok(vec![]),
            Op::Unary(function) => Ok(vec![function.gradient(graph, inputs[0], node, dy)?]),
            Op::Binary(function) => function.gradient(graph, &inputs, dy),
            Op::Reshape(_) => one(movement::gradient_of_reshape(graph, inputs[0], dy)?),
            Op::Broadcast(_) => one(movement::gradient_of_broadcast(graph, inputs[0], dy)?),
            Op::SumTo(_) => one(movement::gradient_of_sum_to(graph, inputs[0], dy)?),
            Op::Transpose => one(graph.add(Op::Transpose, &[dy])?),
            // Formats are chosen when everything is differentiated.
            Op::ToFormat(_) => one(dy),
            Op::MatMul(product) => product.gradient(Op::MatMul, graph, &inputs, dy),
            Op::BatchMatMul(product) => product.gradient(Op::BatchMatMul, graph, &inputs, dy),
            Op::Where => select::gradient(graph, inputs[0], dy),
            Op::Extreme(extreme) => one(extreme.gradient(graph, inputs[0], node, dy)?),
            Op::ArgExtreme(_) => Ok(vec![None]),
            Op::Permute(axes) => one(pieces::gradient_of_permute(graph, axes, dy)?),
            Op::Slice { axis, start, length } => {
                let piece = (*axis, *start, *length);
                one(pieces::gradient_of_slice(graph, inputs[0], piece, dy)?)
            }
            Op::Pad { axis, before, .. } => {
                one(pieces::gradient_of_pad(graph, inputs[0], (*axis, *before), dy)?)
            }
            Op::Concat { axis } => pieces::gradient_of_concat(graph, &inputs, *axis, dy),
            Op::Take { axis, padding } => {
                take::gradient_of_take(graph, &inputs, (*axis, *padding), dy)
            }
            Op::Gather(axis) => take::gradient_of_gather(graph, &inputs, *axis, dy),
            Op::Softmax(kind) => one(graph.add(Op::SoftmaxGrad(*kind), &[node, dy])?),
            Op::Conv(conv) => conv.gradient(graph, &inputs, dy),
            Op::ConvInputGrad(conv, _) => conv.gradient_of_input_gradient(graph, &inputs, dy),
            Op::MaxPool(pool) => one(pool.gradient(graph, node, dy)?),
            Op::AvgPool(pool) => {
                let image = graph.shape(inputs[0]).clone();
                one(graph.add(Op::AvgPoolGrad(*pool, image), &[dy])?)
            }
            Op::Normalize(normalize) => normalize.gradient(graph, &inputs, dy),
            Op::Nll(nll) => nll.gradient(graph, &inputs, dy),
            Op::Dropout(dropout) => one(graph.add(Op::Dropout(*dropout), &[dy])?),
            Op::Blend(blend) => one(blend.gradient(graph, dy)?),
            Op::UnaryGrad(_)
            | Op::ByMode(_)
            | Op::Statistics(_)
            | Op::StatisticsGrad(_)
            | Op::NormalizeGrad(_)
            | Op::Recurrent(_)
            | Op::RecurrentGrad(..)
            | Op::ConvWeightGrad(..)
            | Op::MaxPoolGrad(..)
            | Op::AvgPoolGrad(..)
            | Op::SoftmaxGrad(_)
            | Op::TakeGrad { .. }
            | Op::GatherGrad(..)
            | Op::NllGrad(..)
            | Op::MaskNonZero(_)
            | Op::Gradient(..)
            | Op::GlobalNorm
            | Op::ClipCoefficient(_)
            | Op::Unscale(_)
            | Op::Update(..)
            | Op::Average(_)
            | Op::SetState(..)
            | Op::Result(_) => Err(Mismatch::new("an operation of the forward pass", self.name())),
        }
    }

    /// The plain meaning: computes the results from the inputs, in `f64`, element by element.
    ///
    /// Leaves and effects have no meaning without the state of a run; the interpreter in
    /// [`graph::reference`](crate::graph::reference) supplies it and never asks here.
    pub fn eval(&self, inputs: &[&Array], scalars: &Scalars) -> Vec<Array> {
        let result = match self {
            Op::Constant(value) => Array::scalar(*value),
            Op::Unary(function) => inputs[0].map(|x| function.value(x)),
            Op::UnaryGrad(function) => {
                inputs[0].zip(inputs[1], |saved, dy| function.backward(saved, dy))
            }
            Op::Binary(function) => inputs[0].zip(inputs[1], |a, b| function.value(a, b)),
            Op::MaskNonZero(scale) => {
                inputs[0].zip(inputs[1], |y, dy| if y != 0.0 { scale * dy } else { 0.0 })
            }
            Op::Reshape(shape) => inputs[0].reshaped(shape),
            Op::Broadcast(shape) => movement::broadcast(inputs[0], shape),
            Op::SumTo(shape) => movement::sum_to(inputs[0], shape),
            Op::Transpose => movement::transpose(inputs[0]),
            Op::ToFormat(_) => inputs[0].clone(),
            Op::MatMul(product) => product.eval(inputs[0], inputs[1]),
            Op::BatchMatMul(product) => product.eval_batch(inputs[0], inputs[1]),
            Op::Where => select::eval(inputs[0], inputs[1], inputs[2]),
            Op::Extreme(extreme) => extreme.eval(inputs[0]),
            Op::ArgExtreme(extreme) => extreme.eval(inputs[0]),
            Op::Permute(axes) => pieces::permute(inputs[0], axes),
            Op::Slice { axis, start, length } => pieces::slice(inputs[0], *axis, *start, *length),
            Op::Pad { axis, before, after } => pieces::pad(inputs[0], *axis, *before, *after),
            Op::Concat { axis } => pieces::concat(inputs, *axis),
            Op::Take { axis, .. } => take::take(inputs[0], inputs[1], *axis),
            Op::TakeGrad { axis, rows, padding } => {
                take::take_gradient(inputs[0], inputs[1], *axis, *rows, *padding)
            }
            Op::Gather(axis) => take::gather(inputs[0], inputs[1], *axis),
            Op::GatherGrad(axis, shape) => {
                take::gather_gradient(inputs[0], inputs[1], *axis, shape)
            }
            Op::Softmax(kind) => kind.eval(inputs[0]),
            Op::SoftmaxGrad(kind) => kind.eval_gradient(inputs[0], inputs[1]),
            Op::Conv(conv) => conv.eval(inputs[0], inputs[1]),
            Op::ConvInputGrad(conv, image) => conv.eval_input_gradient(image, inputs[0], inputs[1]),
            Op::ConvWeightGrad(conv, filters) => {
                conv.eval_weight_gradient(filters, inputs[0], inputs[1])
            }
            Op::MaxPool(pool) => return pool.eval(inputs[0]),
            Op::MaxPoolGrad(pool, image) => pool.eval_gradient(image, inputs[0], inputs[1]),
            Op::AvgPool(pool) => pool.eval(inputs[0]),
            Op::AvgPoolGrad(pool, image) => pool.eval_gradient(image, inputs[0]),
            Op::Statistics(over) => return over.eval(inputs[0]),
            Op::StatisticsGrad(over) => over.eval_gradient(inputs),
            Op::Normalize(normalize) => normalize.eval(inputs),
            Op::NormalizeGrad(normalize) => return normalize.eval_gradient(inputs),
            Op::Recurrent(recurrent) => return recurrent.eval(inputs),
            Op::RecurrentGrad(recurrent, upstream) => {
                return recurrent.eval_gradient(*upstream, inputs);
            }
            Op::Nll(nll) => nll.eval(inputs),
            Op::NllGrad(nll, classes) => nll.eval_gradient(*classes, inputs),
            Op::Dropout(dropout) => dropout.eval(inputs[0], scalars),
            Op::ByMode(_) => inputs[0].clone(),
            Op::Blend(blend) => blend.eval(inputs[0]),
            Op::GlobalNorm => update::global_norm(inputs),
            Op::Unscale(unscale) => return unscale.eval(inputs),
            Op::ClipCoefficient(max_norm) => {
                inputs[0].map(|norm| update::clip_coefficient(*max_norm, norm))
            }
            Op::Input(_)
            | Op::Parameter(_)
            | Op::Scalar(_)
            | Op::Gradient(..)
            | Op::Update(..)
            | Op::Average(_)
            | Op::SetState(..)
            | Op::Result(_) => {
                unreachable!("{} is given by the interpreter", self.name())
            }
        };
        vec![result]
    }
}
