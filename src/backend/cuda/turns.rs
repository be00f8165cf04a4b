// SPDX-License-Identifier: MIT OR Apache-2.0
//! Who may call the driver while a thread captures.
//!
//! A driver lets calls of other threads break a capture: those that wait for the whole device, and
//! whatever else of that kind it does within a call that allocates, frees or loads. So such calls
//! and captures take turns. Launches, replays and waits for a network's own streams take none.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};

/// The turns of one device, the same for all networks of the process.
#[derive(Debug, Default)]
pub(super) struct Turns {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Threads within calls, and how deep: what a call drops makes calls of its own.
    callers: Vec<(ThreadId, usize)>,
    capturer: Option<ThreadId>,
    /// Captures that wait for calls to end. Others' calls wait behind them, so that their turn comes.
    waiting: usize,
}

/// A turn of calls that reach the whole device. Any number of threads have one at a time.
#[derive(Debug)]
#[must_use = "the turn ends when this is dropped"]
pub(super) struct CallTurn<'a> {
    turns: &'a Turns,
    /// It ends in the thread that took it.
    _thread: PhantomData<*const ()>,
}

/// The turn of a capture: no other thread has a turn of any kind.
#[derive(Debug)]
#[must_use = "the turn ends when this is dropped"]
pub(super) struct CaptureTurn<'a> {
    turns: &'a Turns,
    _thread: PhantomData<*const ()>,
}

impl Turns {
    /// The turns of a device, by its number.
    pub(super) fn of(ordinal: usize) -> Arc<Self> {
        static DEVICES: Mutex<BTreeMap<usize, Arc<Turns>>> = Mutex::new(BTreeMap::new());
        let mut devices = DEVICES.lock().unwrap_or_else(PoisonError::into_inner);
        devices.entry(ordinal).or_default().clone()
    }

    /// Waits until no other thread captures. A thread that has a turn already goes on at once.
    pub(super) fn call(&self) -> CallTurn<'_> {
        let thread = thread::current().id();
        let mut state = self.wait_while(self.lock(), |state| !state.lets_call(thread));
        match state.callers.iter_mut().find(|(caller, _)| *caller == thread) {
            Some((_, depth)) => *depth += 1,
            None => state.callers.push((thread, 1)),
        }
        CallTurn { turns: self, _thread: PhantomData }
    }

    /// Waits until no other thread captures or calls. Not to be asked for within a turn: two
    /// threads that did so would wait for each other.
    pub(super) fn capture(&self) -> CaptureTurn<'_> {
        let thread = thread::current().id();
        let mut state = self.lock();
        debug_assert!(!state.has_turn(thread), "a capture within a turn");
        state.waiting += 1;
        let mut state = self.wait_while(state, |state| !state.is_free());
        state.waiting -= 1;
        state.capturer = Some(thread);
        CaptureTurn { turns: self, _thread: PhantomData }
    }

    /// The state is whole whenever the lock is free, so a thread that panicked with it left nothing
    /// half done.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_while<'a>(
        &'a self,
        state: MutexGuard<'a, State>,
        stays: impl Fn(&State) -> bool,
    ) -> MutexGuard<'a, State> {
        let waited = self.changed.wait_while(state, |state| stays(state));
        waited.unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_free(&self) -> bool {
        self.callers.is_empty() && self.capturer.is_none()
    }

    fn has_turn(&self, thread: ThreadId) -> bool {
        self.capturer == Some(thread) || self.callers.iter().any(|(caller, _)| *caller == thread)
    }

    fn lets_call(&self, thread: ThreadId) -> bool {
        self.has_turn(thread) || (self.capturer.is_none() && self.waiting == 0)
    }
}

impl Drop for CallTurn<'_> {
    fn drop(&mut self) {
        let thread = thread::current().id();
        let mut state = self.turns.lock();
        if let Some(index) = state.callers.iter().position(|(caller, _)| *caller == thread) {
            state.callers[index].1 -= 1;
            if state.callers[index].1 == 0 {
                state.callers.swap_remove(index);
                self.turns.changed.notify_all();
            }
        }
    }
}

impl Drop for CaptureTurn<'_> {
    fn drop(&mut self) {
        self.turns.lock().capturer = None;
        self.turns.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{catch_unwind, AssertUnwindSafe};
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    use std::sync::mpsc::{channel, Receiver, RecvTimeoutError};
    use std::time::Duration;

    use super::*;

    const SOON: Duration = Duration::from_secs(60);
    const A_WHILE: Duration = Duration::from_millis(30);

    /// Does something in another thread; tells when it is done.
    fn beside(work: impl FnOnce() + Send + 'static) -> Receiver<()> {
        let (done, receiver) = channel();
        thread::spawn(move || {
            work();
            done.send(()).ok();
        });
        receiver
    }

    #[test]
    fn each_device_has_turns_of_its_own() {
        assert!(Arc::ptr_eq(&Turns::of(1000), &Turns::of(1000)));
        assert!(!Arc::ptr_eq(&Turns::of(1000), &Turns::of(1001)));
        let (one, other) = (Turns::of(1000), Turns::of(1001));
        let (_capture, _other) = (one.capture(), other.capture());
    }

    #[test]
    fn calls_go_side_by_side_and_wait_for_captures() {
        let turns = Arc::new(Turns::default());
        let (of_call, of_capture) = (turns.clone(), turns.clone());
        let call = turns.call();
        beside(move || drop(of_call.call())).recv_timeout(SOON).expect("a call beside a call");
        let captured = beside(move || drop(of_capture.capture()));
        assert_eq!(captured.recv_timeout(A_WHILE), Err(RecvTimeoutError::Timeout));
        drop(call);
        captured.recv_timeout(SOON).expect("a capture after the call");
        let (of_call, capture) = (turns.clone(), turns.capture());
        drop(turns.call()); // of the capturing thread
        let called = beside(move || drop(of_call.call()));
        assert_eq!(called.recv_timeout(A_WHILE), Err(RecvTimeoutError::Timeout));
        drop(capture);
        called.recv_timeout(SOON).expect("a call after the capture");
    }

    /// What is dropped within a call calls again, also when a capture waits for that call to end.
    #[test]
    fn a_call_within_a_call_does_not_wait_for_a_capture_that_waits() {
        let turns = Arc::new(Turns::default());
        let outer = turns.call();
        let of_capture = turns.clone();
        let captured = beside(move || drop(of_capture.capture()));
        while turns.lock().waiting == 0 {
            thread::yield_now();
        }
        let of_others = turns.clone();
        let called = beside(move || drop(of_others.call()));
        drop(turns.call());
        assert_eq!(called.recv_timeout(A_WHILE), Err(RecvTimeoutError::Timeout), "it overtook");
        drop(outer);
        captured.recv_timeout(SOON).expect("a capture");
        called.recv_timeout(SOON).expect("a call");
    }

    #[test]
    fn a_turn_ends_with_a_thread_that_panics() {
        let turns = Turns::default();
        for with_lock in [false, true] {
            let panicked = catch_unwind(AssertUnwindSafe(|| {
                let _call = turns.call();
                panic!("within a call");
            }));
            assert!(panicked.is_err());
            let panicked = catch_unwind(AssertUnwindSafe(|| {
                let _capture = turns.capture();
                panic!("within a capture");
            }));
            assert!(panicked.is_err() && turns.lock().is_free());
            if with_lock {
                let poisoned = catch_unwind(AssertUnwindSafe(|| {
                    let _state = turns.lock();
                    panic!("with the lock");
                }));
                assert!(poisoned.is_err() && turns.state.is_poisoned());
            }
            drop(turns.call());
            drop(turns.capture());
        }
    }

    #[test]
    fn captures_and_calls_of_many_threads_never_meet() {
        let (turns, calls, captures) = (Turns::default(), AtomicUsize::new(0), AtomicUsize::new(0));
        thread::scope(|scope| {
            for number in 0..8 {
                let (turns, calls, captures) = (&turns, &calls, &captures);
                scope.spawn(move || {
                    for round in 0..200 {
                        if (round + number) % 5 == 0 {
                            let _turn = turns.capture();
                            assert_eq!(captures.fetch_add(1, SeqCst), 0);
                            assert_eq!(calls.load(SeqCst), 0);
                            thread::yield_now();
                            captures.fetch_sub(1, SeqCst);
                        } else {
                            let _turn = turns.call();
                            calls.fetch_add(1, SeqCst);
                            let _nested = turns.call();
                            thread::yield_now();
                            assert_eq!(captures.load(SeqCst), 0);
                            calls.fetch_sub(1, SeqCst);
                        }
                    }
                });
            }
        });
        assert!(turns.lock().is_free());
    }
}
