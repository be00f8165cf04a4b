// SPDX-License-Identifier: MIT OR Apache-2.0
//! Kernels: what backends compute in one go.
//!
//! Each file finds in the graph what its kernel can compute. A kernel has no meaning of its own: it
//! means the nodes that it replaces, and it is tested against them.

mod blend;
pub mod chain;
mod conv;
mod conv_way;
mod copy;
mod cross_entropy;
mod facts;
mod finder;
mod fused_images;
mod images;
mod indexed;
mod input_gradient;
mod linear;
mod linear_cross_entropy;
mod optimizer;
mod recurrent;
mod reduce;
mod weight_gradient;
mod weight_gradients;

pub(crate) use chain::chains;
pub use chain::Chain;
pub(crate) use conv::{sees_few, FEW_CHANNELS, FEW_PRODUCTS};
pub use conv_way::ConvWay;
pub use copy::{Piece, Stretch};
pub use facts::{Facts, Fusion, Grouping, HostMemory, ImageKernels, Storage, UpdatePlace};
pub(crate) use finder::{is_leaf, is_read_through, is_view, origin, Cluster, Finder};
pub use fused_images::{
    BatchGradient, BatchLine, ClassifierHead, ConvGradient, ConvLine, FusedImages, Planes, Skip,
};
pub use indexed::Picks;
pub use linear::Bias;
pub use recurrent::RecurrentDropout;
pub use reduce::{Extent, Reduce, Reducer};

use crate::graph::{Graph, MemoryFormat, Node, NodeId};
use crate::op::{
    is_per_channel, AvgPool, Blend, Conv, Dropout, Drops, MatMul, MaxPool, Nll, Normalize, Op,
    Over, Recurrent, Softmax, StateRule, Store, Unary, Unscale, UpdateRule, Upstream,
};
use crate::{DType, Shape};

/// A kernel with everything about it that is known when the plan is made.
#[derive(Clone, Debug, PartialEq)]
pub enum Kernel {
    /// `(x, weight[, bias]) -> y`: product, bias, activation and dropout in one.
    Linear {
        /// What is applied to the sums.
        tail: LinearTail,
    },
    /// `(dy, weight[, y]) -> dx`: product and, with a scale, the mask `y != 0`.
    InputGradient {
        /// Factor of the gradients that pass, if there is a mask.
        mask: Option<f64>,
    },
    /// `(dy, x) -> (d_weight[, d_bias])`: product, column sums and what becomes of them.
    WeightGradient {
        /// Where the gradients go.
        sink: Sink,
        /// Whether the bias gradient, the column sums of `dy`, is computed along.
        bias: BiasGradient,
    },
    /// `(dy, x)... -> (d_weight[, d_bias])...`: [`Kernel::WeightGradient`] of several layers.
    WeightGradients(Vec<LayerGradient>),
    /// `(x, weight[, bias], labels[, class_weights]) -> loss[, d_scores][, scores]`: a linear layer
    /// and [`Kernel::CrossEntropy`] of its output.
    LinearCrossEntropy(LinearCrossEntropy),
    /// `(scores, labels[, class_weights]) -> loss[, d_scores]`: log-softmax, likelihood and, in
    /// training, their gradient.
    CrossEntropy {
        /// The loss's options.
        nll: Nll,
        /// Whether the gradient is computed along.
        gradient: LossGradient,
    },
    /// `(log_probabilities, labels[, class_weights]) -> loss`: likelihood alone.
    Nll(Nll),
    /// `(dloss, labels[, class_weights]) -> d_log_probabilities`: the gradient of [`Kernel::Nll`].
    NllGradient(Nll),
    /// `x -> y`: dropout alone.
    Dropout(Dropout),
    /// `operands -> results`: a run of operations on each element.
    Chain(Chain),
    /// `x -> y`: softmax or its logarithm over the innermost extent.
    Softmax(Softmax),
    /// `(y, dy) -> dx`: the gradient of [`Kernel::Softmax`].
    SoftmaxGradient(Softmax),
    /// Sum of all elements.
    Sum,
    /// `(a, b) -> c`: the product of two matrices.
    MatMul(MatMul),
    /// Column sums of a matrix.
    ColumnSum,
    /// `x -> y`: sums, extremes or their places along any extents.
    Reduce(Reduce),
    /// Stores a gradient in its slot.
    StoreGradient(Store),
    /// `gradients -> norm`.
    GlobalNorm,
    /// `gradients -> (norm, coefficient)`: the norm and the factor that clips it.
    ClipNorm {
        /// The largest norm that is left alone.
        max_norm: f64,
    },
    /// `(scale, gradients...) -> (coefficient, overflow[, norm])`, as [`Op::Unscale`]; it also lets the
    /// device's own state go on.
    Unscale(Unscale),
    /// `(gradients...[, coefficient[, overflow]])`: the optimiser over all parameters in one pass, and
    /// their moving averages, where there are any.
    FlatUpdate {
        /// The optimiser's rule, but for weight decay: what is each parameter's own stands in its
        /// [`Op::Update`].
        rule: UpdateRule,
        /// Which inputs there are behind the gradients.
        clip: Clip,
    },
    /// `(values...[, overflow]) -> averages...`: moving averages of what no optimiser changes in this step.
    Average,
    /// `x -> y`: exchanges rows and columns of each matrix of a batch.
    Transpose {
        /// Extents of `x`: matrices, rows, columns.
        extents: [usize; 3],
    },
    /// `inputs -> y`: boxes of elements, each to its place.
    Copy(Vec<Piece>),
    /// `(x, index) -> y`: `y[o, p, :] = x[o, index[p], :]`.
    Take(Picks),
    /// `(index, dy) -> dx`: the gradient of [`Kernel::Take`]; 0 for one of the rows, if it is given.
    TakeGradient(Picks, Option<usize>),
    /// [`Kernel::Take`] and dropout of what it yields.
    TakeDropout(Picks, Dropout),
    /// The gradient of [`Kernel::TakeDropout`].
    TakeGradientDropout(Picks, Option<usize>, Dropout),
    /// `(x, index) -> y`: `y[o, p, i] = x[o, index[o, p, i], i]`.
    Gather(Picks),
    /// `(index, dy) -> dx`: the gradient of [`Kernel::Gather`].
    GatherGradient(Picks),
    /// `(a, b) -> c`: the products of two batches of matrices.
    BatchMatMul(MatMul),
    /// `inputs -> state`: changes state that is not trained.
    SetState(StateRule),
    /// `(x, weight[, bias]) -> y`: convolution, bias, activation and dropout in one.
    Conv {
        /// The convolution.
        conv: Conv,
        /// How it is computed.
        way: ConvWay,
        /// What is applied to the sums.
        tail: LinearTail,
    },
    /// `(dy, weight[, y]) -> dx`: a convolution's gradient with respect to its input and, with a scale,
    /// the mask `y != 0`.
    ConvInputGradient {
        /// The convolution.
        conv: Conv,
        /// How it is computed.
        way: ConvWay,
        /// Factor of the gradients that pass, if there is a mask.
        mask: Option<f64>,
    },
    /// `(dy, x) -> d_weight[, d_bias]`: a convolution's gradients with respect to its weights and bias.
    ConvWeightGradient {
        /// The convolution.
        conv: Conv,
        /// How it is computed.
        way: ConvWay,
        /// Where the gradients go; `None` if that of the weights is a value like others.
        sink: Option<Sink>,
        /// Whether the bias gradient, the sums of the channels of `dy`, is computed along.
        bias: BiasGradient,
    },
    /// `x -> y[, index]`: the largest elements under a window.
    MaxPool(MaxPool),
    /// `(index, dy) -> dx`: the gradient of [`Kernel::MaxPool`].
    MaxPoolGradient(MaxPool),
    /// `x -> y`: the means under a window.
    AvgPool(AvgPool),
    /// `dy -> dx`: the gradient of [`Kernel::AvgPool`].
    AvgPoolGradient(AvgPool),
    /// `x -> mean[, variance]` of groups of elements.
    Statistics(Over),
    /// `(x, mean, d_mean, d_variance) -> dx`: the gradient of [`Kernel::Statistics`].
    StatisticsGradient(Over),
    /// `(x, mean, variance[, gamma, beta]) -> y`: normalisation.
    Normalize(Normalize),
    /// `(x, dy, mean, variance[, gamma]) -> dx[, sums...]`: the gradient of [`Kernel::Normalize`].
    NormalizeGradient(Normalize),
    /// `x [outer, extent, inner] -> y`: weighted sums along the middle.
    Blend {
        /// The sums.
        blend: Blend,
        /// Product of the extents before, as they lie in memory.
        outer: usize,
        /// Product of the extents behind.
        inner: usize,
    },
    /// A recurrent layer over all steps; operands as [`Recurrent`] says, results as far as they are
    /// wanted.
    Recurrent(Recurrent),
    /// The gradient of [`Kernel::Recurrent`].
    RecurrentGradient(Recurrent, Upstream),
    /// [`Kernel::Recurrent`] with dropout behind it.
    RecurrentDropout(RecurrentDropout),
    /// The gradient of [`Kernel::RecurrentDropout`].
    RecurrentGradientDropout(RecurrentDropout, Upstream),
    /// Operations on images with their neighbours.
    FusedImages(FusedImages),
    /// One operation by its plain meaning.
    Plain,
}

/// What [`Kernel::Linear`] does with a sum before it is stored.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LinearTail {
    /// Whether a bias is added.
    pub bias: Bias,
    /// The activation.
    pub activation: Option<Unary>,
    /// Dropout after the activation.
    pub dropout: Option<Dropout>,
}

/// Where [`Kernel::WeightGradient`] puts its gradients.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Sink {
    /// Into the gradient's slot.
    Store(Store),
    /// Into the optimiser, element by element, with no gradient stored at all. The rule is that of
    /// all its parameters but for weight decay, as for [`Kernel::FlatUpdate`].
    Update(UpdateRule),
}

impl Sink {
    /// Whether one kernel can serve both.
    pub(crate) fn is_like(self, other: Sink) -> bool {
        match (self, other) {
            (Sink::Update(a), Sink::Update(b)) => a.is_like(b),
            (a, b) => a == b,
        }
    }
}

/// One layer of [`Kernel::WeightGradients`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LayerGradient {
    /// Where the gradients go.
    pub sink: Sink,
    /// Whether the bias gradient is computed along.
    pub bias: BiasGradient,
}

/// What [`Kernel::LinearCrossEntropy`] computes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LinearCrossEntropy {
    /// Whether the layer adds a bias.
    pub bias: Bias,
    /// The loss's options.
    pub nll: Nll,
    /// Whether the gradient is computed along.
    pub gradient: LossGradient,
    /// Whether the scores are wanted.
    pub scores: Scores,
}

/// What [`Kernel::LinearCrossEntropy`] does with the scores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scores {
    /// They are returned from the run.
    Stored,
    /// Nothing: the loss and its gradient are all that is wanted.
    Dropped,
}

/// Whether [`Kernel::WeightGradient`] computes the bias gradient along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BiasGradient {
    /// It does.
    Computed,
    /// The layer has none.
    Absent,
}

/// Whether [`Kernel::CrossEntropy`] computes its gradient along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LossGradient {
    /// It does, times the run's share.
    Computed,
    /// The same times the loss scale.
    Scaled,
    /// Only the loss is wanted.
    Absent,
}

/// Whether [`Kernel::FlatUpdate`] scales the gradients first, and whether it may be skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clip {
    /// By the coefficient in its last input.
    ByCoefficient,
    /// By the coefficient in its last input but one; it is skipped unless the last is 0.
    Unscaled,
    /// It does not.
    Off,
}

/// Cost of a kernel as the plan prints it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Bytes read and written.
    pub bytes: usize,
    /// Floating-point operations of matrix products.
    pub flops: usize,
}

/// Finds a cluster that begins at a node.
pub(crate) type Find = fn(&Finder<'_>, NodeId) -> Option<Cluster>;

/// The searches, in the order in which they are tried.
pub(crate) const FINDERS: &[Find] = &[
    fused_images::find_classifier_head,
    linear_cross_entropy::find,
    fused_images::find_conv_weight_gradients,
    weight_gradients::find,
    optimizer::find_clip_norm,
    cross_entropy::find,
    weight_gradient::find,
    linear::find,
    input_gradient::find,
    conv::find_weight_gradient,
    fused_images::find_conv_statistics,
    fused_images::find_conv_normalize,
    fused_images::find_conv_pool,
    conv::find,
    fused_images::find_conv_batch_gradient,
    fused_images::find_conv_input_gradient,
    conv::find_input_gradient,
    recurrent::find,
    recurrent::find_gradient,
    indexed::find_take,
    indexed::find_take_gradient,
    fused_images::find_batch_statistics,
    fused_images::find_batch_apply,
    fused_images::find_batch_gradient,
    fused_images::find_pool_to_planes,
    fused_images::find_pool_gradient_of_planes,
    optimizer::find,
    optimizer::find_averages,
];

/// The kernel for one node that no larger kernel took.
pub(crate) fn single(finder: &Finder<'_>, id: NodeId) -> Cluster {
    let graph = finder.graph;
    let node = graph.node(id);
    let kernel = match &node.op {
        // Other kernels know numbers alone.
        Op::Transpose | Op::Broadcast(_) if node.ty.dtype != DType::F32 => moving(graph, id),
        Op::Dropout(dropout) if counts_as_stored(node, *dropout) => Kernel::Dropout(*dropout),
        Op::Nll(nll) => Kernel::Nll(*nll),
        Op::NllGrad(nll, _) => Kernel::NllGradient(*nll),
        Op::Softmax(kind) => Kernel::Softmax(*kind),
        Op::SoftmaxGrad(kind) => Kernel::SoftmaxGradient(*kind),
        Op::SumTo(shape) if shape.elements() == 1 => Kernel::Sum,
        Op::MatMul(product) => Kernel::MatMul(*product),
        Op::SumTo(_) if sums_columns(graph.node(node.inputs[0]), node) => Kernel::ColumnSum,
        Op::SumTo(_) | Op::Extreme(_) | Op::ArgExtreme(_) => {
            reduce::kernel(graph, id).unwrap_or(Kernel::Plain)
        }
        Op::Transpose => {
            let [rows, columns] = graph.node(node.inputs[0]).matrix();
            Kernel::Transpose { extents: [1, rows, columns] }
        }
        Op::ToFormat(_) => Kernel::Transpose { extents: image_extents(graph.node(node.inputs[0])) },
        Op::Gradient(_, store) => Kernel::StoreGradient(*store),
        Op::GlobalNorm => Kernel::GlobalNorm,
        Op::Unscale(unscale) => Kernel::Unscale(*unscale),
        Op::SetState(_, rule) => Kernel::SetState(*rule),
        Op::BatchMatMul(product) => Kernel::BatchMatMul(*product),
        Op::Recurrent(recurrent) => Kernel::Recurrent(*recurrent),
        Op::RecurrentGrad(recurrent, upstream) => Kernel::RecurrentGradient(*recurrent, *upstream),
        _ => images::single(finder, id)
            .or_else(|| blend::kernel(finder, id))
            .unwrap_or_else(|| moving(graph, id)),
    };
    let results = finder.results(id).iter().map(|(_, result)| *result);
    let nodes: Vec<NodeId> = std::iter::once(id).chain(results).collect();
    Cluster { kernel, outputs: nodes.clone(), nodes, inputs: node.inputs.clone() }
}

/// The kernel of an operation that only moves elements.
fn moving(graph: &Graph, id: NodeId) -> Kernel {
    copy::kernel(graph, id).or_else(|| indexed::kernel(graph, id)).unwrap_or(Kernel::Plain)
}

/// Whether a mask counts what it drops of a sample as it lies in memory: single elements in their
/// order, channels innermost, whole samples in any way.
pub(crate) fn counts_as_stored(node: &Node, dropout: Dropout) -> bool {
    match dropout.drops {
        Drops::Elements => node.ty.shape.rank() < 4 || conv::lies_channels_last(node),
        Drops::Channels => node.ty.shape.rank() >= 2 && conv::lies_channels_last(node),
        Drops::Samples | Drops::Features | Drops::Weights => true,
    }
}

/// Whether a sum adds up the columns of what lies in memory.
fn sums_columns(from: &Node, to: &Node) -> bool {
    match from.format {
        MemoryFormat::Contiguous => to.ty.shape.rank() == 1 && from.ty.shape.rank() == 2,
        MemoryFormat::ChannelsLast => is_per_channel(&to.ty.shape, &from.ty.shape),
    }
}

/// An image in memory as a batch of matrices, channels by pixels or pixels by channels.
fn image_extents(image: &Node) -> [usize; 3] {
    let [rows, columns] = image.matrix();
    let samples = image.ty.shape.samples().max(1);
    let channels = image.ty.shape.dims().get(1).copied().unwrap_or(1);
    let pixels = (rows * columns / samples).checked_div(channels).unwrap_or(0);
    match image.format {
        MemoryFormat::Contiguous => [samples, channels, pixels],
        MemoryFormat::ChannelsLast => [samples, pixels, channels],
    }
}

impl Kernel {
    /// The kernel's name, as plans print it.
    pub fn name(&self) -> &'static str {
        match self {
            Kernel::Linear { .. } => "linear",
            Kernel::InputGradient { .. } => "linear_input_gradient",
            Kernel::WeightGradient { .. } => "linear_weight_gradient",
            Kernel::WeightGradients(_) => "linear_weight_gradients",
            Kernel::LinearCrossEntropy(_) => "linear_cross_entropy",
            Kernel::CrossEntropy { .. } => "cross_entropy",
            Kernel::Nll(_) => "nll",
            Kernel::NllGradient(_) => "nll_gradient",
            Kernel::Dropout(_) => "dropout",
            Kernel::Chain(_) => "chain",
            Kernel::Softmax(_) => "softmax",
            Kernel::SoftmaxGradient(_) => "softmax_gradient",
            Kernel::Sum => "sum",
            Kernel::MatMul(_) => "matmul",
            Kernel::ColumnSum => "column_sum",
            Kernel::Reduce(reduce) => reduce.name(),
            Kernel::StoreGradient(_) => "store_gradient",
            Kernel::GlobalNorm => "global_norm",
            Kernel::ClipNorm { .. } => "clip_norm",
            Kernel::Unscale(_) => "unscale",
            Kernel::FlatUpdate { .. } => "flat_update",
            Kernel::Average => "average",
            Kernel::Transpose { .. } => "transpose",
            Kernel::Copy(_) => "copy",
            Kernel::Take(_) => "take",
            Kernel::TakeGradient(..) => "take_gradient",
            Kernel::TakeDropout(..) => "take_dropout",
            Kernel::TakeGradientDropout(..) => "take_gradient_dropout",
            Kernel::Gather(_) => "gather",
            Kernel::GatherGradient(_) => "gather_gradient",
            Kernel::BatchMatMul(_) => "batch_matmul",
            Kernel::SetState(rule) => rule.name(),
            Kernel::Conv { way: ConvWay::Direct, .. } => "conv",
            Kernel::Conv { way: ConvWay::Winograd, .. } => "conv_winograd",
            Kernel::ConvInputGradient { way: ConvWay::Direct, .. } => "conv_input_gradient",
            Kernel::ConvInputGradient { way: ConvWay::Winograd, .. } => {
                "conv_input_gradient_winograd"
            }
            Kernel::ConvWeightGradient { way: ConvWay::Direct, .. } => "conv_weight_gradient",
            Kernel::ConvWeightGradient { way: ConvWay::Winograd, .. } => {
                "conv_weight_gradient_winograd"
            }
            Kernel::MaxPool(_) => "max_pool",
            Kernel::MaxPoolGradient(_) => "max_pool_gradient",
            Kernel::AvgPool(_) => "avg_pool",
            Kernel::AvgPoolGradient(_) => "avg_pool_gradient",
            Kernel::Statistics(_) => "statistics",
            Kernel::StatisticsGradient(_) => "statistics_gradient",
            Kernel::Normalize(_) => "normalize",
            Kernel::NormalizeGradient(_) => "normalize_gradient",
            Kernel::Blend { .. } => "blend",
            Kernel::Recurrent(_) => "recurrent",
            Kernel::RecurrentGradient(..) => "recurrent_gradient",
            Kernel::RecurrentDropout(_) => "recurrent_dropout",
            Kernel::RecurrentGradientDropout(..) => "recurrent_gradient_dropout",
            Kernel::FusedImages(fused) => fused.name(),
            Kernel::Plain => "plain",
        }
    }

    /// What a launch of the kernel moves and computes; `stored` is the type in which a value lies
    /// in memory.
    pub(crate) fn cost(
        &self,
        graph: &Graph,
        cluster: &Cluster,
        stored: impl Fn(NodeId) -> DType,
    ) -> Cost {
        let size = |id: &NodeId| graph.node(*id).ty.shape.elements() * stored(*id).bytes();
        let values = cluster.inputs.iter().chain(&cluster.outputs);
        // A count that is shown, so the largest number stands for what no number holds.
        let mut bytes = values.map(size).fold(0, usize::saturating_add);
        let mut flops = 0;
        for id in &cluster.nodes {
            let node = graph.node(*id);
            match &node.op {
                Op::MatMul(_) | Op::BatchMatMul(_) => {
                    let left = &graph.node(node.inputs[0]).ty.shape;
                    let inner = left.elements() / rows_of_product(graph, *id).max(1);
                    let product = inner.saturating_mul(2 * node.ty.shape.elements());
                    flops = product.saturating_add(flops);
                }
                Op::Conv(_) => {
                    let filters = &graph.node(node.inputs[1]).ty.shape;
                    flops = conv_flops(&node.ty.shape, filters).saturating_add(flops);
                }
                Op::ConvInputGrad(..) => {
                    let [dy, filters] =
                        [0, 1].map(|index| &graph.node(node.inputs[index]).ty.shape);
                    flops = conv_flops(dy, filters).saturating_add(flops);
                }
                Op::ConvWeightGrad(_, filters) => {
                    let dy = &graph.node(node.inputs[1]).ty.shape;
                    flops = conv_flops(dy, filters).saturating_add(flops);
                }
                Op::Recurrent(_) | Op::RecurrentGrad(..) => {
                    flops = recurrent::flops(graph, node).saturating_add(flops);
                }
                // The old value is read, every moment is read and written.
                Op::Update(_, update) => {
                    bytes = bytes.saturating_add(size(id) * (1 + 2 * update.moments()));
                }
                Op::Average(_) => bytes = bytes.saturating_add(size(id)),
                Op::Gradient(_, Store::Accumulate) => bytes = bytes.saturating_add(size(id)),
                _ => {}
            }
        }
        Cost { bytes, flops }
    }
}

/// Each element of a result is a sum over an output's filter, padding included.
fn conv_flops(y: &Shape, filters: &Shape) -> usize {
    let outputs = filters.dims().first().copied().unwrap_or(1).max(1);
    (filters.elements() / outputs).saturating_mul(2 * y.elements())
}

fn rows_of_product(graph: &Graph, id: NodeId) -> usize {
    graph.node(id).ty.shape.rows()
}
