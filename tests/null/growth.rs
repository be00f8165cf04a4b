// SPDX-License-Identifier: MIT OR Apache-2.0
//! The time to plan a network grows with its number of layers, not with a power of it.

use std::sync::Arc;
use std::time::Duration;

use kiln::backend::{Facts, Fusion, HostMemory, UpdatePlace};
use kiln::graph::{trace, ParamRole, ParamSpec, ParamUsage, Var};
use kiln::kernel::Kernel;
use kiln::loss::{CrossEntropy, Loss};
use kiln::nn::{Dropout, Linear, Module, Scope};
use kiln::op::{Store, TensorType};
use kiln::optim::Adam;
use kiln::passes::{self, Goal, Request};
use kiln::plan::Plan;
use kiln::{DType, Device, Mode, Net, Seed};

use super::networks::step;
use crate::common::reference::{facts, one_lane};

const WIDTH: usize = 8;

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

fn plan(
    module: &dyn Module,
    specs: &Arc<Vec<ParamSpec>>,
    goal: Goal,
    facts: &Facts,
) -> (Plan, Duration) {
    let inputs = [TensorType::f32([1, WIDTH].into()), TensorType::i32([1].into())];
    let start = thread_time();
    let function = |inputs: &[Var]| {
        let output = module.forward(&inputs[0]);
        vec![CrossEntropy::default().forward(&output, &inputs[1], &[]), output]
    };
    let traced = trace(specs.clone(), &inputs, function).expect("a network that traces");
    let request = Request { mode: Mode::Train, goal };
    let plan = passes::compile(traced, &request, facts).expect("a plan");
    (plan, thread_time() - start)
}

/// How long this thread has run, so that other work on the machine does not count.
#[cfg(unix)]
fn thread_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// How long this process has run: here other work counts.
#[cfg(not(unix))]
fn thread_time() -> Duration {
    use std::sync::OnceLock;
    use std::time::Instant;
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed()
}

fn deep(depth: usize) -> (Net<Deep>, Arc<Vec<ParamSpec>>) {
    let net = Net::new(Device::cpu(), Seed(1), |p| Deep::new(p, depth)).expect("a network");
    let spec = |name: &str| {
        let (shape, usage) = match name.ends_with("weight") {
            true => ([WIDTH, WIDTH].into(), ParamUsage::LinearWeight),
            false => ([WIDTH].into(), ParamUsage::Plain),
        };
        let (dtype, role) = (DType::F32, ParamRole::Trained);
        ParamSpec { name: name.into(), shape, dtype, usage, role }
    };
    let specs = Arc::new(net.parameter_names().into_iter().map(spec).collect());
    (net, specs)
}

/// Four times the layers may take eight times as long; with any pass that looks at pairs they take
/// sixteen times as long. The best of several rounds counts, since a busy machine only adds
/// (caches are shared).
#[test]
fn planning_time_grows_with_the_layers() {
    let adam = || step(Store::Overwrite, Some(Adam::new(1e-3).into()), Some(1.0));
    let gpu = facts(3, HostMemory::Copied, UpdatePlace::Flat);
    let networks = [deep(1_000), deep(4_000)];
    for facts in [one_lane(), Facts { fusion: Fusion::AcrossLayers, ..gpu }] {
        let mut best = [Duration::MAX; 2];
        for _ in 0..6 {
            for ((net, specs), best) in networks.iter().zip(&mut best) {
                *best = plan(net.module(), specs, adam(), &facts).1.min(*best);
            }
            if best[1] < 8 * best[0] {
                break;
            }
        }
        let [small, large] = best;
        assert!(large < 8 * small, "{small:?} for 1,000 layers, {large:?} for 4,000: {facts:?}");
    }
}

/// So deep that anything that calls itself once per node would run out of stack.
#[test]
fn a_hundred_thousand_activations_are_planned() {
    struct Activations;
    impl Module for Activations {
        fn forward(&self, x: &Var) -> Var {
            (0..100_000).fold(x.clone(), |x, _| x.tanh())
        }
    }
    let goal = Goal::Gradients(kiln::passes::Seed::One);
    let (plan, _) = plan(&Activations, &Arc::default(), goal, &one_lane());
    // Functions forward, and as many backward.
    let links = plan.steps.iter().map(|step| match &step.kernel {
        Kernel::Chain(chain) => chain.links.len(),
        _ => 1,
    });
    assert!(links.sum::<usize>() >= 200_000, "{} steps", plan.steps.len());
    // Every activation's output is kept for its gradient; the gradients take turns.
    let row = WIDTH * 4;
    assert!(plan.arena.0 <= 100_010 * row.next_multiple_of(256), "{:?}", plan.arena);
}
