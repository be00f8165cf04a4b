// SPDX-License-Identifier: MIT OR Apache-2.0
//! From the steps of a plan to the hot loops: which slices, which options, which function.

use super::exchange::Readers;
use super::memory::Arenas;
use super::operands::{Located, Operands, Read};
use super::pool::Pool;
use super::program::{Program, Ready};
use super::simd::{
    self, Activation, GradientTail, Isa, Moments, PanelLayout, Start, Strides, Updated,
};
use super::{loops, plain, rounding, state};
use crate::backend::{Memory, Run};
use crate::graph::NodeId;
use crate::kernel::Bias;
use crate::kernel::{BiasGradient, Clip, Kernel, LinearTail, LossGradient, Sink};
use crate::op::{
    mean_divisor, Binary, Decay, Dropout, MatMul, Nesterov, Nll, Order, Reduction, Softmax,
    StateRule, Store, Unary, UpdateRule,
};
use crate::plan::{Place, Plan, Step};
use crate::scalars::Scalars;
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
        Ready::Loop { operands, readers, rounds } => {
            launch_loop(engine, arenas, (operands, *readers), run, index)?;
            *rounds
        }
    };
    match rounds {
        true => rounding::outputs(arenas, run, index),
        false => Ok(()),
    }
}

fn launch_loop(
    engine: &Engine,
    arenas: &mut Arenas,
    (located, readers): (&Located, Readers),
    run: &mut Run<'_>,
    index: usize,
) -> Result<()> {
    let (plan, memory, scalars) = (run.plan, run.memory, run.scalars);
    let step = &plan.steps[index];
    let numbers = located.numbers(plan, scalars);
    let mut operands = located.borrow(arenas, run, &numbers)?;
    let precision = rounding::of_factors(plan, step);
    let factors = rounding::factors(precision, &operands.reads)?;
    // Of tf32 only factors are cut off; numbers of 16 bits are stored so, whatever reads them.
    let summed = operands.reads.first().copied().filter(|_| precision == Precision::Tf32);
    for (read, rounded) in operands.reads.iter_mut().zip(&factors) {
        *read = Read::F32(rounded);
    }
    Launch { engine, plan, scalars, memory, step, operands, readers, summed }.dispatch()
}

/// One launch with everything it needs.
struct Launch<'a> {
    engine: &'a Engine,
    plan: &'a Plan,
    scalars: &'a Scalars,
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
            Kernel::Dropout(dropout) => self.dropout(*dropout),
            Kernel::MaskNonZero(scale) => self.mask_nonzero(*scale),
            Kernel::Map(function) => self.map(*function),
            Kernel::MapGradient(function) => self.map_gradient(*function),
            Kernel::Zip(function) => self.zip(*function),
            Kernel::Softmax(kind) => self.softmax(*kind),
            Kernel::SoftmaxGradient(kind) => self.softmax_gradient(*kind),
            Kernel::Repeat => self.repeat(),
            Kernel::Sum => self.sum(),
            Kernel::MatMul(product) => self.matmul(*product),
            Kernel::ColumnSum => self.column_sum(),
            Kernel::StoreGradient(store) => self.store_gradient(*store),
            Kernel::GlobalNorm => self.global_norm(),
            Kernel::FlatUpdate { rule, clip } => self.flat_update(rule, *clip),
            Kernel::SetState(rule) => self.set_state(*rule),
            Kernel::Transpose { extents } => self.transpose(*extents),
            Kernel::WeightGradients(_)
            | Kernel::LinearCrossEntropy(_)
            | Kernel::ClipNorm { .. }
            | Kernel::Plain => Err(internal("a step without a loop of its own is interpreted")),
        }
    }

    fn linear(mut self, tail: LinearTail) -> Result<()> {
        let weight = self.shape(self.step.inputs[1]);
        let layout = PanelLayout { outputs: weight.rows(), inputs: weight.last() };
        let rows = self.shape(self.step.inputs[0]).elements() / layout.inputs;
        let output = self.shape(self.step.outputs[0]);
        let start = match tail.bias {
            Bias::Added => Start::Bias(self.operands.reads[2].values()?),
            Bias::Absent => Start::Zero,
        };
        let dropout = tail.dropout.map(|dropout| simd::Dropout {
            key: dropout.key(self.scalars),
            first_sample: self.scalars.sample_offset,
            rows_per_sample: (output.sample_elements() / layout.outputs).max(1),
        });
        let forward = simd::Forward {
            layout,
            rows,
            x: self.operands.reads[0].values()?,
            x_stride: layout.inputs,
            weight: self.operands.reads[1].values()?,
            start,
            activation: tail.activation.map_or(Ok(Activation::None), activation)?,
            dropout,
            y: write(&mut self.operands, 0)?,
            y_stride: layout.outputs,
        };
        forward.run(&self.engine.pool, self.engine.isa);
        Ok(())
    }

    fn input_gradient(mut self, mask: Option<f64>) -> Result<()> {
        let weight = self.shape(self.step.inputs[1]);
        let layout = PanelLayout { outputs: weight.rows(), inputs: weight.last() };
        let rows = self.shape(self.step.inputs[0]).elements() / layout.outputs;
        let mask = match mask {
            Some(scale) => {
                let y = self.operands.reads[2].values()?;
                Some(simd::MaskNonZero { y, scale: scale as f32 })
            }
            None => None,
        };
        let gradient = simd::InputGradient {
            layout,
            rows,
            dy: self.operands.reads[0].values()?,
            dy_stride: layout.outputs,
            weight: self.operands.reads[1].values()?,
            mask,
            dx: write(&mut self.operands, 0)?,
            dx_stride: layout.inputs,
        };
        gradient.run(&self.engine.pool, self.engine.isa);
        Ok(())
    }

    fn weight_gradient(self, sink: Sink, bias: BiasGradient) -> Result<()> {
        let weight = self.shape(self.step.outputs[0]);
        let layout = PanelLayout { outputs: weight.rows(), inputs: weight.last() };
        let rows = self.shape(self.step.inputs[0]).rows();
        let rule = match sink {
            Sink::Update(rule) => Some(vector_rule(&rule, self.scalars)),
            Sink::Store(_) => None,
        };
        let Operands { reads, writes, moments } = self.operands;
        let summed = self.summed.unwrap_or(reads[0]);
        let mut tails = writes.into_iter().zip(moments).map(|(values, moments)| match sink {
            Sink::Store(Store::Overwrite) => GradientTail::Overwrite(values),
            Sink::Store(Store::Accumulate) => GradientTail::Accumulate(values),
            Sink::Update(_) => match &rule {
                Some(rule) => {
                    let updated = Updated { values, moments: moments_of(moments) };
                    GradientTail::Update { rule, scale: 1.0, updated }
                }
                None => GradientTail::Overwrite(values),
            },
        });
        let gradient = simd::WeightGradient {
            layout,
            rows,
            dy: reads[0].values()?,
            dy_stride: layout.outputs,
            bias_dy: summed.values()?,
            x: reads[1].values()?,
            x_stride: layout.inputs,
            weight: tails.next().ok_or_else(|| internal("a weight gradient goes nowhere"))?,
            bias: tails.next().filter(|_| bias == BiasGradient::Computed),
            readers: self.readers,
        };
        gradient.run(&self.engine.pool, self.engine.isa);
        Ok(())
    }

    fn dropout(mut self, dropout: Dropout) -> Result<()> {
        let per_sample = self.shape(self.step.inputs[0]).sample_elements();
        let key = dropout.key(self.scalars);
        let x = self.operands.reads[0].values()?;
        let y = write(&mut self.operands, 0)?;
        let (pool, isa, first) = (&self.engine.pool, self.engine.isa, self.scalars.sample_offset);
        simd::dropout(pool, isa, &key, first, per_sample.max(1), x, y);
        Ok(())
    }

    fn mask_nonzero(mut self, scale: f64) -> Result<()> {
        let (y, dy) = (self.operands.reads[0].values()?, self.operands.reads[1].values()?);
        let mask = simd::MaskNonZero { y, scale: scale as f32 };
        let dx = write(&mut self.operands, 0)?;
        simd::mask_non_zero(&self.engine.pool, self.engine.isa, &mask, dy, dx);
        Ok(())
    }

    fn store_gradient(mut self, store: Store) -> Result<()> {
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

    fn transpose(mut self, extents: [usize; 3]) -> Result<()> {
        let x = self.operands.reads[0].values()?;
        simd::transpose(&self.engine.pool, extents, x, write(&mut self.operands, 0)?);
        Ok(())
    }

    fn set_state(mut self, rule: StateRule) -> Result<()> {
        let inputs = self.operands.reads.clone();
        state::change(rule, write(&mut self.operands, 0)?, &inputs)
    }

    fn global_norm(mut self) -> Result<()> {
        let mut squares = 0.0;
        for read in &self.operands.reads {
            let values = read.values()?;
            squares += simd::sum_of_squares(&self.engine.pool, self.engine.isa, values);
        }
        write(&mut self.operands, 0)?[0] = squares.sqrt() as f32;
        Ok(())
    }

    fn flat_update(self, rule: &UpdateRule, clip: Clip) -> Result<()> {
        let Operands { reads, writes, moments } = self.operands;
        let scale = match (clip, reads.last()) {
            (Clip::ByCoefficient, Some(coefficient)) => coefficient.values()?[0],
            _ => 1.0,
        };
        let rule = vector_rule(rule, self.scalars);
        for ((values, moments), gradient) in writes.into_iter().zip(moments).zip(&reads) {
            let updated = Updated { values, moments: moments_of(moments) };
            let (pool, isa) = (&self.engine.pool, self.engine.isa);
            simd::update(pool, isa, &rule, gradient.values()?, scale, updated);
        }
        Ok(())
    }

    fn cross_entropy(self, nll: &Nll, gradient: LossGradient) -> Result<()> {
        let classes = self.shape(self.step.inputs[0]).last();
        let Operands { reads, writes, .. } = self.operands;
        let (scores, labels) = (reads[0].values()?, reads[1].integers()?);
        let class_weights = reads.get(2).map(|weights| weights.values()).transpose()?;
        let loss = simd::CrossEntropy {
            ignore_index: nll.ignore_index,
            label_smoothing: nll.smoothing as f32,
            class_weights,
        };
        let divisor = match nll.reduction {
            Reduction::Mean => mean_divisor(simd::target_weight(&loss, classes, labels)),
            Reduction::Sum | Reduction::None => 1.0,
        };
        let mut writes = writes.into_iter();
        let total = writes.next().ok_or_else(|| internal("a loss goes nowhere"))?;
        let scale = match self.scalars.share {
            // A part of a batch without weight takes no part in the whole.
            0.0 => 0.0,
            share => (f64::from(share) / divisor) as f32,
        };
        let gradient = match gradient {
            LossGradient::Computed => writes.next().map(|gradient| (gradient, scale)),
            LossGradient::Absent => None,
        };
        let mut losses = vec![0.0; labels.len()];
        let (pool, isa) = (&self.engine.pool, self.engine.isa);
        simd::cross_entropy(pool, isa, &loss, classes, scores, labels, &mut losses, gradient);
        total[0] = (losses.iter().map(|&loss| f64::from(loss)).sum::<f64>() / divisor) as f32;
        Ok(())
    }

    fn map(mut self, function: Unary) -> Result<()> {
        let x = self.operands.reads[0].values()?;
        let y = write(&mut self.operands, 0)?;
        match activation(function) {
            Ok(activation) => {
                simd::activate(&self.engine.pool, self.engine.isa, activation, x, y);
            }
            Err(_) => loops::map(function, x, y),
        }
        Ok(())
    }

    fn map_gradient(mut self, function: Unary) -> Result<()> {
        let (saved, dy) = (self.operands.reads[0].values()?, self.operands.reads[1].values()?);
        let dx = write(&mut self.operands, 0)?;
        match activation(function) {
            Ok(activation) => {
                let (pool, isa) = (&self.engine.pool, self.engine.isa);
                simd::activate_gradient(pool, isa, activation, saved, dy, dx);
            }
            Err(_) => loops::map_gradient(function, saved, dy, dx),
        }
        Ok(())
    }

    fn repeat(mut self) -> Result<()> {
        let x = self.operands.reads[0].values()?;
        loops::repeat(x, write(&mut self.operands, 0)?);
        Ok(())
    }

    fn sum(mut self) -> Result<()> {
        let x = self.operands.reads[0].values()?;
        write(&mut self.operands, 0)?[0] = loops::sum(x);
        Ok(())
    }

    fn zip(mut self, function: Binary) -> Result<()> {
        let (a, b) = (self.operands.reads[0].values()?, self.operands.reads[1].values()?);
        loops::zip(function, a, b, write(&mut self.operands, 0)?);
        Ok(())
    }

    fn softmax(mut self, kind: Softmax) -> Result<()> {
        let width = self.shape(self.step.inputs[0]).last();
        let x = self.operands.reads[0].values()?;
        let y = write(&mut self.operands, 0)?;
        let (pool, isa) = (&self.engine.pool, self.engine.isa);
        match kind {
            Softmax::Plain => simd::softmax_rows(pool, isa, width, x, y),
            Softmax::Log => simd::log_softmax_rows(pool, isa, width, x, y),
        }
        Ok(())
    }

    fn softmax_gradient(mut self, kind: Softmax) -> Result<()> {
        let width = self.shape(self.step.inputs[0]).last();
        let (y, dy) = (self.operands.reads[0].values()?, self.operands.reads[1].values()?);
        loops::softmax_gradient(kind, width, y, dy, write(&mut self.operands, 0)?);
        Ok(())
    }

    fn column_sum(mut self) -> Result<()> {
        let [rows, columns] = self.plan.graph.node(self.step.inputs[0]).matrix();
        let x = self.operands.reads[0].values()?;
        let sums = write(&mut self.operands, 0)?;
        simd::column_sums(&self.engine.pool, self.engine.isa, rows, columns, x, sums);
        Ok(())
    }

    /// A product of odd or rare shape, by the `gemm` crate on one thread: its own parallel split
    /// would make sums depend on the number of threads.
    fn matmul(mut self, product: MatMul) -> Result<()> {
        let of = |node: NodeId| (self.shape(node).rows(), self.shape(node).last());
        let (rows, columns) = of(self.step.outputs[0]);
        let ((a_rows, a_columns), (b_rows, b_columns)) =
            (of(self.step.inputs[0]), of(self.step.inputs[1]));
        let strides = |order: Order, columns: usize| match order {
            Order::Plain => Strides { row: columns as isize, column: 1 },
            Order::Transposed => Strides { row: 1, column: columns as isize },
        };
        let inner = match product.left {
            Order::Plain => a_columns,
            Order::Transposed => a_rows,
        };
        debug_assert_eq!(a_rows * a_columns, rows * inner);
        debug_assert_eq!(b_rows * b_columns, inner * columns);
        let (a, b) = (self.operands.reads[0].values()?, self.operands.reads[1].values()?);
        simd::matmul(
            [rows, inner, columns],
            (a, strides(product.left, a_columns)),
            (b, strides(product.right, b_columns)),
            write(&mut self.operands, 0)?,
        );
        Ok(())
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

fn moments_of(moments: Vec<&mut [f32]>) -> Moments<'_> {
    let mut moments = moments.into_iter();
    match (moments.next(), moments.next()) {
        (Some(first), Some(second)) => Moments::Two(first, second),
        (Some(first), None) => Moments::One(first),
        _ => Moments::None,
    }
}

/// The vector form of a function, if it has one.
fn activation(function: Unary) -> Result<Activation> {
    match function {
        Unary::Relu => Ok(Activation::Relu),
        Unary::LeakyRelu(slope) => Ok(Activation::LeakyRelu(slope as f32)),
        Unary::Gelu => Ok(Activation::Gelu),
        Unary::GeluTanh => Ok(Activation::GeluTanh),
        Unary::Silu => Ok(Activation::Silu),
        Unary::Tanh => Ok(Activation::Tanh),
        Unary::Sigmoid => Ok(Activation::Sigmoid),
        _ => Err(internal("a function without a vector form")),
    }
}

/// An optimiser's rule with this run's scalars worked out.
fn vector_rule(rule: &UpdateRule, run: &Scalars) -> simd::UpdateRule {
    let rate = f64::from(run.learning_rate);
    match *rule {
        UpdateRule::Sgd { momentum, dampening, nesterov, weight_decay } => simd::UpdateRule::Sgd {
            learning_rate: run.learning_rate,
            momentum: run.momentum.unwrap_or(momentum) as f32,
            dampening: dampening as f32,
            nesterov: match nesterov {
                Nesterov::Off => simd::Nesterov::Off,
                Nesterov::On => simd::Nesterov::On,
            },
            weight_decay: weight_decay as f32,
            step: if run.update <= 1 { simd::Step::First } else { simd::Step::Later },
        },
        UpdateRule::Adam { beta1, beta2, eps, weight_decay, decay } => {
            let beta1 = run.momentum.unwrap_or(beta1);
            let update = f64::from(run.update);
            simd::UpdateRule::Adam {
                decays: [beta1, beta2].map(|beta| beta as f32),
                shares: [beta1, beta2].map(|beta| (1.0 - beta) as f32),
                step_size: (rate / (1.0 - beta1.powf(update))) as f32,
                inv_sqrt_bias2: (1.0 / (1.0 - beta2.powf(update)).sqrt()) as f32,
                eps: eps as f32,
                decay: match decay {
                    Decay::Gradient => simd::Decay::Coupled(weight_decay as f32),
                    Decay::Decoupled => simd::Decay::Decoupled((1.0 - rate * weight_decay) as f32),
                },
            }
        }
    }
}

fn internal(message: &str) -> Error {
    Error::Internal { pass: "cpu", message: message.into() }
}
