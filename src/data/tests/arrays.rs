// SPDX-License-Identifier: MIT OR Apache-2.0

use std::sync::Arc;

use super::*;
use crate::data::{Array, Arrays, Subset};

#[test]
fn whatever_gives_a_slice_is_an_array() {
    static NUMBERS: [f32; 2] = [5.0, 6.0];
    let shared: Arc<[f32]> = Arc::from([3.0, 4.0]);
    let boxed: Box<[i32]> = Box::new([7, 8]);
    let inputs = [
        Array::f32(vec![1.0, 2.0], &[]),
        Array::f32(shared, &[]),
        Array::f32(&NUMBERS[..], &[1]),
        Array::i32(boxed, &[1]),
    ];
    let set = Arrays::new(inputs, [Array::labels([1, 0], 2)]).unwrap();
    let batch = Batch::read(&set, &[1, 0], Pass::default()).unwrap();
    let floats = |input: usize| batch.inputs[input].values().unwrap();
    assert_eq!((floats(0), floats(1), floats(2)), (&[2., 1.][..], &[4., 3.][..], &[6., 5.][..]));
    assert_eq!(batch.inputs[3].integers().unwrap(), [8, 7]);
    assert_eq!(batch.labels().unwrap(), [0, 1]);
    assert_eq!((set.len(), set.classes(), set.sample_shape()), (2, 2, vec![]));
    assert_eq!(blamed(Batch::read(&set, &[2], Pass::default())), "index");
}

#[test]
fn arrays_that_do_not_fit_are_refused() {
    let x = || Array::f32(vec![0.0; 6], &[2]);
    assert_eq!(blamed(Arrays::new([], [])), "fields");
    assert_eq!(blamed(Arrays::new([], [x()])), "fields");
    assert_eq!(blamed(Arrays::new([Array::f32(vec![0.0; 5], &[2])], [])), "input 0");
    assert_eq!(blamed(Arrays::new([x(), Array::i32(vec![0; 2], &[])], [])), "input 1");
    assert_eq!(blamed(Arrays::new([x()], [Array::f32(vec![0.0; 4], &[1])])), "target 0");
    assert_eq!(blamed(Arrays::new([x()], [Array::labels([0, 1, 2], 2)])), "label of sample 2");
    assert_eq!(blamed(Arrays::new([Array::f32(vec![0.0; 4], &[0])], [])), "shape of input 0");
    let both = Arrays::new([x(), Array::i32(vec![0; 2], &[])], [Array::labels([-1, 0, 0], 2)]);
    assert!(matches!(both.unwrap_err(), Error::Many(errors) if errors.len() == 2));
}

#[test]
fn a_split_holds_every_sample_once() {
    let set = Arc::new(numbered(10, 10));
    let (front, rest) = Subset::split(set.clone(), 4, 3).unwrap();
    assert_eq!((front.len(), rest.len()), (4, 6));
    let mut seen: Vec<i32> = [&front, &rest]
        .iter()
        .flat_map(|part| (0..part.len()).map(|index| label(*part, index).unwrap()))
        .collect();
    assert_ne!(seen, (0..10).collect::<Vec<_>>());
    seen.sort_unstable();
    assert_eq!(seen, (0..10).collect::<Vec<_>>());
    assert_eq!(Subset::split(set.clone(), 4, 3).unwrap().0.indices(), front.indices());
    // As the data sets in memory shuffle.
    assert_eq!(set.shuffled(3).take(4).unwrap(), MemoryDataset::read_all(&front).unwrap());

    assert_eq!(blamed(Subset::split(set.clone(), 11, 3)), "count");
    assert_eq!(blamed(Subset::new(set.clone(), vec![9, 10])), "indices");
    assert_eq!(blamed(read(&Subset::new(set, vec![9]).unwrap(), 1)), "index");
}
