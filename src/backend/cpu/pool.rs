// SPDX-License-Identifier: MIT OR Apache-2.0
//! One persistent pool of threads with a static split: every run calls one closure once per thread.
//!
//! Starting a parallel region per operator must cost about a microsecond, or small steps gain
//! nothing from a second core. So workers spin for a moment after each run, then yield, and only
//! then sleep.

use super::exchange::{LastCache, Readers, Stores};
use crossbeam_utils::CachePadded;
use std::any::Any;
use std::cell::{Cell, UnsafeCell};
use std::num::NonZeroUsize;
use std::ops::Range;
use std::panic::{catch_unwind, resume_unwind, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Spins before yielding: about 50 microseconds, longer than the gaps between steps of a plan.
const SPINS: u32 = 2000;
/// How long an idle worker yields before it sleeps.
const AWAKE: Duration = Duration::from_micros(500);

/// What one thread does in a run; the argument is the thread's index.
type Job<'a> = dyn Fn(usize) + Sync + 'a;

/// A pool of threads, of which the caller of [`Pool::run`] is the first.
pub(crate) struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    /// Held during a run, so that runs from several threads follow one another.
    turn: Mutex<()>,
    last_cache: LastCache,
}

impl Pool {
    /// Starts `threads - 1` workers. Where the system refuses a thread, the pool has fewer.
    pub(crate) fn new(threads: NonZeroUsize) -> Self {
        Self::with_last_cache(threads, LastCache::detect())
    }

    /// As [`Pool::new`], as if on a machine with such a last cache.
    pub(crate) fn with_last_cache(threads: NonZeroUsize, last_cache: LastCache) -> Self {
        let shared = Arc::new(Shared::new(threads.get() - 1));
        let workers = (1..threads.get())
            .map_while(|index| {
                let shared = Arc::clone(&shared);
                let worker = thread::Builder::new().name(format!("kiln-{index}"));
                worker.spawn(move || shared.work(index)).ok()
            })
            .collect();
        Pool { shared, workers, turn: Mutex::new(()), last_cache }
    }

    /// How many times a run calls its job.
    pub(crate) fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// How the threads store a result for these readers.
    pub(crate) fn stores(&self, readers: Readers) -> Stores {
        self.last_cache.stores(readers, self.threads())
    }

    /// Calls `job(index)` for every index below [`Pool::threads`] and returns when all are done.
    ///
    /// A run started from inside a job calls its indices one after the other.
    ///
    /// # Panics
    /// If a call panics: with that panic, once all calls have ended.
    pub(crate) fn run(&self, job: &Job<'_>) {
        if self.workers.is_empty() || INSIDE_RUN.get() {
            return (0..self.threads()).for_each(job);
        }
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: only the lifetime changes. The pointer is used by workers between `publish` and
        // their last decrement of `running`, and `wait` returns after that, before `job` can end.
        let job_for_workers: *const Job<'static> =
            unsafe { std::mem::transmute::<*const Job<'_>, *const Job<'static>>(job) };
        self.shared.publish(job_for_workers, &self.workers);
        let own = call(job, 0);
        self.shared.wait();
        let theirs = self.shared.panic.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(panic) = own.err().or(theirs) {
            resume_unwind(panic);
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.quit.store(true, Ordering::Relaxed);
        self.shared.generation.fetch_add(1, Ordering::SeqCst);
        for worker in self.workers.drain(..) {
            worker.thread().unpark();
            // A worker catches its job's panics, so there is no error to pass on.
            let _ = worker.join();
        }
    }
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Pool").field("threads", &self.threads()).finish()
    }
}

/// Part `index` of `0..count` cut into `parts` ranges whose lengths differ by at most one.
pub(crate) fn split(count: usize, parts: usize, index: usize) -> Range<usize> {
    count * index / parts..count * (index + 1) / parts
}

/// Like [`split`], but all cuts are at multiples of `granule`.
pub(crate) fn split_by(granule: usize, count: usize, parts: usize, index: usize) -> Range<usize> {
    let granules = split(count.div_ceil(granule), parts, index);
    (granules.start * granule).min(count)..(granules.end * granule).min(count)
}

thread_local! {
    static INSIDE_RUN: Cell<bool> = const { Cell::new(false) };
}

/// Calls the job as part of a run and catches its panic.
fn call(job: &Job<'_>, index: usize) -> Result<(), Box<dyn Any + Send>> {
    INSIDE_RUN.set(true);
    let result = catch_unwind(AssertUnwindSafe(|| job(index)));
    INSIDE_RUN.set(false);
    result
}

struct Shared {
    /// Number of runs published so far; a change wakes the workers, which watch it.
    generation: CachePadded<AtomicUsize>,
    /// Workers that have not finished the current run. The caller watches it: not on a line that
    /// workers, which write it, also watch.
    running: CachePadded<AtomicUsize>,
    quit: AtomicBool,
    job: UnsafeCell<Option<*const Job<'static>>>,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    /// Whether worker `index + 1` sleeps or is about to.
    asleep: Vec<AtomicBool>,
}

// SAFETY: `job` is the only field that is not `Sync`. The caller writes it while no worker runs
// (`running` is 0) and before the release of `generation`; workers read it after acquiring that.
// What it points to is `Sync`.
unsafe impl Sync for Shared {}
// SAFETY: as above; the pointer in `job` is not tied to a thread.
unsafe impl Send for Shared {}

impl Shared {
    fn new(workers: usize) -> Self {
        Shared {
            generation: CachePadded::new(AtomicUsize::new(0)),
            running: CachePadded::new(AtomicUsize::new(0)),
            quit: AtomicBool::new(false),
            job: UnsafeCell::new(None),
            panic: Mutex::new(None),
            asleep: (0..workers).map(|_| AtomicBool::new(false)).collect(),
        }
    }

    /// Hands a job to all workers. The caller holds the pool's turn, and no run is in progress.
    fn publish(&self, job: *const Job<'static>, workers: &[JoinHandle<()>]) {
        // SAFETY: no worker reads `job` now: each read precedes that worker's decrement of
        // `running` in the last run, which `wait` has seen.
        unsafe { *self.job.get() = Some(job) };
        self.running.store(workers.len(), Ordering::Relaxed);
        // Sequentially consistent with the worker's `asleep` store and second look at
        // `generation`: either the worker sees the new run, or this thread sees it asleep.
        self.generation.fetch_add(1, Ordering::SeqCst);
        for (worker, asleep) in workers.iter().zip(&self.asleep) {
            if asleep.load(Ordering::SeqCst) {
                worker.thread().unpark();
            }
        }
    }

    /// Waits until all workers have finished the run.
    fn wait(&self) {
        let mut spins = 0;
        while self.running.load(Ordering::Acquire) != 0 {
            if spins < SPINS {
                spins += 1;
                std::hint::spin_loop();
            } else {
                thread::yield_now();
            }
        }
    }

    /// The life of one worker.
    fn work(&self, index: usize) {
        let mut seen = 0;
        loop {
            seen = self.next_generation(seen, &self.asleep[index - 1]);
            if self.quit.load(Ordering::Relaxed) {
                return;
            }
            // SAFETY: `publish` wrote the job before the generation just acquired, and the caller
            // keeps the closure alive and the cell unwritten until `running` is decremented below.
            let result = unsafe { (*self.job.get()).map(|job| call(&*job, index)) };
            if let Some(Err(panic)) = result {
                *self.panic.lock().unwrap_or_else(PoisonError::into_inner) = Some(panic);
            }
            self.running.fetch_sub(1, Ordering::Release);
        }
    }

    /// Waits for a generation other than `seen`: spins, then yields, then sleeps.
    fn next_generation(&self, seen: usize, asleep: &AtomicBool) -> usize {
        for _ in 0..SPINS {
            let generation = self.generation.load(Ordering::Acquire);
            if generation != seen {
                return generation;
            }
            std::hint::spin_loop();
        }
        let idle_since = Instant::now();
        while idle_since.elapsed() < AWAKE {
            let generation = self.generation.load(Ordering::Acquire);
            if generation != seen {
                return generation;
            }
            thread::yield_now();
        }
        asleep.store(true, Ordering::SeqCst);
        loop {
            let generation = self.generation.load(Ordering::SeqCst);
            if generation != seen {
                asleep.store(false, Ordering::Relaxed);
                return generation;
            }
            thread::park();
        }
    }
}

#[cfg(test)]
#[path = "pool_tests.rs"]
mod tests;
