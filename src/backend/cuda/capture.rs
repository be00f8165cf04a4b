// SPDX-License-Identifier: MIT OR Apache-2.0
//! A run captured as a graph. All calls of a capture are made within one function, so that whatever
//! happens between its begin and its end, nothing is left being captured.

use std::sync::Arc;

use cudarc::driver::sys::{CUgraph, CUgraphExec, CUstreamCaptureMode};

use super::calls::{self, DriverError};
use super::driver::CudaStream;
use super::gpu::Gpu;
use crate::plan::{Event, Lane};
use crate::Result;

/// What a run puts on the streams, noted until all of it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Command {
    /// The launches of a step of the plan.
    Launch(usize),
    Record(Lane, Event),
    Wait(Lane, Event),
}

/// A captured run, ready to be replayed.
pub(super) struct Graph {
    gpu: Gpu,
    stream: Arc<CudaStream>,
    executable: CUgraphExec,
}

// SAFETY: the handle belongs to this value alone; the driver lets any thread use it, one at a time,
// and launches go through the backend that owns it, which takes `&mut self` for a run.
unsafe impl Send for Graph {}

impl std::fmt::Debug for Graph {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Graph")
    }
}

impl Graph {
    /// Captures what `issue` puts on a stream and on those that join it; `None` if that is nothing
    /// at all. Nothing of it runs.
    ///
    /// # Errors
    /// What `issue` failed with, or [`crate::Error::Device`] with the driver's message.
    pub(super) fn capture(
        gpu: &Gpu,
        stream: &Arc<CudaStream>,
        issue: impl FnOnce() -> Result<()>,
    ) -> Result<Option<Self>> {
        let failed = |error| gpu.error("capturing a plan", error);
        gpu.bind()?;
        let _turn = gpu.turns().capture();
        let capture = Capture::begin(stream).map_err(failed)?;
        issue()?;
        let graph = capture.end().map_err(failed)?;
        if graph.is_null() {
            return Ok(None);
        }
        // SAFETY: the graph was just captured and is destroyed once, here; what is made of it does
        // not need it any longer.
        let (made, destroyed) = unsafe {
            let mut executable = std::ptr::null_mut();
            let made = calls::cuGraphInstantiateWithFlags(&mut executable, graph, 0);
            (made.map(|()| executable), calls::cuGraphDestroy(graph))
        };
        if let Err(error) = destroyed {
            tracing::debug!(%error, "a graph was not destroyed");
        }
        let executable = made.map_err(failed)?;
        Ok(Some(Graph { gpu: gpu.clone(), stream: stream.clone(), executable }))
    }

    /// Puts the whole run on the stream that it was captured on.
    ///
    /// # Errors
    /// [`crate::Error::Device`] with the driver's message.
    pub(super) fn launch(&self) -> Result<()> {
        self.gpu.bind()?;
        // SAFETY: both handles live, and the memory that the kernels use outlives the programs of
        // the backend, this one among them.
        unsafe { calls::cuGraphLaunch(self.executable, self.stream.cu_stream()) }
            .map_err(|error| self.gpu.error("running a captured plan", error))
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        let _turn = self.gpu.turns().call();
        // SAFETY: made by `capture` and destroyed once; a graph that still runs is destroyed by the
        // driver when it is done.
        let destroyed = unsafe { calls::cuGraphExecDestroy(self.executable) };
        if let Err(error) = destroyed {
            tracing::debug!(%error, "a captured plan was not destroyed");
        }
    }
}

/// A capture that is on. It ends when this is dropped, at the latest.
struct Capture<'a> {
    stream: Option<&'a CudaStream>,
}

impl<'a> Capture<'a> {
    /// Other threads may do meanwhile what does not reach this capture: see `turns`.
    fn begin(stream: &'a CudaStream) -> std::result::Result<Self, DriverError> {
        let mode = CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        // SAFETY: the stream lives.
        unsafe { calls::cuStreamBeginCapture_v2(stream.cu_stream(), mode) }?;
        Ok(Capture { stream: Some(stream) })
    }

    fn end(mut self) -> std::result::Result<CUgraph, DriverError> {
        self.stream.take().map_or(Ok(std::ptr::null_mut()), end)
    }
}

impl Drop for Capture<'_> {
    fn drop(&mut self) {
        let Some(stream) = self.stream.take() else { return };
        let ended = end(stream).and_then(|graph| match graph.is_null() {
            true => Ok(()),
            // SAFETY: a graph that nobody has is destroyed once.
            false => unsafe { calls::cuGraphDestroy(graph) },
        });
        if let Err(error) = ended {
            // What led here says more.
            tracing::debug!(%error, "a capture that failed was ended");
        }
    }
}

/// Ends the capture that began on a stream.
fn end(stream: &CudaStream) -> std::result::Result<CUgraph, DriverError> {
    let mut graph = std::ptr::null_mut();
    // SAFETY: the stream lives, and the place is valid to write.
    unsafe { calls::cuStreamEndCapture(stream.cu_stream(), &mut graph)? };
    Ok(graph)
}
