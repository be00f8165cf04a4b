// SPDX-License-Identifier: MIT OR Apache-2.0
//! How long it takes to plan a network, and what a plan's steps cost beside their arithmetic.
//!
//! `plan`: a training step with Adam of layers of Linear, ReLU and Dropout in a row, from the
//! modules to a plan with its memory; elements are layers, and their rate should not fall as they
//! grow in number. Goals: 1,000 layers within 60 ms, 10,000 within a second. `step`: layers so small that
//! a step's time is what it takes to get from one step of the plan to the next, with one thread; goal: a
//! microsecond for one step of the plan.

use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use criterion::{BatchSize, Criterion, Throughput};
use kiln::nn::{Dropout, Linear, Module, Scope};
use kiln::optim::Adam;
use kiln::{Device, Net, Result, Seed, Tensor, Trainer, Var};

const DEPTHS: [usize; 4] = [10, 100, 1_000, 10_000];
/// Depth of the network whose steps are timed.
const DEPTH: usize = 10;
const WIDTH: usize = 8;

/// `depth` times Linear, ReLU and Dropout.
struct Deep(Vec<(Linear, Dropout)>);

impl Deep {
    fn new(p: &Scope, depth: usize) -> Self {
        let layer = |index: usize| {
            let p = p.at(&index.to_string());
            (Linear::new(&p.at("fc"), WIDTH, WIDTH), Dropout::new(&p.at("dropout"), 0.1))
        };
        Deep((0..depth).map(layer).collect())
    }
}

impl Module for Deep {
    fn forward(&self, x: &Var) -> Var {
        let layer =
            |x: Var, (fc, dropout): &(Linear, Dropout)| dropout.forward(&fc.forward(&x).relu());
        self.0.iter().fold(x.clone(), layer)
    }
}

fn main() -> Result<()> {
    // Without other wishes as short as the other benches.
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_millis(1500))
        .configure_from_args();
    plans(&mut criterion)?;
    steps(&mut criterion)?;
    criterion.final_summary();
    Ok(())
}

fn trainer(depth: usize) -> Result<Trainer<Deep>> {
    let device = Device::cpu_with_threads(NonZeroUsize::MIN);
    let net = Net::new(device, Seed(7), |p| Deep::new(p, depth))?;
    Trainer::new(net, kiln::loss::CrossEntropy::default(), Adam::new(1e-3))
}

fn batch() -> Result<(Tensor, Tensor)> {
    Ok((
        Tensor::new([1, WIDTH], (0..WIDTH).map(|index| index as f32 / 8.0 - 0.4).collect())?,
        Tensor::labels([1], vec![3])?,
    ))
}

fn plans(criterion: &mut Criterion) -> Result<()> {
    let (x, labels) = batch()?;
    let mut group = criterion.benchmark_group("plan");
    group.sample_size(10);
    for depth in DEPTHS {
        trainer(depth)?.plan(&x.ty(), &labels.ty())?;
        group.throughput(Throughput::Elements(depth as u64));
        group.bench_function(format!("{depth} layers"), |bencher| {
            let fresh = || trainer(depth).expect("the first was made");
            let plan = |mut trainer: Trainer<Deep>| {
                trainer.plan(&x.ty(), &labels.ty()).expect("the first was planned");
                trainer
            };
            bencher.iter_batched(fresh, plan, BatchSize::PerIteration);
        });
    }
    group.finish();
    Ok(())
}

fn steps(criterion: &mut Criterion) -> Result<()> {
    let (x, labels) = batch()?;
    let mut trainer = trainer(DEPTH)?;
    let steps = trainer.plan(&x.ty(), &labels.ty())?.steps.len();
    let mut group = criterion.benchmark_group("step");
    group.bench_function(format!("train, {steps} plan steps"), |bencher| {
        bencher.iter(|| trainer.step(&x, &labels).expect("a step"));
    });
    group.bench_function("train, one plan step", |bencher| {
        let mut step = || drop(trainer.step(&x, &labels).expect("a step"));
        bencher.iter_custom(|rounds| time(rounds, &mut step) / steps as u32);
    });
    let net = trainer.net();
    let steps = net.plan(kiln::Mode::Eval, &[x.ty()])?.steps.len();
    group.bench_function(format!("eval, {steps} plan steps"), |bencher| {
        bencher.iter(|| net.eval().forward(&x).expect("a pass"));
    });
    group.bench_function("eval, one plan step", |bencher| {
        let mut pass = || drop(net.eval().forward(&x).expect("a pass"));
        bencher.iter_custom(|rounds| time(rounds, &mut pass) / steps as u32);
    });
    group.finish();
    Ok(())
}

fn time(rounds: u64, work: &mut dyn FnMut()) -> Duration {
    let start = Instant::now();
    (0..rounds).for_each(|_| work());
    start.elapsed()
}
