// SPDX-License-Identifier: MIT OR Apache-2.0
//! Texts that a recurrent network cannot take: one line each, before anything is computed.

use kiln::data::{Batch, Labelled, Pass, Unit};
use kiln::models::{RnnCell, RnnClassifier};
use kiln::nn::{Directions, RecurrentOptions};
use kiln::{Device, Net, Seed, Tensor};

fn classifier(cell: RnnCell, directions: Directions) -> Net<RnnClassifier> {
    let options = RecurrentOptions { layers: 2, directions, dropout: 0.5, ..Default::default() };
    let make = |p: &kiln::nn::Scope| RnnClassifier::with_cell(p, cell, [10, 4, 6, 3], options);
    Net::new(Device::cpu(), Seed(7), make).expect("a network")
}

#[test]
fn tokens_and_lengths_that_cannot_be_are_named() {
    for (cell, name) in [(RnnCell::Lstm, "lstm"), (RnnCell::Gru, "gru")] {
        let mut net = classifier(cell, Directions::Forward);
        let mut refusal = |tokens: [i32; 4], lengths: Vec<i32>| {
            let tokens = Tensor::labels([2, 2], tokens.to_vec()).expect("tokens");
            let lengths = Tensor::labels([lengths.len()], lengths).expect("lengths");
            net.eval().forward((&tokens, &lengths)).unwrap_err().to_string()
        };
        let expected = "embedding: take: index 2 of input 0: expected a number from 0 to 9, got 10";
        assert_eq!(refusal([9, 0, 10, 0], vec![2, 1]), expected);
        for length in [0, -1, 3] {
            let expected = format!(
                "{name}: {name}: length 1 of input 1: expected a number from 1 to 2, got {length}"
            );
            assert_eq!(refusal([9, 0, 1, 0], vec![2, length]), expected);
        }
        let got = refusal([9, 0, 1, 0], vec![2, 1, 1]);
        assert!(got.contains("expected") && got.contains("3"), "{got}");
    }
}

/// What stands past the end of a text, and how far it is padded, changes no score.
#[test]
fn padding_never_reaches_scores() {
    for cell in [RnnCell::Lstm, RnnCell::Gru] {
        for directions in [Directions::Forward, Directions::Both] {
            let mut net = classifier(cell, directions);
            let mut scores = |steps: usize, tokens: Vec<i32>| {
                let tokens = Tensor::labels([2, steps], tokens).expect("tokens");
                let lengths = Tensor::labels([2], vec![3, 1]).expect("lengths");
                let scores = net.eval().forward((&tokens, &lengths)).expect("scores");
                scores.values().expect("f32").to_vec()
            };
            let expected = scores(3, vec![1, 2, 3, 4, 0, 0]);
            assert_eq!(scores(3, vec![1, 2, 3, 4, 9, 8]), expected);
            assert_eq!(scores(5, vec![1, 2, 3, 7, 7, 4, 5, 6, 7, 8]), expected);
        }
    }
}

#[test]
fn batches_of_words_go_into_a_classifier() {
    let (words, _) = Labelled::words().split(50, 1).expect("fifty words");
    let vocabulary = words.vocabulary(Unit::Characters, 3).expect("letters");
    let labels = words.labels();
    let texts = words.texts(&vocabulary, &labels).expect("texts");
    let batch = Batch::read(&texts, &[4, 8, 15], Pass::default()).expect("a batch");
    let make =
        |p: &kiln::nn::Scope| RnnClassifier::new(p, vocabulary.len(), 4, 6, labels.len(), 0.5);
    let mut net = Net::new(Device::cpu(), Seed(7), make).expect("a network");
    let scores = net.eval().forward((&batch.inputs[0], &batch.inputs[1])).expect("scores");
    assert_eq!(scores.shape().dims(), [3, 6]);
}
