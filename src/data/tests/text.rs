// SPDX-License-Identifier: MIT OR Apache-2.0

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::data::{
    Labelled, LastBatch, Loader, LoaderConfig, Mislabelled, Position, Shuffle, Subset, Texts, Unit,
    Vocabulary,
};

fn parsed(bytes: &[u8]) -> Result<Labelled> {
    Labelled::parse(Path::new("mail.txt"), bytes)
}

fn refusal(bytes: &[u8]) -> String {
    parsed(bytes).unwrap_err().to_string()
}

#[test]
fn each_word_is_of_one_language() {
    let words = Labelled::words();
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for entry in words.entries() {
        *counts.entry(&entry.label).or_default() += 1;
    }
    let expected = [
        ("czech", 2048),
        ("english", 1948),
        ("french", 1948),
        ("italian", 2048),
        ("portuguese", 2048),
        ("spanish", 2048),
    ];
    assert_eq!(counts, BTreeMap::from(expected));
    let distinct: HashSet<&str> = words.entries().iter().map(|entry| &*entry.text).collect();
    assert_eq!(distinct.len(), words.entries().len());
    assert!(distinct.contains("freccetta") && distinct.contains("académie"));
    assert!(!distinct.contains("abandon"), "it is English and French");
}

#[test]
fn a_split_by_seed_stays_the_same() {
    let words = Labelled::words();
    let (train, test) = words.split(2000, 0).unwrap();
    assert_eq!((train.entries().len(), test.entries().len()), (2000, 10_088));
    let first: Vec<&str> = train.entries()[..4].iter().map(|entry| &*entry.text).collect();
    assert_eq!(first, FIRST_WORDS);
    let learnt: HashSet<&str> = train.entries().iter().map(|entry| &*entry.text).collect();
    assert!(test.entries().iter().all(|entry| !learnt.contains(&*entry.text)));
    assert_eq!(blamed(words.split(12_089, 0)), "count");
}

const FIRST_WORDS: [&str; 4] = ["buvette", "genre", "sequía", "envergar"];

#[test]
fn lines_are_labels_and_texts() {
    let mail = parsed("\u{feff}ham\tsee you\tthere\r\nspam\twin".as_bytes()).unwrap();
    let read: Vec<(&str, &str, usize)> =
        mail.entries().iter().map(|e| (&*e.label, &*e.text, e.line)).collect();
    assert_eq!(read, [("ham", "see you\tthere", 1), ("spam", "win", 2)]);
    assert_eq!(mail.labels(), ["ham", "spam"]);
}

#[test]
fn bad_lines_are_named() {
    for (bytes, expected) in [
        (&b""[..], "at byte 0: expected lines of a label, a tab and a text, got an empty file"),
        (
            b"a\tb\n\nc\td\n",
            "at byte 4: expected a label, a tab and a text in line 2, got an empty line",
        ),
        (
            b"a\tb\nlost\n",
            "at byte 4: expected a label, a tab and a text in line 2, got no tab in \"lost\"",
        ),
        (
            b"a\tb\nc\t \n",
            "at byte 4: expected a text behind the tab in line 2, got the label \"c\" without text",
        ),
        (b"\tb\n", "at byte 0: expected a label before the tab in line 1, got none"),
        (b"a\tb\r\nc\tx\xff\n", "at byte 8: expected UTF-8 in line 2, got the byte 0xff"),
    ] {
        assert_eq!(refusal(bytes), format!("mail.txt: {expected}"));
    }
}

#[test]
fn labels_and_texts_that_are_not_known_are_named() {
    let mail = parsed(b"ham\thi\nspam\twin\nham\t...\n").unwrap();
    let known = mail.vocabulary(Unit::Words, 1).unwrap();
    let error = mail.texts(&known, &["ham".into(), "news".into()]).unwrap_err().to_string();
    let expected =
        "mail.txt: at byte 7: expected one of the labels ham, news in line 2, got \"spam\"";
    assert_eq!(error, expected);
    let error = mail.texts(&known, &mail.labels()).unwrap_err().to_string();
    let expected = "mail.txt: at byte 16: expected a text of words in line 3, got \"...\"";
    assert_eq!(error, expected);
}

#[test]
fn seldom_tokens_are_unknown_and_counted() {
    let mail = parsed(b"a\tThe cat and the dog\nb\tthe DOG barks\n").unwrap();
    let known = mail.vocabulary(Unit::Words, 2).unwrap();
    assert_eq!(known.tokens(), ["the", "dog"]);
    let texts = mail.texts(&known, &mail.labels()).unwrap();
    assert_eq!((texts.count(), texts.unknown(), texts.longest()), (8, 3, 5));
    assert_eq!(texts.tokens(0), Some(&[2, 1, 1, 2, 3][..]));
    assert_eq!(texts.tokens(1), Some(&[2, 3, 1][..]));
    assert_eq!(texts.tokens(2), None);
    let error = mail.vocabulary(Unit::Words, 4).unwrap_err().to_string();
    assert_eq!(error, "least: expected at most 3, as often as a token occurs, got 4");
}

#[test]
fn a_vocabulary_is_saved_as_its_tokens() {
    let known = Vocabulary::of(["zoo"], Unit::Characters, 1).unwrap();
    let saved = serde_json::to_string(&known).unwrap();
    assert_eq!(saved, r#"{"unit":"characters","tokens":["o","z"]}"#);
    assert_eq!(serde_json::from_str::<Vocabulary>(&saved).unwrap(), known);
    for wrong in [r#"{"unit":"words","tokens":["o","o"]}"#, r#"{"unit":"words","tokens":[]}"#] {
        assert!(serde_json::from_str::<Vocabulary>(wrong).is_err());
    }
}

/// Texts of lengths 1 to 20.
fn several(count: usize) -> Texts {
    let known = Vocabulary::of(["a"], Unit::Characters, 1).unwrap();
    let mut texts = Texts::new(&known, 2);
    for index in 0..count {
        texts.add(&"a".repeat(1 + index * 7 % 20), Some((index % 2) as i32));
    }
    texts
}

fn by_length(texts: Texts, last_batch: LastBatch) -> Loader {
    let shuffle = Shuffle::LikeLengths(7);
    let config = LoaderConfig { batch_size: 8, shuffle, last_batch, ..LoaderConfig::default() };
    Loader::new(Arc::new(texts), config).unwrap()
}

#[test]
fn batches_of_like_lengths_hold_every_sample_once() {
    let texts = several(203);
    let mut loader = by_length(texts.clone(), LastBatch::Keep);
    let mut orders = Vec::new();
    for _ in 0..2 {
        let batches: Vec<Batch> = loader.epoch().collect::<Result<_>>().unwrap();
        let sizes: Vec<usize> = batches.iter().map(Batch::samples).collect();
        assert_eq!(sizes, [vec![8; 25], vec![3]].concat());
        let order: Vec<usize> = batches.iter().flat_map(|batch| batch.indices.clone()).collect();
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..203).collect::<Vec<_>>());
        let padded: usize = batches[..25].iter().map(|b| b.inputs[0].shape().elements()).sum();
        let tokens = |index: usize| texts.tokens(index).unwrap().len();
        let there: usize = order[..200].iter().map(|&index| tokens(index)).sum();
        assert!(padded < there * 6 / 5, "{padded} elements for {there} tokens");
        let lengths: Vec<usize> =
            batches.iter().map(|batch| batch.inputs[0].shape().dims()[1]).collect();
        assert!(!lengths.is_sorted(), "batches are shuffled too: {lengths:?}");
        orders.push(order);
    }
    assert_ne!(orders[0], orders[1]);
    assert_eq!(by_length(texts, LastBatch::Drop).len(), 25);
}

#[test]
fn batches_of_like_lengths_resume_anywhere() {
    let mut whole = by_length(several(203), LastBatch::Keep);
    let expected: Vec<Batch> = (0..40).map(|_| whole.next_batch().unwrap()).collect();
    for start in [1, 25, 26, 39] {
        let mut resumed = by_length(several(203), LastBatch::Keep);
        let position = Position { epoch: start / 26, batch: start % 26 };
        resumed.seek(position).unwrap();
        assert_eq!(resumed.next_batch().unwrap(), expected[start as usize]);
    }
}

#[test]
fn lengths_are_seen_through_other_data_sets() {
    let texts = several(30);
    let subset = Subset::new(Arc::new(texts.clone()), vec![7, 2]).unwrap();
    let lengths = [subset.length(0), subset.length(1), subset.length(2)];
    let expected = [texts.tokens(7).unwrap().len(), texts.tokens(2).unwrap().len()];
    assert_eq!(lengths, [expected[0], expected[1], 0]);
    let noisy = Mislabelled::new(Arc::new(texts), 0.5, 1).unwrap();
    assert_eq!([noisy.length(7), noisy.length(2)], expected);
}

#[test]
fn wrong_labels_are_made_as_in_other_data_sets() {
    let labels = |texts: &Texts| -> Vec<i32> {
        let indices: Vec<usize> = (0..texts.len()).collect();
        let batch = Batch::read(texts, &indices, Pass::default()).unwrap();
        batch.labels().unwrap().to_vec()
    };
    let texts = several(40);
    let noisy = labels(&texts.clone().with_label_noise(0.25, 3).unwrap());
    assert_eq!(noisy.iter().zip(labels(&texts)).filter(|(a, b)| *a != b).count(), 10);
    let same = numbered(40, 2).with_label_noise(0.25, 3).unwrap();
    assert_eq!(noisy, same.labels());
}
