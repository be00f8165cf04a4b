// SPDX-License-Identifier: MIT OR Apache-2.0
//! Operations on images together with their neighbours, for backends where a launch costs more than what
//! it computes; of convolutions with what normalises their results for all.

mod batch_norm;
mod convolution;
mod head;
mod planes;
mod statistics;

use super::{
    conv, origin, Bias, BiasGradient, Cluster, ConvWay, Finder, Fusion, ImageKernels, Kernel,
    LinearTail,
};
use crate::graph::{MemoryFormat, Node, NodeId};
use crate::op::{AvgPool, Binary, Conv, Dropout, Drops, MaxPool, Normalize, Op, Store, Unary};
use crate::philox::ELEMENTS_PER_BLOCK;
use crate::Shape;

pub(super) use batch_norm::{find_batch_apply, find_batch_gradient, find_batch_statistics};
pub(super) use convolution::{
    find_conv_input_gradient, find_conv_normalize, find_conv_pool, find_conv_weight_gradients,
};
pub(super) use head::find_classifier_head;
pub use head::ClassifierHead;
pub(super) use planes::{find_pool_gradient_of_planes, find_pool_to_planes};
pub(super) use statistics::{find_conv_batch_gradient, find_conv_statistics};

/// What a kernel of images takes along.
#[derive(Clone, Debug, PartialEq)]
pub enum FusedImages {
    /// `(x, weight[, bias]) -> y[, index]`: convolution, bias and activation, then the largest elements
    /// under a window, then dropout of those.
    ConvPool {
        /// The convolution.
        conv: Conv,
        /// Bias, activation, and the dropout behind the pool.
        tail: LinearTail,
        /// The pool, whose windows neither overlap nor leave gaps.
        pool: MaxPool,
        /// How the result lies in memory.
        planes: Planes,
    },
    /// `(x, weight[, bias], mean, variance[, gamma, beta][, skip]) -> y`: convolution, normalisation with
    /// known statistics, what comes past both, activation and dropout.
    ConvNormalize {
        /// The convolution.
        conv: Conv,
        /// How it is computed.
        way: ConvWay,
        /// Bias, activation and dropout.
        tail: LinearTail,
        /// The normalisation.
        normalize: Normalize,
        /// Whether another value is added.
        skip: Skip,
    },
    /// `(dy, weight[, skip][, y][, index]) -> dx`: a convolution's gradient with respect to its input, the
    /// gradient that comes past it, the mask `y != 0`, and a pool's gradient.
    ConvInputGradient {
        /// The convolution.
        conv: Conv,
        /// Whether another gradient is added.
        skip: Skip,
        /// Factor of the gradients that pass, if there is a mask.
        mask: Option<f64>,
        /// The pool in front of the convolution, whose windows cover its image.
        unpool: Option<MaxPool>,
    },
    /// `(x, weight[, bias]) -> y, mean[, variance], state...`: a convolution and
    /// [`FusedImages::BatchStatistics`] of what it yields.
    ConvStatistics {
        /// The convolution.
        conv: Conv,
        /// Whether a bias is added.
        bias: Bias,
    },
    /// `(dy, weight[, skip], x, mean, variance[, gamma][, y]) -> dx[, masked dy], gradients...`: a
    /// convolution's gradient with respect to its input, the gradient that comes past it, and
    /// [`FusedImages::BatchGradient`] of their sum.
    ConvBatchGradient {
        /// The convolution.
        conv: Conv,
        /// Whether another gradient is added.
        skip: Skip,
        /// What comes before the convolution.
        batch: BatchGradient,
    },
    /// `(dy, x[, line...])... -> (d_weight[, d_bias])...`: gradients of several convolutions.
    ConvWeightGradients(Vec<ConvGradient>),
    /// `x -> mean[, variance], state...`: a batch's statistics and the running ones, which follow them.
    BatchStatistics,
    /// `(x, mean, variance[, gamma, beta][, skip]) -> y`: normalisation, what comes past it, ReLU, dropout.
    BatchApply {
        /// The normalisation.
        normalize: Normalize,
        /// Whether another value is added.
        skip: Skip,
        /// ReLU, if it follows.
        activation: Option<Unary>,
        /// Dropout, if it follows.
        dropout: Option<Dropout>,
    },
    /// `(x, dy, mean, variance[, gamma][, y]) -> dx[, masked dy], gradients...`: the gradient of
    /// normalisation with a batch's own statistics.
    BatchGradient(BatchGradient),
    /// `(x, mean, variance[, gamma, beta][, skip], weight[, bias], labels[, class_weights]) -> loss, dx, means,
    /// d_scores[, scores][, masked dy], gradients...`: [`FusedImages::BatchApply`] and all that a classifier puts behind
    /// it, and back to [`FusedImages::BatchGradient`].
    ClassifierHead(ClassifierHead),
    /// `x -> y`: the means under a window, plane by plane.
    AvgPoolToPlanes(AvgPool),
    /// `dy -> dx`: its gradient.
    AvgPoolGradientOfPlanes(AvgPool),
    /// `(index, dy) -> dx`: a pool's gradient, of what lies plane by plane.
    MaxPoolGradientOfPlanes(MaxPool),
}

/// What is computed of a batch norm's gradient.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BatchGradient {
    /// The normalisation.
    pub normalize: Normalize,
    /// Factor of the gradients that pass the mask `y != 0`, if there is one.
    pub mask: Option<f64>,
    /// Whether gradients of a weight and a bias are stored.
    pub store: Option<Store>,
    /// Who computes the gradient of what was normalised.
    pub dx: BatchLine,
}

/// Who computes a batch norm's gradient from its sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchLine {
    /// The kernel that finds the sums.
    Computed,
    /// The gradient of the weights that alone wants it; the gradient behind the mask and those of the statistics
    /// are results instead.
    WithWeights,
}

/// One layer of [`FusedImages::ConvWeightGradients`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ConvGradient {
    /// The convolution.
    pub conv: Conv,
    /// How they meet earlier gradients.
    pub store: Store,
    /// Whether the bias gradient is computed along.
    pub bias: BiasGradient,
    /// The batch norm whose gradient is worked out along, of which `dy` is what is behind the mask. Further inputs: its x, mean,
    /// variance[, gamma], and the gradients of mean and variance.
    pub line: Option<ConvLine>,
}

/// A batch norm in [`ConvGradient`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ConvLine {
    /// The normalisation.
    pub normalize: Normalize,
    /// How many inputs there are of it.
    pub inputs: usize,
}

/// Whether a kernel adds what comes past its layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skip {
    /// It does.
    Added,
    /// There is nothing.
    Absent,
}

/// How images lie in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Planes {
    /// Channel by channel.
    Apart,
    /// Channels innermost.
    Interleaved,
}

impl FusedImages {
    /// Whether it is found only where kernels span layers.
    pub fn spans_layers(&self) -> bool {
        !matches!(self, FusedImages::ConvNormalize { skip: Skip::Absent, .. })
    }

    /// The kernel's name, as plans print it.
    pub fn name(&self) -> &'static str {
        match self {
            FusedImages::ConvPool { .. } => "conv_pool",
            FusedImages::ConvNormalize { way: ConvWay::Direct, .. } => "conv_normalize",
            FusedImages::ConvNormalize { way: ConvWay::Winograd, .. } => "conv_normalize_winograd",
            FusedImages::ConvInputGradient { unpool: None, .. } => "conv_input_gradient",
            FusedImages::ConvInputGradient { unpool: Some(_), .. } => "conv_unpool",
            FusedImages::ConvWeightGradients(_) => "conv_weight_gradients",
            FusedImages::BatchStatistics => "batch_statistics",
            FusedImages::BatchApply { .. } => "batch_apply",
            FusedImages::BatchGradient(_) => "batch_gradient",
            FusedImages::ClassifierHead(_) => "classifier_head",
            FusedImages::ConvStatistics { .. } => "conv_statistics",
            FusedImages::ConvBatchGradient { .. } => "conv_batch_gradient",
            FusedImages::AvgPoolToPlanes(_) => "avg_pool",
            FusedImages::AvgPoolGradientOfPlanes(_) => "avg_pool_gradient",
            FusedImages::MaxPoolGradientOfPlanes(_) => "max_pool_gradient",
        }
    }
}

fn reaches(finder: &Finder<'_>) -> bool {
    finder.facts.fusion == Fusion::AcrossLayers && finder.facts.images != ImageKernels::Absent
}

/// A cluster that grows along a chain of values that nothing else sees.
struct Chain<'f, 'g> {
    finder: &'f Finder<'g>,
    nodes: Vec<NodeId>,
    inputs: Vec<NodeId>,
    output: NodeId,
}

impl<'g> Chain<'_, 'g> {
    fn next(&self) -> Option<(NodeId, &'g Node)> {
        let user = self.finder.only_user(self.output)?;
        Some((user, self.finder.graph.node(user)))
    }

    /// The only user, if it is of the same shape and lies channels-last.
    fn follows(&self) -> Option<(NodeId, &'g Node)> {
        let (user, node) = self.next()?;
        let is_alike = node.ty.shape == self.finder.graph.node(self.output).ty.shape;
        (is_alike && conv::lies_channels_last(node)).then_some((user, node))
    }

    fn take(&mut self, node: NodeId) {
        self.nodes.push(node);
        self.output = node;
    }

    /// Takes an addition of another image along.
    fn skip(&mut self) -> Skip {
        let Some((sum, node)) = self.follows() else { return Skip::Absent };
        let (Op::Binary(Binary::Add), &[a, b]) = (&node.op, node.inputs.as_slice()) else {
            return Skip::Absent;
        };
        let other = if a == self.output { b } else { a };
        if other == self.output || !is_image(self.finder, other) {
            return Skip::Absent;
        }
        self.inputs.push(other);
        self.take(sum);
        Skip::Added
    }

    /// Takes the mask of what was 0 along.
    fn mask(&mut self) -> Option<f64> {
        let (user, node) = self.follows()?;
        let (Op::MaskNonZero(scale), &[y, dy]) = (&node.op, node.inputs.as_slice()) else {
            return None;
        };
        if dy != self.output || y == self.output || !is_image(self.finder, y) {
            return None;
        }
        self.inputs.push(y);
        self.take(user);
        Some(*scale)
    }

    /// Takes dropout along whose runs of elements begin where those of channels do.
    fn dropout(&mut self, channels: usize) -> Option<Dropout> {
        let (user, node) = self.follows()?;
        let Op::Dropout(dropout) = node.op else { return None };
        let by_pixels = matches!(dropout.drops, Drops::Elements | Drops::Channels);
        let fits = by_pixels
            && channels.is_multiple_of(ELEMENTS_PER_BLOCK as usize)
            && super::counts_as_stored(node, dropout)
            && dropout.rate.constant_scale().is_some();
        fits.then(|| {
            self.take(user);
            dropout
        })
    }

    fn cluster(mut self, kernel: FusedImages) -> Cluster {
        self.nodes.sort_unstable();
        let (nodes, inputs) = (self.nodes, self.inputs);
        Cluster { kernel: Kernel::FusedImages(kernel), nodes, inputs, outputs: vec![self.output] }
    }
}

/// Whether a value is in memory as kernels take images, and no number that stands for all of them.
fn is_image(finder: &Finder<'_>, id: NodeId) -> bool {
    let node = finder.graph.node(id);
    let is_number = matches!(node.op, Op::Broadcast(_) | Op::Constant(_) | Op::Scalar(_));
    conv::lies_channels_last(node) && !is_number
}

/// Takes along that an image is put plane by plane.
fn to_planes(chain: &mut Chain<'_, '_>) -> Planes {
    match chain.next() {
        Some((user, node)) if node.op == Op::ToFormat(MemoryFormat::Contiguous) => {
            chain.take(user);
            Planes::Apart
        }
        _ => Planes::Interleaved,
    }
}

fn channels(image: &Shape) -> usize {
    image.dims().get(1).copied().unwrap_or(0)
}
