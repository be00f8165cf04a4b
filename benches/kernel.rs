// SPDX-License-Identifier: MIT OR Apache-2.0
//! How fast each kernel of the CPU backend is, beside what the machine gives at the moment.
//!
//! Plans are compiled as for training, run once, and then single steps of them are launched again
//! and again. Kernels with matrix products are measured in GFLOP/s, the others in GB/s by the bytes
//! that the plan says they move. Most of these fit into a cache and stay there, as they do in a
//! real step; the dropout of 16M elements does not. `reference` holds the bare products of the
//! same shapes by the `gemm` crate, and plain copies within and beyond the caches.
//!
//! The share beside a rate is that of the machine's own peak with as many threads, measured when the
//! bench starts: of fused multiply-adds in registers, or of the faster copy.

mod common;
#[path = "kernel/convolutions.rs"]
mod convolutions;
#[path = "kernel/functions.rs"]
mod functions;
#[path = "kernel/isolated.rs"]
mod isolated;
#[path = "kernel/reference.rs"]
mod reference;

use std::num::NonZeroUsize;
use std::sync::atomic::AtomicU32;
use std::time::Instant;

use common::{random_values, Peaks, Rates, Unit};
use criterion::{Criterion, Throughput};
use isolated::Isolated;
use kiln::backend::cpu::{Ceilings, Gauge};
use kiln::graph::NodeId;
use kiln::nn::Dropout;
use kiln::optim::{Adam, Optimizer, Sgd};
use kiln::plan::{Plan, Step};
use kiln::{Device, Mode, Net, Result, Seed, Tensor};
use reference::Product;

const FLOPS: Unit = Unit { name: "GFLOP/s", per_nanosecond: 1.0 };
const BATCH: usize = 256;
/// Beyond every cache.
const DROPOUT_SHAPE: [usize; 2] = [1024, 16384];
/// Within the second-level cache, and beyond all.
const COPIED_ELEMENTS: [usize; 2] = [64 << 10, 16 << 20];
/// As many as the weights of SimpleNet's second layer.
const EXCHANGED_ELEMENTS: usize = 256 << 10;
/// The products of SimpleNet's step: fc1 and its weight gradient, fc2.
const PRODUCTS: [Product; 3] = [
    Product { rows: BATCH, columns: 512, inner: 784 },
    Product { rows: 512, columns: 784, inner: BATCH },
    Product { rows: BATCH, columns: 512, inner: 512 },
];

fn main() -> Result<()> {
    for threads in common::thread_counts() {
        let mut criterion = common::criterion(FLOPS, peaks(threads));
        multiply_adds(&mut criterion, threads);
        products(&mut criterion, threads);
        copies(&mut criterion, threads);
        if threads.get() == 2 {
            exchange(&mut criterion);
        }
        training_kernels(&mut criterion, threads)?;
        dropout(&mut criterion, threads)?;
        functions(&mut criterion, threads)?;
        convolution_kernels(&mut criterion, threads)?;
        criterion.final_summary();
    }
    Ok(())
}

/// What so many threads reach at the moment.
fn peaks(threads: NonZeroUsize) -> Peaks {
    let ceilings = Ceilings::measure(threads);
    let bytes = ceilings.copies.iter().map(|copy| copy.rate / 1e9).reduce(f64::max);
    Peaks { elements: ceilings.flops.map(|flops| flops / 1e9), bytes }
}

/// The peak again, as a row of its own.
fn multiply_adds(criterion: &mut Criterion<Rates>, threads: NonZeroUsize) {
    let gauge = Gauge::new(threads);
    let Some(flops) = gauge.flops_per_round() else { return };
    let mut group = criterion.benchmark_group("reference");
    group.throughput(Throughput::Elements(flops));
    let id = format!("multiply-adds in registers threads {threads}");
    group.bench_function(id, |bencher| {
        bencher.iter_custom(|rounds| {
            let start = Instant::now();
            gauge.multiply_add(rounds);
            start.elapsed()
        });
    });
    group.finish();
}

fn products(criterion: &mut Criterion<Rates>, threads: NonZeroUsize) {
    let mut group = criterion.benchmark_group("reference");
    for product in PRODUCTS {
        let Product { rows, columns, inner } = product;
        let (a, b) = (random_values(rows * inner), random_values(inner * columns));
        let mut c = vec![0.0; rows * columns];
        group.throughput(Throughput::Elements(product.flops()));
        let id = format!("gemm {rows}x{inner}x{columns} threads {threads}");
        group.bench_function(id, |bencher| {
            bencher.iter(|| product.compute(&a, &b, &mut c, threads));
        });
    }
    group.finish();
}

/// What it costs that threads read what others write. The rate tells where a virtual machine's cores
/// lie: far lower where they share no last cache.
fn exchange(criterion: &mut Criterion<Rates>) {
    let lines: Vec<AtomicU32> = (0..EXCHANGED_ELEMENTS).map(|_| AtomicU32::new(0)).collect();
    let mut group = criterion.benchmark_group("reference");
    group.throughput(Throughput::BytesDecimal((EXCHANGED_ELEMENTS * size_of::<u32>()) as u64));
    group.bench_function("write lines that another core has read, threads 2", |bencher| {
        bencher.iter_custom(|rounds| reference::take_back(&lines, rounds));
    });
    group.finish();
}

fn copies(criterion: &mut Criterion<Rates>, threads: NonZeroUsize) {
    let gauge = Gauge::new(threads);
    let mut group = criterion.benchmark_group("reference");
    for elements in COPIED_ELEMENTS {
        let (from, mut to) = (random_values(elements), vec![0.0; elements]);
        let bytes = 2 * size_of_val(from.as_slice());
        group.throughput(Throughput::BytesDecimal(bytes as u64));
        let id = format!("copy {} KiB threads {threads}", bytes / 2 / 1024);
        group.bench_function(id, |bencher| {
            bencher.iter(|| gauge.copy(&from, &mut to));
        });
    }
    group.finish();
}

/// The kernels of SimpleNet's training step: with Adam, with SGD, and with clipping, where the
/// gradients are stored and one flat pass updates.
fn training_kernels(criterion: &mut Criterion<Rates>, threads: NonZeroUsize) -> Result<()> {
    let adam = Adam::new(1e-3);
    let sgd = Sgd::new(0.01).momentum(0.9);
    let (x, labels) = common::random_batch(BATCH)?;
    let inputs = [x, labels];
    let every = |_: &Step| true;
    let weights = |step: &Step| step.kernel.name() == "linear_weight_gradient";
    let clipping = |step: &Step| {
        ["linear_weight_gradient", "clip_norm", "flat_update"].contains(&step.kernel.name())
    };
    let plan = step_plan(adam.into(), None, &inputs)?;
    measure(criterion, "adam", &plan, &inputs, every, threads)?;
    let plan = step_plan(sgd.into(), None, &inputs)?;
    measure(criterion, "sgd", &plan, &inputs, weights, threads)?;
    let plan = step_plan(adam.into(), Some(1.0), &inputs)?;
    measure(criterion, "clipped adam", &plan, &inputs, clipping, threads)
}

/// Dropout alone, where no cache helps.
fn dropout(criterion: &mut Criterion<Rates>, threads: NonZeroUsize) -> Result<()> {
    let elements = DROPOUT_SHAPE[0] * DROPOUT_SHAPE[1];
    let x = Tensor::new(DROPOUT_SHAPE, random_values(elements))?;
    let mut net = Net::new(Device::cpu(), Seed(7), |p| Dropout::new(&p.at("dropout"), 0.5))?;
    let plan = net.plan(Mode::Train, &[x.ty()])?.clone();
    measure(criterion, "alone", &plan, &[x], |_| true, threads)
}

/// Functions that no layer needs, by themselves. What prepares their operands is not measured.
fn functions(criterion: &mut Criterion<Rates>, threads: NonZeroUsize) -> Result<()> {
    for function in functions::FUNCTIONS {
        let (plan, x) = function.plan()?;
        let outputs: Vec<NodeId> = plan.outputs.iter().map(|(node, _)| *node).collect();
        // Reshapes of a result are the result.
        let is_result = |id: &NodeId| {
            let is_input = |output: &NodeId| plan.graph.node(*output).inputs.contains(id);
            outputs.contains(id) || outputs.iter().any(is_input)
        };
        let last = |step: &Step| step.outputs.iter().any(is_result);
        measure(criterion, function.name, &plan, &[x], last, threads)?;
    }
    Ok(())
}

/// Convolutions by themselves, and what surrounds them.
fn convolution_kernels(criterion: &mut Criterion<Rates>, threads: NonZeroUsize) -> Result<()> {
    for subject in convolutions::SUBJECTS {
        let (plan, inputs) = subject.plan()?;
        let own = |step: &Step| step.layer == convolutions::Subject::LAYER;
        measure(criterion, subject.name, &plan, &inputs, own, threads)?;
    }
    let (plan, inputs) = convolutions::surroundings()?;
    let others = |step: &Step| step.flops == 0 && step.bytes > (1 << 20);
    measure(criterion, "around convolutions", &plan, &inputs, others, threads)
}

fn step_plan(
    optimizer: Optimizer,
    max_norm: Option<f64>,
    [x, labels]: &[Tensor; 2],
) -> Result<Plan> {
    let mut trainer = common::trainer(common::simple, optimizer, NonZeroUsize::MIN)?;
    if let Some(max_norm) = max_norm {
        trainer = trainer.with_clipping(max_norm)?;
    }
    Ok(trainer.plan(&x.ty(), &labels.ty())?.clone())
}

/// Measures the chosen steps of a plan, each on memory of its own.
fn measure(
    criterion: &mut Criterion<Rates>,
    group: &str,
    plan: &Plan,
    inputs: &[Tensor],
    chosen: impl Fn(&Step) -> bool,
    threads: NonZeroUsize,
) -> Result<()> {
    let mut group = criterion.benchmark_group(group);
    for (index, step) in plan.steps.iter().enumerate() {
        if !chosen(step) {
            continue;
        }
        let mut isolated = Isolated::new(plan.clone(), inputs.to_vec(), threads)?;
        group.throughput(match step.flops {
            0 => Throughput::BytesDecimal(step.bytes as u64),
            flops => Throughput::Elements(flops as u64),
        });
        let id = format!("{} threads {threads}", kernel_and_shapes(plan, step));
        group.bench_function(id, |bencher| {
            bencher.iter(|| isolated.launch(index).expect("the first launch succeeded"));
        });
    }
    group.finish();
    Ok(())
}

/// `linear 256x784 to 256x512`: the shapes of the first input and output tell steps apart, where
/// layers cannot, since a fused kernel belongs to several.
fn kernel_and_shapes(plan: &Plan, step: &Step) -> String {
    let shape = |ids: &[NodeId]| {
        let dims = ids.first().map_or(&[][..], |id| plan.graph.node(*id).ty.shape.dims());
        dims.iter().map(usize::to_string).collect::<Vec<_>>().join("x")
    };
    let (from, to) = (shape(&step.inputs), shape(&step.outputs));
    match to.is_empty() {
        true => format!("{} {from} to a number", step.kernel.name()),
        false => format!("{} {from} to {to}", step.kernel.name()),
    }
}
