// SPDX-License-Identifier: MIT OR Apache-2.0
//! Graphs: work is recorded with what it depends on, and replayed in any order that this allows.

use std::ffi::c_ulonglong;
use std::sync::Arc;

use crate::clock::{Clock, Track, Tracks};
use crate::driver::{call, call_always, Driver, Handle};
use crate::execute::{Failure, Place, Work};
use crate::races::Moment;
use crate::settings::StreamOrder;
use crate::status::{put, Result, Status};
use crate::stream::StreamHandle;

/// Captured work and the positions of the nodes it comes after.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    work: Work,
    pub(crate) after: Vec<usize>,
}

/// A stream's part in a capture: its next node comes after the frontier.
#[derive(Clone, Debug)]
pub(crate) struct StreamCapture {
    pub(crate) graph: Handle,
    pub(crate) frontier: Vec<usize>,
}

/// The point in a capture that an event marks, also once the capture has ended.
pub(crate) type CapturedEvent = StreamCapture;

#[derive(Clone, Debug)]
pub(crate) struct Executable {
    nodes: Arc<Vec<Node>>,
    /// Nodes of one chain share a track, so that clocks stay short.
    tracks: Vec<Track>,
}

/// One launch of an executable graph.
#[derive(Clone, Debug)]
pub(crate) struct GraphRun {
    nodes: Arc<Vec<Node>>,
    moments: Arc<Vec<Moment>>,
    done: Vec<bool>,
}

impl GraphRun {
    pub(crate) fn is_finished(&self) -> bool {
        self.done.iter().all(|done| *done)
    }

    fn ready(&self) -> Vec<usize> {
        let is_ready = |node: &usize| {
            !self.done[*node] && self.nodes[*node].after.iter().all(|before| self.done[*before])
        };
        (0..self.nodes.len()).filter(is_ready).collect()
    }
}

impl Executable {
    fn new(nodes: Vec<Node>, tracks: &mut Tracks) -> Self {
        let mut assigned: Vec<Track> = Vec::with_capacity(nodes.len());
        let mut continued = vec![false; nodes.len()];
        for node in &nodes {
            let free = node.after.iter().copied().find(|before| !continued[*before]);
            assigned.push(match free {
                Some(before) => {
                    continued[before] = true;
                    assigned[before]
                }
                None => tracks.open(),
            });
        }
        Self { nodes: Arc::new(nodes), tracks: assigned }
    }
}

impl Driver {
    /// Where a stream's capture stands, or `None` if it is not being captured.
    pub(crate) fn captured_point(&mut self, stream: StreamHandle) -> Result<Option<CapturedEvent>> {
        Ok(self.stream(stream)?.capture.clone())
    }

    /// Appends work to the graph that a stream is being captured into.
    pub(crate) fn capture_work(&mut self, stream: StreamHandle, work: Work) -> Result<()> {
        let allowed = match &work {
            Work::Launch(_) | Work::Fill { .. } | Work::HostCall { .. } => true,
            Work::Copy { from, .. } => !matches!(from, Place::Snapshot(_)),
            _ => false,
        };
        if !allowed {
            return self.break_capture_of(
                stream,
                "work that cannot be captured: an allocation, a free, a pageable copy or a graph",
            );
        }
        let Some(point) = self.stream(stream)?.capture.clone() else {
            return Err(Status::ILLEGAL_STATE);
        };
        let capture = self.unbroken(point.graph)?;
        capture.nodes.push(Node { work, after: point.frontier });
        let frontier = vec![capture.nodes.len() - 1];
        self.stream(stream)?.capture = Some(StreamCapture { graph: point.graph, frontier });
        Ok(())
    }

    /// A stream waits for an event of a capture, which makes it part of that capture.
    pub(crate) fn join_capture(
        &mut self,
        stream: StreamHandle,
        point: CapturedEvent,
    ) -> Result<()> {
        if !self.captures.contains_key(&point.graph) {
            return self.refuse(
                Status::CAPTURED_EVENT,
                "a stream waits for an event that was captured into a graph",
            );
        }
        self.unbroken(point.graph)?;
        match &mut self.stream(stream)?.capture {
            None => self.stream(stream)?.capture = Some(point),
            Some(own) if own.graph == point.graph => {
                own.frontier.extend(point.frontier);
                own.frontier.sort_unstable();
                own.frontier.dedup();
            }
            Some(own) => {
                let both = [own.graph, point.graph];
                return self.break_captures(
                    |graph, _| both.contains(graph),
                    Status::STREAM_CAPTURE_MERGE,
                    "an event joins two captures",
                );
            }
        }
        Ok(())
    }

    fn launch_graph(&mut self, executable: Handle, stream: StreamHandle) -> Result<()> {
        let stream = self.used_stream(stream)?;
        let Some(executable) = self.executables.get(&executable).cloned() else {
            return Err(Status::INVALID_HANDLE);
        };
        if self.stream(stream)?.capture.is_some() {
            return self.break_capture_of(stream, "a graph was launched into a captured stream");
        }
        let host = self.host_clock.clone();
        let state = self.stream(stream)?;
        state.clock.join(&host);
        let before = state.clock.clone();
        let moments = self.graph_moments(&executable, &before);
        for moment in &moments {
            self.stream(stream)?.clock.join(&moment.clock);
        }
        self.counters.graph_launches += 1;
        let done = vec![false; moments.len()];
        self.enqueue(
            stream,
            Work::Graph(GraphRun { nodes: executable.nodes, moments: Arc::new(moments), done }),
        )
    }

    fn graph_moments(&mut self, executable: &Executable, before: &Clock) -> Vec<Moment> {
        let mut moments: Vec<Moment> = Vec::with_capacity(executable.nodes.len());
        for (node, track) in executable.nodes.iter().zip(&executable.tracks) {
            let mut clock = before.clone();
            for earlier in &node.after {
                clock.join(&moments[*earlier].clock);
            }
            let epoch = self.tracks.tick(*track);
            clock.reach(epoch);
            if let Some(name) = node.work.name() {
                self.operations.remember(epoch, format!("{name} in a graph").into());
            }
            moments.push(Moment { epoch, clock });
        }
        moments
    }

    /// Runs one node whose predecessors are done: the last captured one, or any at random.
    pub(crate) fn step_graph(&mut self, run: &mut GraphRun) -> std::result::Result<(), Failure> {
        let ready = run.ready();
        let picked = match self.settings.streams {
            _ if ready.is_empty() => return Ok(()),
            StreamOrder::Eager => ready[0],
            StreamOrder::Lazy => ready[ready.len() - 1],
            StreamOrder::Random => ready[self.pick(ready.len())],
        };
        run.done[picked] = true;
        self.execute(&run.nodes[picked].work, &run.moments[picked])
    }
}

#[no_mangle]
unsafe extern "C" fn cuGraphInstantiateWithFlags(
    executable: *mut Handle,
    graph: Handle,
    _flags: c_ulonglong,
) -> Status {
    call(|driver| {
        let Some(nodes) = driver.graphs.get(&graph).cloned() else {
            return Err(Status::INVALID_HANDLE);
        };
        let handle = driver.new_handle();
        let made = Executable::new(nodes, &mut driver.tracks);
        driver.executables.insert(handle, made);
        // SAFETY: the caller gives a place for the handle.
        unsafe { put(executable, handle) }.ok()
    })
}

/// The number of nodes; their handles are not given out.
#[no_mangle]
unsafe extern "C" fn cuGraphGetNodes(
    graph: Handle,
    nodes: *mut Handle,
    count: *mut usize,
) -> Status {
    call(|driver| {
        let Some(found) = driver.graphs.get(&graph).map(Vec::len) else {
            return Err(Status::INVALID_HANDLE);
        };
        if !nodes.is_null() {
            return driver.refuse(
                Status::NOT_SUPPORTED,
                "the simulated driver gives the number of nodes, not the nodes",
            );
        }
        // SAFETY: the caller gives a place for the number.
        unsafe { put(count, found) }.ok()
    })
}

#[no_mangle]
extern "C" fn cuGraphUpload(executable: Handle, stream: StreamHandle) -> Status {
    call(|driver| {
        driver.stream(stream)?;
        driver.executables.contains_key(&executable).then_some(()).ok_or(Status::INVALID_HANDLE)
    })
}

#[no_mangle]
extern "C" fn cuGraphLaunch(executable: Handle, stream: StreamHandle) -> Status {
    call(|driver| driver.launch_graph(executable, stream))
}

#[no_mangle]
extern "C" fn cuGraphExecDestroy(executable: Handle) -> Status {
    call_always(|driver| {
        driver.executables.remove(&executable).map(|_| ()).ok_or(Status::INVALID_HANDLE)
    })
}

#[no_mangle]
extern "C" fn cuGraphDestroy(graph: Handle) -> Status {
    call_always(|driver| driver.graphs.remove(&graph).map(|_| ()).ok_or(Status::INVALID_HANDLE))
}
