// SPDX-License-Identifier: MIT OR Apache-2.0
//! Preparing batches ahead, on a thread.

use std::panic;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{sync_channel, Receiver};
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

use super::prepare::Cursor;
use super::Batch;
use crate::{Error, Result};

/// The receiving end of a thread that runs a [`Cursor`].
pub(super) struct Prefetcher {
    /// `None` only while the prefetcher is dropped.
    batches: Option<Receiver<Result<Batch>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Prefetcher {
    /// Starts preparing; `ahead`, at least 1, batches at most wait to be taken.
    pub(super) fn start(mut cursor: Cursor, ahead: usize) -> Result<Self> {
        // One more batch waits in the thread's hand until there is room for it.
        let (sender, batches) = sync_channel(ahead - 1);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let work = move || loop {
            let batch = cursor.advance(&stopped);
            let failed = batch.is_err();
            if sender.send(batch).is_err() || failed {
                return;
            }
        };
        let thread = Builder::new().name("kiln-loader".into()).spawn(work).map_err(|error| {
            let message = format!("cannot start the loader's thread: {error}");
            Error::Device { device: "cpu".into(), message }
        })?;
        Ok(Self { batches: Some(batches), stop, thread: Some(thread) })
    }

    /// The next batch, waiting for it. After an error there is no next one.
    pub(super) fn next(&mut self) -> Result<Batch> {
        let received = self.batches.as_ref().and_then(|batches| batches.recv().ok());
        received.unwrap_or_else(|| Err(self.ended()))
    }

    /// The thread ended without a word: a panic in the data set, which belongs to the caller.
    fn ended(&mut self) -> Error {
        if let Some(Err(panicked)) = self.thread.take().map(JoinHandle::join) {
            panic::resume_unwind(panicked);
        }
        Error::Internal { pass: "loader", message: "the thread ended before its last batch".into() }
    }
}

impl Drop for Prefetcher {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Wakes the thread if it waits for room.
        self.batches = None;
        // On a rayon worker do not wait: the thread may itself be waiting for a worker.
        if let Some(thread) = self.thread.take().filter(|_| rayon::current_thread_index().is_none())
        {
            // A panic that nobody asked the batch of is dropped with it.
            let _ = thread.join();
        }
    }
}
