// SPDX-License-Identifier: MIT OR Apache-2.0

use std::sync::{mpsc, Arc};
use std::thread;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::data::{Batch, LastBatch, Loader, LoaderConfig, Position, Shuffle};
use crate::Tensor;

fn loader(len: usize, config: &LoaderConfig) -> Loader {
    Loader::new(Arc::new(numbered(len, 3)), config.clone()).unwrap()
}

fn config(batch_size: usize, shuffle: Shuffle) -> LoaderConfig {
    LoaderConfig { batch_size, shuffle, prefetch: 0, ..LoaderConfig::default() }
}

fn next(loader: &mut Loader, count: usize) -> Vec<Batch> {
    (0..count).map(|_| loader.next_batch().unwrap()).collect()
}

fn epoch_indices(loader: &mut Loader) -> Vec<usize> {
    loader.epoch().flat_map(|batch| batch.unwrap().indices).collect()
}

#[test]
fn a_batch_holds_its_samples() {
    let mut loader = loader(5, &config(2, Shuffle::Sequential));
    let batches: Vec<Batch> = loader.epoch().collect::<Result<_>>().unwrap();
    assert_eq!(batches.len(), 3);
    assert_eq!(
        batches[1],
        Batch {
            inputs: vec![Tensor::new([2, 2], vec![2.0, -2.0, 3.0, -3.0]).unwrap()],
            targets: vec![Tensor::labels([2], vec![2, 0]).unwrap()],
            indices: vec![2, 3],
            position: Position { epoch: 0, batch: 1 },
        }
    );
    assert_eq!(batches[2].inputs[0].shape().dims(), [1, 2]);
    assert_eq!(batches[2].indices, [4]);
}

#[test]
fn the_last_batch_is_kept_or_dropped() {
    for (last_batch, sizes) in [(LastBatch::Keep, &[4, 4, 2][..]), (LastBatch::Drop, &[4, 4])] {
        let config = LoaderConfig { last_batch, ..config(4, Shuffle::Seeded(1)) };
        let mut loader = loader(10, &config);
        assert_eq!((loader.len(), loader.batches_per_epoch()), (sizes.len(), sizes.len()));
        for _ in 0..2 {
            let seen: Vec<usize> =
                loader.epoch().map(|batch| batch.unwrap().labels().unwrap().len()).collect();
            assert_eq!(seen, sizes);
        }
    }
    let exact = LoaderConfig { last_batch: LastBatch::Drop, ..config(5, Shuffle::Sequential) };
    assert_eq!(loader(10, &exact).len(), 2);
}

#[test]
fn every_epoch_has_its_own_order() {
    let mut first = loader(50, &config(8, Shuffle::Seeded(7)));
    let orders: Vec<_> = (0..3).map(|_| epoch_indices(&mut first)).collect();
    for order in &orders {
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..50).collect::<Vec<_>>());
    }
    assert!(orders[0] != orders[1] && orders[1] != orders[2] && orders[0] != orders[2]);

    // Neither the batch size nor what was read before has a say in it.
    let mut other = loader(50, &config(3, Shuffle::Seeded(7)));
    other.seek(Position { epoch: 2, batch: 0 }).unwrap();
    assert_eq!(epoch_indices(&mut other), orders[2]);
    assert_ne!(epoch_indices(&mut loader(50, &config(8, Shuffle::Seeded(8)))), orders[0]);
}

#[test]
fn an_epoch_left_early_goes_on_where_it_was_left() {
    for prefetch in [0, 3] {
        let mut loader = loader(10, &LoaderConfig { prefetch, ..config(2, Shuffle::Sequential) });
        assert_eq!(loader.epoch().take(2).count(), 2);
        assert_eq!(loader.position(), Position { epoch: 0, batch: 2 });
        assert_eq!(loader.epoch().len(), 3);
        assert_eq!(epoch_indices(&mut loader), [4, 5, 6, 7, 8, 9]);
        assert_eq!(loader.position(), Position { epoch: 1, batch: 0 });
        assert_eq!((&mut loader).into_iter().count(), 5);
        assert_eq!(loader.position(), Position { epoch: 2, batch: 0 });
    }
}

#[test]
fn a_position_survives_its_file_format() {
    let position = Position { epoch: 3, batch: 17 };
    let text = serde_json::to_string(&position).unwrap();
    assert_eq!(text, r#"{"epoch":3,"batch":17}"#);
    assert_eq!(serde_json::from_str::<Position>(&text).unwrap(), position);
}

#[test]
fn large_batches_are_read_on_several_cores() {
    let set = wide(100);
    let mut loader = Loader::new(Arc::new(set.clone()), config(100, Shuffle::Sequential)).unwrap();
    let batch = loader.next_batch().unwrap();
    assert_eq!(batch.inputs[0].values().unwrap(), set.inputs());
}

#[test]
fn a_loader_may_move_to_a_rayon_worker_and_back() {
    let config = LoaderConfig { prefetch: 2, ..config(4, Shuffle::Seeded(1)) };
    let expected = next(&mut loader(30, &config), 12);
    let mut moved = loader(30, &config);
    let mut batches = next(&mut moved, 5);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    pool.install(|| batches.extend(next(&mut moved, 4)));
    batches.extend(next(&mut moved, 3));
    assert_eq!(batches, expected);
}

/// Loaders on every worker would starve the threads that prepare their batches.
#[test]
fn loaders_on_all_rayon_workers_do_not_wait_for_each_other() {
    let (done, finished) = mpsc::channel();
    thread::spawn(move || {
        let set = Arc::new(wide(8));
        let config = LoaderConfig { prefetch: 2, ..config(8, Shuffle::Sequential) };
        let sizes = rayon::broadcast(|_| {
            let mut loader = Loader::new(set.clone(), config.clone()).unwrap();
            next(&mut loader, 3).len()
        });
        done.send(sizes).unwrap();
    });
    let sizes = finished.recv_timeout(Duration::from_secs(60)).expect("a deadlock");
    assert!(sizes.iter().all(|&size| size == 3));
}

/// Samples so large that each is worth a task of its own.
fn wide(len: usize) -> MemoryDataset {
    let inputs = (0..len * 20_000).map(|element| element as f32).collect();
    MemoryDataset::new(inputs, &[20_000], vec![0; len], 1).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn prefetching_changes_nothing(
        len in 1_usize..40, batch_size in 1_usize..12, prefetch in 1_usize..6, seed: u64,
        drop: bool,
    ) {
        let last_batch = if drop && batch_size <= len { LastBatch::Drop } else { LastBatch::Keep };
        let inline = LoaderConfig { last_batch, ..config(batch_size, Shuffle::Seeded(seed)) };
        let ahead = LoaderConfig { prefetch, ..inline.clone() };
        let (mut inline, mut ahead) = (loader(len, &inline), loader(len, &ahead));
        for _ in 0..inline.len() * 2 + 1 {
            prop_assert_eq!(inline.next_batch().unwrap(), ahead.next_batch().unwrap());
            prop_assert_eq!(inline.position(), ahead.position());
        }
    }

    #[test]
    fn a_resumed_loader_continues_exactly(
        len in 1_usize..40, batch_size in 1_usize..12, done in 0_usize..60,
        prefetch in 0_usize..4, seed: u64,
    ) {
        let config = LoaderConfig { prefetch, ..config(batch_size, Shuffle::Seeded(seed)) };
        let mut whole = loader(len, &config);
        next(&mut whole, done);
        let mut resumed = loader(len, &config);
        next(&mut resumed, 1); // the seek must also undo what was prepared ahead
        resumed.seek(whole.position()).unwrap();
        prop_assert_eq!(next(&mut resumed, 10), next(&mut whole, 10));
    }
}
