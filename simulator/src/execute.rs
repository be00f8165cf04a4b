// SPDX-License-Identifier: MIT OR Apache-2.0
//! The work that streams queue, and what it does when it runs.

use std::ffi::c_void;
use std::ptr;
use std::sync::Arc;

use crate::driver::Driver;
use crate::event::Record;
use crate::graph::GraphRun;
use crate::launch::KernelLaunch;
use crate::memory::{Life, When};
use crate::races::{Access, Moment};
use crate::status::{Result, Status};
use crate::stream::StreamHandle;

/// One piece of work.
#[derive(Clone, Debug)]
pub(crate) enum Work {
    Launch(Arc<KernelLaunch>),
    Copy {
        to: Place,
        from: Place,
        bytes: usize,
    },
    Fill {
        address: usize,
        value: u32,
        width: usize,
        count: usize,
    },
    Record(Arc<Record>),
    Wait(Arc<Record>),
    /// Memory allocated in stream order comes to life.
    Allocate(usize),
    Free(usize),
    HostCall {
        function: unsafe extern "C" fn(*mut c_void),
        data: usize,
    },
    Graph(GraphRun),
}

/// One end of a copy.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    Device(usize),
    /// Host memory that is read or written when the copy runs.
    Host(usize),
    /// Pageable host memory, read when the copy was queued.
    Snapshot(Arc<Vec<u8>>),
}

/// Queued work with its place in time.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) work: Work,
    pub(crate) moment: Moment,
}

/// An error of work that ran; it costs the context.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) status: Status,
    pub(crate) text: String,
}

impl Work {
    /// What reports call it; `None` for work that touches no memory.
    pub(crate) fn name(&self) -> Option<String> {
        match self {
            Work::Launch(launch) => Some(format!("kernel {}", launch.name)),
            Work::Copy { bytes, .. } => Some(format!("a copy of {bytes} bytes")),
            Work::Fill { count, width, .. } => Some(format!("a fill of {} bytes", count * width)),
            Work::Free(_) => Some("a free".into()),
            _ => None,
        }
    }
}

impl Driver {
    /// The place in time of the next piece of work on a stream.
    pub(crate) fn next_moment(&mut self, stream: StreamHandle) -> Result<Moment> {
        let host = self.host_clock.clone();
        let track = self.stream(stream)?.track;
        let epoch = self.tracks.tick(track);
        let state = self.stream(stream)?;
        state.clock.join(&host);
        state.clock.reach(epoch);
        Ok(Moment { epoch, clock: state.clock.clone() })
    }

    pub(crate) fn execute(
        &mut self,
        work: &Work,
        moment: &Moment,
    ) -> std::result::Result<(), Failure> {
        match work {
            Work::Launch(launch) => return self.run_kernel(launch, moment),
            Work::Copy { to, from, bytes } => return self.copy(to, from, *bytes, moment),
            Work::Fill { address, value, width, count } => {
                return self.fill(*address, *value, *width, *count, moment)
            }
            Work::Record(record) => record.finish(),
            Work::Allocate(address) => {
                if let Some(allocation) = self.memory.get_mut(*address) {
                    allocation.life = Life::Live;
                }
            }
            Work::Free(address) => {
                let bytes = self.memory.find(*address).map_or(0, |found| found.1.bytes);
                self.note_access("free", *address, bytes, Access::Write, moment)?;
                self.memory.free(*address);
            }
            // SAFETY: the caller of cuLaunchHostFunc promised that the function may be called with
            // its data once the stream reaches it.
            Work::HostCall { function, data } => unsafe { function(*data as *mut c_void) },
            Work::Wait(_) | Work::Graph(_) => {}
        }
        Ok(())
    }

    /// Checks a device range that work is about to touch, and follows the access.
    fn note_access(
        &mut self,
        what: &str,
        address: usize,
        bytes: usize,
        access: Access,
        moment: &Moment,
    ) -> std::result::Result<(), Failure> {
        if let Some(complaint) = self.memory.complain(address, bytes, When::Running) {
            return Err(Failure {
                status: Status::ILLEGAL_ADDRESS,
                text: format!("{what}: {complaint}"),
            });
        }
        if let Some(conflict) = self.memory.touch(address, bytes, access, moment) {
            let (now, earlier) =
                (self.operations.get(moment.epoch), self.operations.get(conflict.earlier));
            self.reports.push(format!(
                "stream race {} bytes into the {what}: {} by {now} is not ordered after the {} by \
                 {earlier}",
                conflict.word * 4,
                access.verb(),
                conflict.earlier_access.verb(),
            ));
        }
        Ok(())
    }

    fn copy(
        &mut self,
        to: &Place,
        from: &Place,
        bytes: usize,
        moment: &Moment,
    ) -> std::result::Result<(), Failure> {
        self.counters.copies += 1;
        let source = match from {
            Place::Device(address) => {
                self.note_access("source of a copy", *address, bytes, Access::Read, moment)?;
                *address as *const u8
            }
            Place::Host(address) => *address as *const u8,
            Place::Snapshot(kept) => kept.as_ptr(),
        };
        let destination = match to {
            Place::Device(address) => {
                self.note_access("destination of a copy", *address, bytes, Access::Write, moment)?;
                *address as *mut u8
            }
            Place::Host(address) => *address as *mut u8,
            Place::Snapshot(_) => {
                return Err(Failure {
                    status: Status::INVALID_VALUE,
                    text: "copy into a snapshot".into(),
                })
            }
        };
        match (from, to) {
            (Place::Device(from), Place::Device(to)) => {
                self.memory.copy_initialised(*from, *to, bytes)
            }
            (Place::Device(from), _) => self.report_uninitialised(*from, bytes),
            _ => {}
        }
        // SAFETY: device ranges were checked just now; host ranges are the caller's promise at the
        // entry point, for as long as the stream may still use them.
        unsafe { ptr::copy(source, destination, bytes) };
        Ok(())
    }

    fn report_uninitialised(&mut self, address: usize, bytes: usize) {
        if let Some(offset) = self.memory.first_uninitialised(address, bytes) {
            self.reports.push(format!(
                "a copy of {bytes} bytes to the host reads uninitialised device memory at offset \
                 {offset}"
            ));
        }
    }

    fn fill(
        &mut self,
        address: usize,
        value: u32,
        width: usize,
        count: usize,
        moment: &Moment,
    ) -> std::result::Result<(), Failure> {
        self.counters.fills += 1;
        self.note_access("destination of a fill", address, count * width, Access::Write, moment)?;
        let pattern = value.to_le_bytes();
        // SAFETY: the range was checked just now, and no reference into device memory exists.
        let bytes = unsafe { std::slice::from_raw_parts_mut(address as *mut u8, count * width) };
        for element in bytes.chunks_exact_mut(width) {
            element.copy_from_slice(&pattern[..width]);
        }
        Ok(())
    }
}
