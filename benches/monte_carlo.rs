// SPDX-License-Identifier: MIT OR Apache-2.0
//! What draws of Monte Carlo dropout cost: many in one run, beside as many single passes.
//!
//! The network is 784-2048-2048-10 with dropout before the last layer, so draws share nearly all of the
//! work. `draws`: one run with all of them; `single passes`: a pass in train mode for each, as one would
//! write it without. Both in samples a second, each sample counted once.

#[expect(dead_code, reason = "networks of other benches")]
mod common;

use std::num::NonZeroUsize;

use common::{Peaks, Unit};
use criterion::Throughput;
use kiln::nn::{Dropout, Linear, Module, Relu, Scope, Sequential};

const SAMPLES: Unit = Unit { name: "samples/s", per_nanosecond: 1e9 };
const BATCH: usize = 64;
const DRAWS: usize = 32;

fn wide(p: &Scope) -> Box<dyn Module> {
    let layers = Sequential::new(p).with(|p| Linear::new(p, 784, 2048)).with(|_| Relu);
    let layers = layers.with(|p| Linear::new(p, 2048, 2048)).with(|_| Relu);
    Box::new(layers.with(|p| Dropout::new(p, 0.5)).with(|p| Linear::new(p, 2048, 10)))
}

fn main() -> kiln::Result<()> {
    let mut criterion = common::criterion(SAMPLES, Peaks::default());
    for threads in common::thread_counts() {
        measure(&mut criterion, threads)?;
    }
    criterion.final_summary();
    Ok(())
}

fn measure(
    criterion: &mut criterion::Criterion<common::Rates>,
    threads: NonZeroUsize,
) -> kiln::Result<()> {
    let (x, _) = common::random_batch(BATCH)?;
    let mut net = common::net(wide, threads)?;
    // Compiles the plans.
    net.monte_carlo(DRAWS).forward(&x)?;
    net.train().forward(&x)?;
    let mut group = criterion.benchmark_group("monte_carlo");
    group.throughput(Throughput::Elements(BATCH as u64));
    let name = |what: &str| format!("{what} {DRAWS} batch {BATCH} threads {threads}");
    group.bench_function(name("draws"), |bencher| {
        bencher.iter(|| net.monte_carlo(DRAWS).forward(&x).expect("the first run succeeded"));
    });
    group.bench_function(name("single passes"), |bencher| {
        bencher.iter(|| {
            for _ in 0..DRAWS {
                net.train().forward(&x).expect("the first pass succeeded");
            }
        });
    });
    group.finish();
    Ok(())
}
