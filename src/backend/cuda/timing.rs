// SPDX-License-Identifier: MIT OR Apache-2.0
//! Times of steps on a device: events before and behind each, on the stream that it runs on.

use std::time::Duration;

use cudarc::driver::sys::CUevent_flags;

use super::driver::{CudaEvent, CudaStream};
use super::gpu::Gpu;
use crate::backend::{StepClock, StepTime};
use crate::Result;

/// Events around the steps of a run. They are read before the next run records them anew.
#[derive(Debug)]
pub(super) struct StepEvents {
    begin: CudaEvent,
    /// Before and behind each step, of as many as the longest plan has.
    around: Vec<[CudaEvent; 2]>,
    /// Steps of the run under way.
    steps: usize,
}

impl StepEvents {
    /// # Errors
    /// [`crate::Error::Device`] with the driver's message.
    pub(super) fn new(gpu: &Gpu) -> Result<Self> {
        Ok(StepEvents { begin: event(gpu)?, around: Vec::new(), steps: 0 })
    }

    /// A run of so many steps begins on a stream that the others wait for.
    pub(super) fn begin(&mut self, gpu: &Gpu, lane: &CudaStream, steps: usize) -> Result<()> {
        while self.around.len() < steps {
            self.around.push([event(gpu)?, event(gpu)?]);
        }
        self.steps = steps;
        record(gpu, &self.begin, lane)
    }

    /// Issues the work of a step between its events.
    pub(super) fn around(
        &self,
        gpu: &Gpu,
        lane: &CudaStream,
        step: usize,
        issue: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        let [before, behind] = &self.around[step];
        record(gpu, before, lane)?;
        issue()?;
        record(gpu, behind, lane)
    }

    /// When each step ran, and the clock that says so. Waits for all of them.
    pub(super) fn times(&self, gpu: &Gpu) -> Result<(StepClock, Vec<StepTime>)> {
        let between = |from: &CudaEvent, to: &CudaEvent| -> Result<Duration> {
            let milliseconds =
                from.elapsed_ms(to).map_err(|error| gpu.error("timing a step", error))?;
            Ok(Duration::from_secs_f64(f64::from(milliseconds.max(0.0)) / 1e3))
        };
        let of_step = |[before, behind]: &[CudaEvent; 2]| {
            Ok(StepTime { start: between(&self.begin, before)?, length: between(before, behind)? })
        };
        let times: Result<_> = self.around[..self.steps].iter().map(of_step).collect();
        let clock = match gpu.info().simulated {
            true => StepClock::Simulated,
            false => StepClock::Device,
        };
        Ok((clock, times?))
    }
}

fn event(gpu: &Gpu) -> Result<CudaEvent> {
    // The usual events of the context tell no times.
    let event = gpu.context().new_event(Some(CUevent_flags::CU_EVENT_DEFAULT));
    event.map_err(|error| gpu.error("making an event", error))
}

fn record(gpu: &Gpu, event: &CudaEvent, lane: &CudaStream) -> Result<()> {
    event.record(lane).map_err(|error| gpu.error("recording an event", error))
}
