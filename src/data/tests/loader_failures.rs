// SPDX-License-Identifier: MIT OR Apache-2.0

use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::*;
use crate::data::{Fields, LastBatch, Loader, LoaderConfig, Pass, Position, Sample, Shuffle};

/// What happens when a sample is read.
#[derive(Default)]
struct Faulty {
    /// Indices from here on fail, while `failing`.
    fails_from: usize,
    failing: AtomicBool,
    panics: bool,
    delay: Duration,
    label: i32,
    reads: AtomicUsize,
}

impl Dataset for Faulty {
    fn len(&self) -> usize {
        1000
    }

    fn fields(&self) -> Fields {
        Fields::labelled([1], 2)
    }

    fn read(&self, index: usize, _: Pass, sample: &mut Sample<'_>) -> Result<()> {
        self.reads.fetch_add(1, SeqCst);
        thread::sleep(self.delay);
        if self.failing.load(SeqCst) && index >= self.fails_from {
            assert!(!self.panics, "sample {index} panics");
            return Err(Error::argument("sample", "an intact one", index));
        }
        sample.input(0).write_f32(&[index as f32])?;
        sample.set_label(self.label)
    }
}

fn config(prefetch: usize) -> LoaderConfig {
    LoaderConfig { batch_size: 10, prefetch, ..LoaderConfig::default() }
}

/// A number of samples of eight elements, which need not fit anywhere.
struct Counted(usize);

impl Dataset for Counted {
    fn len(&self) -> usize {
        self.0
    }

    fn fields(&self) -> Fields {
        Fields::labelled([8], 1)
    }

    fn read(&self, index: usize, _: Pass, _: &mut Sample<'_>) -> Result<()> {
        self.check_index(index)
    }
}

/// Memory that the system refuses is an error with the size, in whatever it is wanted for.
#[test]
fn what_does_not_fit_is_an_error() {
    let vast = || Arc::new(Counted(1 << 48));
    let refusal = |config| {
        let mut loader = Loader::new(vast(), config).unwrap();
        loader.next_batch().unwrap_err().to_string()
    };
    let shuffled = LoaderConfig { shuffle: Shuffle::Seeded(1), ..config(0) };
    let order = "cpu: cannot reserve 2251799813685248 bytes for the order of an epoch";
    assert_eq!(refusal(shuffled.clone()), order);
    assert_eq!(refusal(LoaderConfig { prefetch: 2, ..shuffled }), order);
    let whole = LoaderConfig { batch_size: usize::MAX, ..config(0) };
    assert_eq!(refusal(whole), "cpu: cannot reserve 2251799813685248 bytes for a batch");
    let read = MemoryDataset::read_all(&*vast()).unwrap_err().to_string();
    assert_eq!(read, "cpu: cannot reserve 9007199254740992 bytes for the samples of a data set");
    let counted = MemoryDataset::read_all(&Counted(usize::MAX)).unwrap_err().to_string();
    assert!(counted.ends_with(" bytes for the samples of a data set"), "{counted}");
    // In order and by small batches, there is no need for it to fit.
    assert_eq!(Loader::new(vast(), config(0)).unwrap().next_batch().unwrap().samples(), 10);
}

#[test]
fn settings_that_give_no_batches_are_refused() {
    let fails = |len, config| blamed(Loader::new(Arc::new(numbered(len, 2)), config));
    assert_eq!(fails(0, config(0)), "dataset");
    assert_eq!(fails(5, LoaderConfig { batch_size: 0, ..config(0) }), "batch_size");
    let drop = LoaderConfig { last_batch: LastBatch::Drop, ..config(0) };
    assert_eq!(fails(9, drop), "batch_size");
    assert_eq!(fails(5, config(usize::MAX)), "prefetch");
    let endless = |len| Loader::new(Arc::new(Counted(len)), config(0));
    for len in [usize::MAX, 1 << 53] {
        assert_eq!(blamed(endless(len)), "dataset");
    }
    let batch = LoaderConfig { batch_size: usize::MAX, ..config(0) };
    assert_eq!(blamed(Loader::new(Arc::new(Counted(1 << 50)), batch)), "batch_size");

    let huge = LoaderConfig { batch_size: usize::MAX, ..config(0) };
    let mut loader = Loader::new(Arc::new(numbered(5, 2)), huge).unwrap();
    assert_eq!((loader.len(), loader.next_batch().unwrap().samples()), (1, 5));
}

#[test]
fn a_position_outside_the_epoch_is_refused() {
    let mut loader = Loader::new(Arc::new(numbered(25, 2)), config(2)).unwrap();
    loader.next_batch().unwrap();
    assert_eq!(blamed(loader.seek(Position { epoch: 0, batch: 3 })), "position.batch");
    assert_eq!(blamed(loader.seek(Position { epoch: u64::MAX, batch: 0 })), "position.epoch");
    assert_eq!(loader.position(), Position { epoch: 0, batch: 1 });
    assert_eq!(loader.next_batch().unwrap().indices[0], 10);
}

#[test]
fn an_error_comes_with_its_batch_and_can_be_tried_again() {
    for prefetch in [0, 1, 4] {
        let failing = AtomicBool::new(true);
        let set = Arc::new(Faulty { fails_from: 25, failing, ..Faulty::default() });
        let mut loader = Loader::new(set.clone(), config(prefetch)).unwrap();
        let results: Vec<_> = loader.epoch().collect();
        assert_eq!(results.len(), 3, "the epoch ends with the error");
        assert!(results[..2].iter().all(|batch| batch.is_ok()));
        // The first sample that fails, however many threads read.
        let message = results[2].as_ref().unwrap_err().to_string();
        assert_eq!(message, "sample: expected an intact one, got 25");
        assert_eq!(loader.position(), Position { epoch: 0, batch: 2 });

        assert!(loader.next_batch().is_err());
        set.failing.store(false, SeqCst);
        assert_eq!(loader.next_batch().unwrap().indices[0], 20);
    }
}

/// Samples fail from the 18th on, and it later than those behind it.
struct FailsLate;

impl Dataset for FailsLate {
    fn len(&self) -> usize {
        64
    }

    fn fields(&self) -> Fields {
        Fields::labelled([20_000], 1) // worth a task of its own
    }

    fn read(&self, index: usize, _: Pass, _: &mut Sample<'_>) -> Result<()> {
        if index <= 17 {
            thread::sleep(Duration::from_millis(5));
        }
        match index {
            17.. => Err(Error::argument("sample", "an intact one", index)),
            _ => Ok(()),
        }
    }
}

#[test]
fn the_error_is_that_of_the_first_sample_on_any_number_of_threads() {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(4).build().unwrap();
    let whole = LoaderConfig { batch_size: 64, ..config(0) };
    let mut loader = Loader::new(Arc::new(FailsLate), whole).unwrap();
    let error = pool.install(|| loader.next_batch()).unwrap_err();
    assert_eq!(error.to_string(), "sample: expected an intact one, got 17");
}

#[test]
fn a_label_that_is_no_class_is_refused() {
    for label in [-1, 2] {
        let set = Faulty { label, ..Faulty::default() };
        let mut loader = Loader::new(Arc::new(set), config(1)).unwrap();
        assert_eq!(blamed(loader.next_batch()), "label of sample 0");
    }
}

#[test]
fn a_panic_of_the_data_set_reaches_the_caller() {
    for prefetch in [0, 2] {
        let failing = AtomicBool::new(true);
        let set = Faulty { fails_from: 10, failing, panics: true, ..Faulty::default() };
        let mut loader = Loader::new(Arc::new(set), config(prefetch)).unwrap();
        loader.next_batch().unwrap();
        let panic = catch_unwind(AssertUnwindSafe(|| loader.next_batch())).unwrap_err();
        assert_eq!(panic.downcast_ref::<String>().unwrap(), "sample 10 panics");
        assert_eq!(loader.position(), Position { epoch: 0, batch: 1 });
    }
}

#[test]
fn dropping_stops_the_thread_within_a_batch() {
    let set = Arc::new(Faulty { delay: Duration::from_millis(10), ..Faulty::default() });
    let config = LoaderConfig { batch_size: 50, ..config(1) };
    let mut loader = Loader::new(set.clone(), config).unwrap();
    loader.next_batch().unwrap();
    // The thread reads the second batch, which would take it half a second.
    drop(loader);
    assert!(set.reads.load(SeqCst) < 100, "the second batch was read to its end");
    assert_eq!(Arc::strong_count(&set), 1, "the thread is joined and has let go of the data set");
}

#[test]
fn dropping_wakes_a_thread_that_waits_for_room() {
    let set = Arc::new(Faulty::default());
    let mut loader = Loader::new(set.clone(), config(1)).unwrap();
    loader.next_batch().unwrap();
    thread::sleep(Duration::from_millis(20));
    drop(loader);
    assert_eq!(Arc::strong_count(&set), 1);
}

#[test]
fn no_more_is_read_ahead_than_asked_for() {
    let set = Arc::new(Faulty::default());
    let shuffled = LoaderConfig { shuffle: Shuffle::Seeded(1), ..config(3) };
    let mut loader = Loader::new(set.clone(), shuffled).unwrap();
    loader.next_batch().unwrap();
    let start = Instant::now();
    while set.reads.load(SeqCst) < 40 && start.elapsed() < Duration::from_secs(20) {
        thread::yield_now();
    }
    thread::sleep(Duration::from_millis(50));
    assert_eq!(set.reads.load(SeqCst), 40, "one batch taken and three ahead");
}
