// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which stream's work runs next.

use crate::driver::Driver;
use crate::execute::{Item, Work};
use crate::settings::StreamOrder;
use crate::status::{Result, Status};
use crate::stream::StreamHandle;

impl Driver {
    /// Adds work to a stream, or to the graph that the stream is being captured into.
    pub(crate) fn enqueue(&mut self, stream: StreamHandle, work: Work) -> Result<()> {
        let stream = self.used_stream(stream)?;
        if self.stream(stream)?.capture.is_some() {
            return self.capture_work(stream, work);
        }
        let item = Item { moment: self.next_moment(stream)?, work };
        if let Some(name) = item.work.name() {
            self.operations
                .remember(item.moment.epoch, format!("{name} on stream {:#x}", stream.0).into());
        }
        self.stream(stream)?.queue.push_back(item);
        if self.settings.streams == StreamOrder::Eager {
            while let Some(ready) = self.pick_ready() {
                self.step(ready)?;
            }
        }
        Ok(())
    }

    /// Runs work until `done`, in the chosen order; lazily, only what the target stream needs.
    pub(crate) fn run_until(
        &mut self,
        target: StreamHandle,
        done: impl Fn(&Driver) -> bool,
    ) -> Result<()> {
        while !done(self) {
            match self.settings.streams {
                StreamOrder::Random => {
                    let Some(stream) = self.pick_ready() else { return self.stuck() };
                    self.step(stream)?;
                }
                StreamOrder::Eager | StreamOrder::Lazy => self.step_towards(target)?,
            }
        }
        Ok(())
    }

    /// Runs the next piece of work that the target stream needs, which may lie on a stream it waits
    /// for.
    pub(crate) fn step_towards(&mut self, target: StreamHandle) -> Result<()> {
        let mut stream = target;
        for _ in 0..=self.streams.len() {
            if self.is_ready(stream) {
                return self.step(stream);
            }
            match self.streams.get(&stream).and_then(|s| s.queue.front()).map(|item| &item.work) {
                Some(Work::Wait(record)) => stream = record.stream,
                _ => break,
            }
        }
        self.stuck()
    }

    fn stuck(&mut self) -> Result<()> {
        self.lose_context(
            Status::LAUNCH_FAILED,
            "deadlock: every stream waits for an event that no stream will reach".into(),
        );
        Err(Status::LAUNCH_FAILED)
    }

    fn is_ready(&self, stream: StreamHandle) -> bool {
        match self.streams.get(&stream).and_then(|s| s.queue.front()) {
            Some(Item { work: Work::Wait(record), .. }) => record.is_done(),
            front => front.is_some(),
        }
    }

    fn pick_ready(&mut self) -> Option<StreamHandle> {
        let ready: Vec<_> =
            self.streams.keys().copied().filter(|stream| self.is_ready(*stream)).collect();
        if ready.is_empty() {
            return None;
        }
        let picked = self.pick(ready.len());
        Some(ready[picked])
    }

    /// Runs the first piece of work of a stream; of a graph, one node.
    fn step(&mut self, stream: StreamHandle) -> Result<()> {
        let Some(mut item) = self.stream(stream)?.queue.pop_front() else { return Ok(()) };
        let outcome = match &mut item.work {
            Work::Graph(run) => {
                let outcome = self.step_graph(run);
                if !run.is_finished() {
                    self.stream(stream)?.queue.push_front(item);
                }
                outcome
            }
            work => self.execute(work, &item.moment),
        };
        match outcome {
            Ok(()) => Ok(()),
            Err(failure) => {
                self.lose_context(failure.status, failure.text);
                Err(failure.status)
            }
        }
    }
}
