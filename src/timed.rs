// SPDX-License-Identifier: MIT OR Apache-2.0
//! How long the steps of a network's plans take.

use std::time::Duration;

use serde_json::{json, Value};

pub use crate::backend::StepClock;
pub use crate::exec::Span;
use crate::passes::Request;
use crate::plan::Plan;
use crate::{Net, Result};

/// A plan with the times of its steps, from [`Net::timed_plans`].
#[derive(Clone, Debug)]
pub struct TimedPlan {
    /// What the plan is for.
    pub request: Request,
    /// The plan.
    pub plan: Plan,
    /// Runs that were timed. The first, which touches memory for the first time, is left out if there are
    /// others.
    pub runs: u64,
    /// Time of all those runs, between their steps too. Steps on several lanes of a GPU run at once.
    pub whole: Duration,
    /// Time of each step in all those runs.
    pub steps: Vec<Duration>,
    /// Each step of the first 20 of those runs.
    pub spans: Vec<Span>,
    /// What tells the times: those of a simulated device say nothing of a real one.
    pub clock: StepClock,
}

impl<M> Net<M> {
    /// Takes the time of each step of each plan from now on. That costs two looks at a clock per step. On a GPU
    /// it is two events per step, and each run is waited for; its steps are issued one by one, not replayed.
    ///
    /// ```
    /// use kiln::{models::SimpleNet, Device, Net, Seed, Tensor};
    ///
    /// let mut net = Net::new(Device::cpu(), Seed(7), |p| SimpleNet::new(p, 4, 8, 3, 0.5))?;
    /// net.time_steps()?;
    /// for _ in 0..3 {
    ///     net.eval().forward(&Tensor::zeros([2, 4]))?;
    /// }
    /// let timed = &net.timed_plans()[0];
    /// assert_eq!((timed.runs, timed.steps.len()), (2, timed.plan.steps.len()));
    /// assert!(timed.steps.iter().sum::<std::time::Duration>() <= timed.whole);
    /// # Ok::<(), kiln::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Device`](crate::Error::Device) with the message of a GPU's driver.
    pub fn time_steps(&mut self) -> Result<()> {
        self.runner_mut().time_steps()
    }

    /// The plans that ran since then and are still kept, that with the most time first.
    pub fn timed_plans(&self) -> Vec<TimedPlan> {
        let timed = self.runner().kept().filter_map(|(request, executable)| {
            let timing = executable.timing().filter(|timing| timing.runs > 0)?;
            Some(TimedPlan {
                request: request.clone(),
                plan: executable.plan().clone(),
                runs: timing.runs,
                whole: timing.whole,
                steps: timing.steps.clone(),
                spans: timing.spans.clone(),
                clock: timing.clock,
            })
        });
        let mut plans: Vec<TimedPlan> = timed.collect();
        plans.sort_by_key(|plan| std::cmp::Reverse(plan.whole));
        plans
    }
}

/// The steps of plans in the format of Chrome's traces, which chrome://tracing and Perfetto show; `paths`
/// says for each step of a plan how it was computed.
pub fn chrome_trace(plans: &[TimedPlan], paths: &[Vec<String>]) -> Value {
    let micros = |duration: Duration| duration.as_secs_f64() * 1e6;
    let mut events = Vec::new();
    for (timed, paths) in plans.iter().zip(paths) {
        for span in &timed.spans {
            let step = &timed.plan.steps[span.step];
            events.push(json!({
                "name": step.kernel.name(),
                "cat": step.layer,
                "ph": "X",
                "ts": micros(span.start),
                "dur": micros(span.length),
                "pid": 0,
                "tid": step.lane.index(),
                "args": {
                    "layer": step.layer,
                    "path": paths.get(span.step),
                    "step": span.step,
                    "run": span.run,
                    "bytes": step.bytes,
                    "flops": step.flops,
                },
            }));
        }
    }
    json!({ "traceEvents": events, "displayTimeUnit": "ms" })
}
