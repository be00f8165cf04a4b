// SPDX-License-Identifier: MIT OR Apache-2.0

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::data::{Elements, Field, Fields, Loader, LoaderConfig, Sample, Shuffle};

/// Sequences `1..=length` of two columns, their lengths, a class for each step and noise that depends
/// on the pass.
struct Sequences {
    lengths: Vec<usize>,
    fields: Fields,
}

impl Sequences {
    fn of(lengths: &[usize]) -> Self {
        let fields = Fields::of(Field::f32([6, 2]).varying())
            .input(Field::length_of(0))
            .input(Field::i32([9]).in_steps_of(4).padded_with(-1))
            .target(Field::f32([]));
        Sequences { lengths: lengths.to_vec(), fields }
    }
}

impl Dataset for Sequences {
    fn len(&self) -> usize {
        self.lengths.len()
    }

    fn fields(&self) -> Fields {
        self.fields.clone()
    }

    fn read(&self, index: usize, pass: Pass, sample: &mut Sample<'_>) -> Result<()> {
        self.check_index(index)?;
        let length = self.lengths[index];
        let steps = 1..=length as i32;
        sample.input(0).f32_rows(length)?.fill(length as f32);
        sample.input(2).write_i32(&steps.collect::<Vec<_>>())?;
        sample.target(0).write_f32(&[pass.draws(index, 0).unit()])
    }
}

fn first(set: &dyn Dataset, indices: &[usize]) -> Batch {
    Batch::read(set, indices, Pass::default()).unwrap()
}

#[test]
fn samples_of_several_lengths_are_padded_to_the_longest() {
    let set = Sequences::of(&[2, 0, 3, 5]);
    let batch = first(&set, &[0, 1, 2]);
    let dims: Vec<&[usize]> = batch.inputs.iter().map(|input| input.shape().dims()).collect();
    assert_eq!(dims, [&[3, 3, 2][..], &[3], &[3, 4]]);
    assert_eq!(
        batch.inputs[0].values().unwrap(),
        [2., 2., 2., 2., 0., 0., 0., 0., 0., 0., 0., 0., 3., 3., 3., 3., 3., 3.]
    );
    assert_eq!(batch.inputs[1].integers().unwrap(), [2, 0, 3]);
    assert_eq!(batch.inputs[2].integers().unwrap(), [1, 2, -1, -1, -1, -1, -1, -1, 1, 2, 3, -1]);

    // In steps of four, but not beyond the field; one row even if all samples are empty.
    let dims = |indices: &[usize]| first(&set, indices).inputs[2].shape().dims()[1];
    assert_eq!((dims(&[3]), dims(&[2, 1]), dims(&[1])), (8, 4, 4));
    let long = Sequences { fields: Fields::of(Field::f32([6, 2]).in_steps_of(4)), ..set };
    let long = Batch::read(&OnlyFirst(long), &[3], Pass::default()).unwrap();
    assert_eq!(long.inputs[0].shape().dims(), [1, 6, 2]);
}

/// The first input alone.
struct OnlyFirst(Sequences);

impl Dataset for OnlyFirst {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn fields(&self) -> Fields {
        self.0.fields()
    }

    fn read(&self, index: usize, _: Pass, sample: &mut Sample<'_>) -> Result<()> {
        sample.input(0).f32_rows(self.0.lengths[index]).map(drop)
    }
}

type Write = fn(&mut Sample<'_>) -> Result<()>;

/// Fields, and what is written to the only sample.
struct Written(Fields, Write);

impl Dataset for Written {
    fn len(&self) -> usize {
        1
    }

    fn fields(&self) -> Fields {
        self.0.clone()
    }

    fn read(&self, _: usize, _: Pass, sample: &mut Sample<'_>) -> Result<()> {
        (self.1)(sample)
    }
}

#[test]
fn what_is_written_is_checked() {
    let error = |fields: &Fields, write: Write| {
        let written = Written(fields.clone(), write);
        Batch::read(&written, &[0], Pass::default()).unwrap_err().to_string()
    };
    let fields = Sequences::of(&[]).fields.target(Field::class(3));
    let cases: [(Write, &str); 10] = [
        (|s| s.input(0).write_f32(&[0.0; 3]), "input 0: expected rows of 2 elements, got 3"),
        (
            |s| s.input(0).write_f32(&[0.0; 14]),
            "input 0: expected a first extent of at most 6, got 7",
        ),
        (|s| s.input(0).i32().map(drop), "input 0: expected i32 elements to write, got F32"),
        (
            |s| s.input(1).write_i32(&[3]),
            "input 1: expected i32 elements to write, got LengthOf(0)",
        ),
        (|s| s.input(2).f32().map(drop), "input 2: expected f32 elements to write, got I32"),
        (|s| s.input(3).f32().map(drop), "input 3: expected one of 3, got none"),
        (|s| s.target(2).i32().map(drop), "target 2: expected one of 2, got none"),
        (|s| s.target(0).write_f32(&[]), "target 0: expected 1 elements, one sample, got 0"),
        (
            |s| s.target(0).f32_rows(1).map(drop),
            "target 0: expected a first extent that varies, got one that is fixed",
        ),
        (|s| s.target(1).write_i32(&[3]), "target 1 of sample 0: expected classes 0..3, got 3"),
    ];
    for (write, expected) in cases {
        assert_eq!(error(&fields, write), expected);
    }
}

#[test]
fn fields_that_no_sample_can_have_are_refused() {
    let refused = |fields: Fields| {
        blamed(Loader::new(Arc::new(Written(fields, |_| Ok(()))), LoaderConfig::default()))
    };
    let one = || Fields::of(Field::f32([1]));
    assert_eq!(refused(Fields { inputs: vec![], targets: vec![] }), "fields");
    assert_eq!(refused(Fields::labelled([0], 2)), "sample_shape");
    assert_eq!(refused(one().target(Field::f32([3, 0]))), "shape of target 0");
    assert_eq!(refused(one().input(Field::length_of(0))), "shape of input 1");
    assert_eq!(refused(one().input(Field::length_of(7))), "shape of input 1");
    assert_eq!(refused(Fields::of(Field::f32([]).varying())), "shape of input 0");
    assert_eq!(refused(Fields::of(Field::f32([2]).in_steps_of(0))), "shape of input 0");
    assert_eq!(refused(Fields::of(Field::i32([2]).padded_with(0.5))), "shape of input 0");
    let classes = Field { elements: Elements::Classes(2), ..Field::i32([2]) };
    let set = Written(one().target(classes), |s| s.target(0).write_i32(&[1, 2]));
    assert_eq!(blamed(Batch::read(&set, &[0], Pass::default())), "target 0 of sample 0");
}

#[test]
fn batches_are_given_in_their_structure() {
    use crate::Var;
    let batch = || first(&Sequences::of(&[2, 1]), &[0, 1]);
    let ((x, lengths, tokens), target) = batch().into_typed::<(Var, Var, Var), Var>().unwrap();
    assert_eq!((x, lengths, tokens), {
        let mut inputs = batch().inputs.into_iter();
        let mut next = || inputs.next().unwrap();
        (next(), next(), next())
    });
    assert_eq!(target, batch().targets[0]);
    assert_eq!(batch().into_typed::<Vec<Var>, [Var; 1]>().unwrap().0.len(), 3);
    assert_eq!(blamed(batch().into_typed::<(Var, Var), Var>()), "inputs");
    assert_eq!(blamed(batch().into_typed::<Vec<Var>, ()>()), "targets");
    assert_eq!(blamed(batch().into_rows()), "inputs");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// What is drawn depends on seed, epoch and sample alone, not on how batches are made.
    #[test]
    fn draws_and_lengths_are_the_same_ahead_and_after_resuming(
        lengths in prop::collection::vec(0_usize..7, 1..30), batch_size in 1_usize..9,
        prefetch in 1_usize..4, done in 0_usize..20, seed: u64,
    ) {
        let set = Arc::new(Sequences::of(&lengths));
        let inline = LoaderConfig {
            batch_size, seed, shuffle: Shuffle::Seeded(seed), prefetch: 0, ..LoaderConfig::default()
        };
        let ahead = LoaderConfig { prefetch, ..inline.clone() };
        let mut inline = Loader::new(set.clone(), inline).unwrap();
        let mut resumed = Loader::new(set.clone(), ahead).unwrap();
        for _ in 0..done {
            inline.next_batch().unwrap();
        }
        resumed.next_batch().unwrap();
        resumed.seek(inline.position()).unwrap();
        for _ in 0..5 {
            let (batch, again) = (inline.next_batch().unwrap(), resumed.next_batch().unwrap());
            prop_assert_eq!(&batch, &again);
            let pass = Pass { seed, epoch: batch.position.epoch };
            let alone = Batch::read(&*set, &batch.indices, pass).unwrap();
            prop_assert_eq!(alone.targets, batch.targets);
        }
    }
}
