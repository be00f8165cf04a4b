// SPDX-License-Identifier: MIT OR Apache-2.0

use super::*;

fn pool(threads: usize) -> Pool {
    Pool::new(NonZeroUsize::new(threads).unwrap())
}

#[test]
fn every_index_runs_once_per_run() {
    for threads in [1, 2, 3, 5] {
        let pool = pool(threads);
        let counts: Vec<_> = (0..threads).map(|_| AtomicUsize::new(0)).collect();
        for _ in 0..200 {
            pool.run(&|index| {
                counts[index].fetch_add(1, Ordering::Relaxed);
            });
        }
        assert_eq!(pool.threads(), threads);
        assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == 200));
    }
}

#[test]
fn a_sleeping_pool_wakes() {
    let pool = pool(3);
    let calls = AtomicUsize::new(0);
    for _ in 0..5 {
        thread::sleep(Duration::from_millis(3));
        pool.run(&|_| {
            calls.fetch_add(1, Ordering::Relaxed);
        });
    }
    assert_eq!(calls.load(Ordering::Relaxed), 15);
}

#[test]
fn a_panic_arrives_after_all_calls_and_leaves_the_pool_usable() {
    let pool = pool(3);
    for panicking in 0..3 {
        let finished = AtomicUsize::new(0);
        let result = catch_unwind(AssertUnwindSafe(|| {
            pool.run(&|index| {
                if index == panicking {
                    resume_unwind(Box::new("stop"));
                }
                thread::sleep(Duration::from_millis(2));
                finished.fetch_add(1, Ordering::Relaxed);
            });
        }));
        assert_eq!(*result.unwrap_err().downcast::<&str>().unwrap(), "stop");
        assert_eq!(finished.load(Ordering::Relaxed), 2);
    }
    pool.run(&|_| {});
}

#[test]
fn runs_nest_and_runs_from_several_threads_take_turns() {
    let pool = pool(2);
    let calls = AtomicUsize::new(0);
    let nested = |_| {
        pool.run(&|_| {
            calls.fetch_add(1, Ordering::Relaxed);
        });
    };
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| (0..50).for_each(|_| pool.run(&nested)));
        }
    });
    assert_eq!(calls.load(Ordering::Relaxed), 3 * 50 * 2 * 2);
}

#[test]
fn splits_cover_everything_in_order() {
    for (count, parts) in [(0, 3), (1, 3), (10, 3), (64, 2), (7, 7)] {
        let mut end = 0;
        for index in 0..parts {
            let range = split(count, parts, index);
            assert_eq!(range.start, end);
            assert!(range.len() <= count.div_ceil(parts));
            end = range.end;
        }
        assert_eq!(end, count);
    }
    assert_eq!(split_by(8, 30, 2, 0), 0..16);
    assert_eq!(split_by(8, 30, 2, 1), 16..30);
    assert_eq!(split_by(8, 5, 2, 0), 0..0);
    assert_eq!(split_by(8, 5, 2, 1), 0..5);
}
