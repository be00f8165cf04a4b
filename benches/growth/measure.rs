// SPDX-License-Identifier: MIT OR Apache-2.0
//! The time of a step, and what the machine needs for its work at best.

use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use kiln::backend::cpu::Gauge;
use kiln::nn::Module;
use kiln::{Device, Result, Trainer};

use crate::axis::{Axis, Step};
use crate::clock::Clock;

/// About half a millisecond of multiply-adds.
const ROUNDS: u64 = 200_000;
/// Elements of the largest copy, which no cache holds, and of the smallest.
const COPIED: usize = 16 << 20;
const LEAST_COPIED: usize = 64 << 10;
/// Attempts at a bound: the fastest counts. They last for at least so long, since a thread that wakes up may
/// share a processor for milliseconds.
const ATTEMPTS: usize = 5;
const PATIENCE: Duration = Duration::from_millis(20);
/// Steps at least, the first of which is not counted.
const LEAST: usize = 4;

/// One size of an axis.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Point {
    pub(crate) size: usize,
    /// Median milliseconds of a step.
    pub(crate) ms: f64,
    /// Milliseconds that its multiply-adds or its bytes take at best.
    pub(crate) bound_ms: f64,
    /// What the step trains.
    pub(crate) parameters: usize,
    /// Median milliseconds of PyTorch's step.
    pub(crate) torch_ms: Option<f64>,
}

/// Measures with so many threads.
pub(crate) struct Meter {
    gauge: Gauge,
    threads: NonZeroUsize,
    clock: Clock,
    from: Vec<f32>,
    to: Vec<f32>,
    budget: Duration,
}

impl Point {
    /// Of what the machine can do.
    pub(crate) fn share(&self) -> f64 {
        self.bound_ms / self.ms
    }
}

impl Meter {
    pub(crate) fn new(threads: NonZeroUsize, quick: bool) -> Self {
        let budget = Duration::from_millis(if quick { 150 } else { 1000 });
        // Pages that nobody has written to are all the same one.
        let from = (0..COPIED).map(|element| element as f32).collect();
        let (gauge, clock) = (Gauge::new(threads), Clock::of(threads));
        Meter { gauge, threads, clock, from, to: vec![1.0; COPIED], budget }
    }

    pub(crate) fn clock(&self) -> Clock {
        self.clock
    }

    /// How long a point is timed.
    pub(crate) fn budget(&self) -> Duration {
        self.budget
    }

    pub(crate) fn point(&mut self, axis: Axis, size: usize) -> Result<Point> {
        let device = Device::cpu_with_threads(self.threads);
        let Step { mut trainer, x, labels } = axis.step(size, device)?;
        let totals = trainer.plan(&x.ty(), &labels.ty())?.totals();
        let (flops, bytes) = (totals.flops as f64, totals.bytes as f64);
        let mut times = Vec::new();
        let begin = Instant::now();
        while times.len() < LEAST || begin.elapsed() < self.budget {
            let start = self.clock.now();
            trainer.step(&x, &labels)?;
            times.push((self.clock.now() - start) * 1e3);
        }
        times.remove(0);
        times.sort_by(f64::total_cmp);
        let computing = self.gauge.flops_per_round().map_or(0.0, |per_round| {
            let seconds = shortest(self.clock, || self.gauge.multiply_add(ROUNDS));
            flops / ((per_round * ROUNDS) as f64 / seconds)
        });
        // As many bytes as the step moves, half of them read: a cache may hold them.
        let count = (totals.bytes / 2 / size_of::<f32>()).clamp(LEAST_COPIED, COPIED);
        let copy = || self.gauge.copy(&self.from[..count], &mut self.to[..count]);
        let moving = bytes / ((2 * count * size_of::<f32>()) as f64 / shortest(self.clock, copy));
        let (ms, bound_ms) = (times[times.len() / 2], computing.max(moving) * 1e3);
        Ok(Point { size, ms, bound_ms, parameters: parameters(&mut trainer)?, torch_ms: None })
    }
}

/// Elements of all parameters.
fn parameters(trainer: &mut Trainer<Box<dyn Module>>) -> Result<usize> {
    let net = trainer.net();
    let names: Vec<String> = net.parameter_names().into_iter().map(str::to_owned).collect();
    names.iter().map(|name| Ok(net.parameter(name)?.shape().elements())).sum()
}

/// Seconds of the fastest attempt.
fn shortest(clock: Clock, mut attempt: impl FnMut()) -> f64 {
    let begin = Instant::now();
    let mut fastest = f64::INFINITY;
    let mut attempts = 0;
    while attempts < ATTEMPTS || begin.elapsed() < PATIENCE {
        let start = clock.now();
        attempt();
        fastest = fastest.min(clock.now() - start);
        attempts += 1;
    }
    fastest
}

/// The exponent that the milliseconds of the larger half of the sizes grow with: the slope of their logarithms.
pub(crate) fn exponent(points: &[(usize, f64)]) -> f64 {
    let larger = &points[points.len() / 2..];
    let log = |&(size, ms): &(usize, f64)| ((size as f64).ln(), ms.ln());
    let count = larger.len() as f64;
    let sums = larger.iter().map(log).fold((0.0, 0.0), |(x, y), (dx, dy)| (x + dx, y + dy));
    let (x, y) = (sums.0 / count, sums.1 / count);
    let terms = larger.iter().map(log).map(|(px, py)| ((px - x) * (py - y), (px - x).powi(2)));
    let (above, below) = terms.fold((0.0, 0.0), |(a, b), (da, db)| (a + da, b + db));
    above / below
}
