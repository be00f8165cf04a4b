// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which way each step of a plan takes, as far as shapes, facts and the machine decide it.

use super::choice::{
    is_short, is_small, may_skip_columns, may_skip_rows, own_inputs, split_of, PANEL,
};
use super::choice::{Split, STREAMED_ELEMENTS};
use super::exchange::{LastCache, Readers, Stores};
use super::program::Read;
use super::simd::{Isa, PanelLayout};
use crate::graph::NodeId;
use crate::kernel::{ConvWay, FusedImages, Kernel, Sink};
use crate::op::Drops;
use crate::plan::{Plan, Step};
use crate::Shape;
use std::fmt::{Display, Formatter};
use std::num::NonZeroUsize;

/// How the CPU computes a step. As text: the loop, what threads divide, what is written past caches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Path {
    method: Method,
    divided: Divided,
    stores: Stores,
}

/// What computes a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Method {
    /// A product in register tiles, zeros included.
    Dense,
    /// The same, or lists of what is not zero: the data decide when the step runs.
    DenseOrSparse,
    /// A product by the `gemm` crate.
    Gemm,
    /// A convolution by the sums that it means, in register tiles.
    Sums,
    /// A convolution by Winograd's squares.
    Squares,
    /// A loop over vectors.
    Vectors,
    /// A loop over single numbers, or copies.
    Scalars,
    /// The meaning of the operations, in `f64`.
    Plain,
}

/// What threads divide among themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Divided {
    /// There is one thread.
    Alone,
    /// Nothing: one thread does it, whatever the others do.
    Nothing,
    Elements,
    Rows,
    Columns,
    Outputs,
    Inputs,
    Pixels,
    Weights,
}

/// What choices depend on of a machine.
#[derive(Clone, Copy, Debug)]
struct Machine {
    isa: Isa,
    last_cache: LastCache,
    threads: usize,
}

/// How each step of a plan is computed on this machine's CPU with so many threads.
///
/// ```
/// use kiln::nn::Linear;
/// use kiln::{backend::cpu, Device, Mode, Net, Seed, Tensor};
/// use std::num::NonZeroUsize;
///
/// let mut net = Net::new(Device::cpu(), Seed(7), |p| Linear::new(&p.at("fc"), 784, 10))?;
/// let plan = net.plan(Mode::Eval, &[Tensor::zeros([64, 784]).ty()])?;
/// // Ten outputs are too few for lists of what is not zero to pay.
/// assert_eq!(cpu::paths(plan, NonZeroUsize::MIN)[0].to_string(), "dense");
/// # Ok::<(), kiln::Error>(())
/// ```
pub fn paths(plan: &Plan, threads: NonZeroUsize) -> Vec<Path> {
    let (isa, last_cache) = (Isa::best(), LastCache::detect());
    paths_on(plan, Machine { isa, last_cache, threads: threads.get() })
}

fn paths_on(plan: &Plan, machine: Machine) -> Vec<Path> {
    let read = Read::of(plan);
    plan.steps.iter().map(|step| Path::of(plan, step, read.readers(plan, step), machine)).collect()
}

impl Path {
    fn of(plan: &Plan, step: &Step, readers: Readers, machine: Machine) -> Self {
        let path = match is_interpreted(&step.kernel) {
            true => Path::new(Method::Plain, Divided::Nothing),
            false => Path::of_loop(plan, step, readers, machine),
        };
        match machine.threads {
            1 => Path { divided: Divided::Alone, ..path },
            _ => path,
        }
    }

    /// That of a step with a loop of its own.
    fn of_loop(plan: &Plan, step: &Step, readers: Readers, machine: Machine) -> Self {
        use {Divided::*, Method::*};
        let shape = |node: NodeId| &plan.graph.node(node).ty.shape;
        match &step.kernel {
            Kernel::Linear { .. }
            | Kernel::InputGradient { .. }
            | Kernel::WeightGradient { .. } => {
                Path::of_layer(&step.kernel, Layer::of(plan, step), readers, machine)
            }
            Kernel::Dropout(dropout) => {
                let divided = match dropout.drops {
                    Drops::Elements | Drops::Weights => Elements,
                    Drops::Channels | Drops::Samples | Drops::Features => Rows,
                };
                let is_large = shape(step.inputs[0]).elements() >= STREAMED_ELEMENTS;
                let stores = if is_large { Stores::Streamed } else { Stores::Cached };
                Path { stores, ..Path::new(Vectors, divided) }
            }
            Kernel::Chain(chain) => {
                let divided = if is_small(chain) { Nothing } else { Elements };
                let is_large = chain.elements >= STREAMED_ELEMENTS;
                let stores = if is_large { Stores::Streamed } else { Stores::Cached };
                Path { stores, ..Path::new(Vectors, divided) }
            }
            Kernel::GlobalNorm
            | Kernel::ClipNorm { .. }
            | Kernel::Unscale(_)
            | Kernel::FlatUpdate { .. }
            | Kernel::Average => Path::new(Vectors, Elements),
            Kernel::CrossEntropy { .. } | Kernel::Softmax(_) => Path::new(Vectors, Rows),
            Kernel::ColumnSum => Path::new(Vectors, Columns),
            Kernel::Sum | Kernel::Reduce(_) => {
                let is_short = is_short(shape(step.inputs[0]).elements());
                Path::new(Vectors, if is_short { Nothing } else { Rows })
            }
            Kernel::Transpose { .. } => Path::new(Scalars, Columns),
            Kernel::MatMul(_) | Kernel::BatchMatMul(_) => Path::new(Gemm, Rows),
            Kernel::Conv { way, .. }
            | Kernel::ConvInputGradient { way, .. }
            | Kernel::FusedImages(FusedImages::ConvNormalize { way, .. }) => {
                Path::new(Method::of(*way), Pixels)
            }
            Kernel::ConvWeightGradient { way, .. } => Path::new(Method::of(*way), Weights),
            Kernel::MaxPool(_)
            | Kernel::MaxPoolGradient(_)
            | Kernel::AvgPool(_)
            | Kernel::AvgPoolGradient(_)
            | Kernel::Statistics(_)
            | Kernel::StatisticsGradient(_)
            | Kernel::Normalize(_)
            | Kernel::NormalizeGradient(_)
            | Kernel::Blend { .. } => Path::new(Vectors, Rows),
            // Samples, each of which goes through all steps.
            Kernel::Recurrent(_) | Kernel::RecurrentGradient(..) => Path::new(Dense, Rows),
            Kernel::Copy(_)
            | Kernel::Take(_)
            | Kernel::TakeGradient(..)
            | Kernel::Gather(_)
            | Kernel::GatherGradient(_) => Path::new(Scalars, Rows),
            Kernel::SoftmaxGradient(_)
            | Kernel::Nll(_)
            | Kernel::NllGradient(_)
            | Kernel::StoreGradient(_)
            | Kernel::SetState(_) => Path::new(Scalars, Nothing),
            Kernel::WeightGradients(_)
            | Kernel::LinearCrossEntropy(_)
            | Kernel::RecurrentDropout(_)
            | Kernel::RecurrentGradientDropout(..)
            | Kernel::TakeDropout(..)
            | Kernel::TakeGradientDropout(..)
            | Kernel::FusedImages(_)
            | Kernel::Plain => Path::new(Plain, Nothing),
        }
    }

    /// That of a linear layer's product.
    fn of_layer(kernel: &Kernel, layer: Layer, readers: Readers, machine: Machine) -> Self {
        let Layer { rows, layout: PanelLayout { inputs, outputs } } = layer;
        let threads = machine.threads;
        let to_others = machine.last_cache.stores(Readers::All, threads);
        let (may_skip, divided, stores) = match kernel {
            Kernel::Linear { .. } => {
                let divided = match split_of(outputs.div_ceil(PANEL), rows, threads) {
                    Split::Panels => Divided::Outputs,
                    Split::Rows => Divided::Rows,
                };
                (may_skip_rows([rows, inputs], outputs), divided, to_others)
            }
            Kernel::InputGradient { .. } => {
                let divided = match split_of(inputs.div_ceil(PANEL), rows, threads) {
                    Split::Panels => Divided::Inputs,
                    Split::Rows => Divided::Rows,
                };
                (may_skip_rows([rows, outputs], inputs), divided, to_others)
            }
            _ => {
                let divided = match split_of(outputs.div_ceil(PANEL), inputs, threads) {
                    Split::Panels => Divided::Outputs,
                    Split::Rows => Divided::Inputs,
                };
                let may_skip = may_skip_columns([inputs, rows], outputs)
                    || may_skip_columns([outputs, rows], inputs);
                let is_update =
                    matches!(kernel, Kernel::WeightGradient { sink: Sink::Update(_), .. });
                let own = own_inputs(readers, [inputs, outputs], threads, 0);
                let stores = match is_update && own.len() < inputs {
                    true => to_others,
                    false => Stores::Cached,
                };
                (may_skip, divided, stores)
            }
        };
        let method = match may_skip && machine.isa.lists_zeros() {
            true => Method::DenseOrSparse,
            false => Method::Dense,
        };
        Path { method, divided, stores }
    }

    /// Whether the step is computed by the plain meaning of its operations, since it has no loop.
    pub fn is_plain(self) -> bool {
        self.method == Method::Plain
    }

    fn new(method: Method, divided: Divided) -> Self {
        Path { method, divided, stores: Stores::Cached }
    }
}

impl Method {
    /// That of a convolution.
    fn of(way: ConvWay) -> Self {
        match way {
            ConvWay::Direct => Method::Sums,
            ConvWay::Winograd => Method::Squares,
        }
    }
}

impl Display for Path {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.method {
            Method::Dense => "dense",
            Method::DenseOrSparse => "dense or sparse by density",
            Method::Gemm => "gemm",
            Method::Sums => "direct",
            Method::Squares => "winograd",
            Method::Vectors => "vectors",
            Method::Scalars => "scalars",
            Method::Plain => "plain meaning",
        })?;
        f.write_str(match self.divided {
            Divided::Alone => "",
            Divided::Nothing => ", one thread",
            Divided::Elements => ", elements divided",
            Divided::Rows => ", rows divided",
            Divided::Columns => ", columns divided",
            Divided::Outputs => ", outputs divided",
            Divided::Inputs => ", inputs divided",
            Divided::Pixels => ", pixels divided",
            Divided::Weights => ", weights divided",
        })?;
        match self.stores {
            Stores::Cached => Ok(()),
            Stores::Streamed => f.write_str(", past the caches"),
        }
    }
}

/// The extents of a linear layer's product.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layer {
    /// Rows of the batch.
    pub(super) rows: usize,
    /// Where the weights lie.
    pub(super) layout: PanelLayout,
}

impl Layer {
    /// That of a step with such a product.
    pub(super) fn of(plan: &Plan, step: &Step) -> Self {
        let shape = |node: NodeId| -> &Shape { &plan.graph.node(node).ty.shape };
        let layout_of =
            |weight: &Shape| PanelLayout { outputs: weight.rows(), inputs: weight.last() };
        let first = shape(step.inputs[0]);
        match step.kernel {
            Kernel::WeightGradient { .. } => {
                Layer { rows: first.rows(), layout: layout_of(shape(step.outputs[0])) }
            }
            Kernel::InputGradient { .. } => {
                let layout = layout_of(shape(step.inputs[1]));
                Layer { rows: first.elements() / layout.outputs, layout }
            }
            _ => {
                let layout = layout_of(shape(step.inputs[1]));
                Layer { rows: first.elements() / layout.inputs, layout }
            }
        }
    }
}

/// Whether a kernel is computed by the plain meaning of its nodes: also those of other backends.
pub(super) fn is_interpreted(kernel: &Kernel) -> bool {
    let is_of_others = matches!(
        kernel,
        Kernel::Plain
            | Kernel::WeightGradients(_)
            | Kernel::LinearCrossEntropy(_)
            | Kernel::RecurrentDropout(_)
            | Kernel::RecurrentGradientDropout(..)
            | Kernel::TakeDropout(..)
            | Kernel::TakeGradientDropout(..)
    );
    let is_wide = matches!(kernel, Kernel::FusedImages(fused) if fused.spans_layers());
    is_of_others || is_wide
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::SimpleNet;
    use crate::op::TensorType;
    use crate::{loss::CrossEntropy, optim::Adam, Device, Net, Result, Seed, Trainer};

    const ZEN: Machine = Machine { isa: Isa::Avx512, last_cache: LastCache::Split, threads: 2 };

    /// The kernel and the path of each step of training SimpleNet, the layers in order of computation.
    fn training(batch: usize, machine: Machine) -> Result<Vec<String>> {
        let net = Net::new(Device::cpu(), Seed(7), |p| SimpleNet::new(p, 784, 512, 10, 0.5))?;
        let mut trainer = Trainer::new(net, CrossEntropy::default(), Adam::new(1e-3))?;
        let x = TensorType::f32([batch, 784].into());
        let plan = trainer.plan(&x, &TensorType::i32([batch].into()))?;
        let paths = paths_on(plan, machine);
        let named = plan.steps.iter().zip(paths);
        Ok(named.map(|(step, path)| format!("{}: {path}", step.kernel.name())).collect())
    }

    #[test]
    fn a_step_of_training_says_what_it_takes() -> Result<()> {
        assert_eq!(
            training(64, ZEN)?,
            [
                "linear: dense or sparse by density, outputs divided, past the caches",
                "linear: dense or sparse by density, outputs divided, past the caches",
                // Ten outputs are too few for lists to pay, and to be divided.
                "linear: dense, rows divided, past the caches",
                "cross_entropy: vectors, rows divided",
                "linear_input_gradient: dense, inputs divided, past the caches",
                "linear_weight_gradient: dense or sparse by density, inputs divided, past the caches",
                "linear_input_gradient: dense or sparse by density, inputs divided, past the caches",
                "linear_weight_gradient: dense or sparse by density, outputs divided, past the caches",
                // Only the thread that updates them reads the first layer's weights.
                "linear_weight_gradient: dense or sparse by density, outputs divided",
            ]
        );
        Ok(())
    }

    #[test]
    fn whole_caches_and_single_threads_take_nothing_past_them() -> Result<()> {
        let whole = training(64, Machine { last_cache: LastCache::Whole, ..ZEN })?;
        assert_eq!(whole[2], "linear: dense, rows divided");
        let alone = training(64, Machine { threads: 1, ..ZEN })?;
        assert_eq!(
            alone[1..4],
            ["linear: dense or sparse by density", "linear: dense", "cross_entropy: vectors"]
        );
        Ok(())
    }

    #[test]
    fn few_rows_and_machines_without_lists_are_dense() -> Result<()> {
        let is_dense = |path: &String| path.starts_with("linear") && !path.contains("density");
        assert!(training(8, ZEN)?[..3].iter().all(is_dense));
        let plain = training(64, Machine { isa: Isa::Portable, ..ZEN })?;
        assert_eq!(plain.iter().filter(|path| is_dense(path)).count(), 8);
        Ok(())
    }

    #[test]
    fn other_ways_have_their_words() {
        let text = |method, divided| Path::new(method, divided).to_string();
        assert_eq!(text(Method::Plain, Divided::Nothing), "plain meaning, one thread");
        assert_eq!(text(Method::Gemm, Divided::Nothing), "gemm, one thread");
        assert_eq!(text(Method::Scalars, Divided::Columns), "scalars, columns divided");
    }
}
