// SPDX-License-Identifier: MIT OR Apache-2.0

use std::fs;

use tempfile::TempDir;

use super::*;
use crate::data::{Batch, Pass, Vowels};

/// A frame whose features are `first`, `first + 0.5`, ...
fn frame(first: f32) -> String {
    let features = (0..12).map(|place| (first + 0.5 * place as f32).to_string());
    features.collect::<Vec<_>>().join(" ")
}

/// Utterances of so many frames, as the files have them: with a space at the end of lines.
fn utterances(lengths: &[usize]) -> String {
    let block = |(index, &length): (usize, &usize)| -> String {
        let lines = (0..length).map(|step| format!("{} \n", frame((10 * index + step) as f32)));
        lines.collect::<String>() + "\n"
    };
    lengths.iter().enumerate().map(block).collect()
}

fn read(frames: impl AsRef<[u8]>, sizes: &str) -> Result<Vowels> {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("ae.train"), frames).unwrap();
    fs::write(folder.path().join("size_ae.train"), sizes).unwrap();
    Vowels::train(folder.path())
}

const SIZES: &str = "2 1 1 1 1 1 1 1 1\n";
const LENGTHS: [usize; 10] = [3, 1, 2, 2, 2, 2, 2, 2, 2, 9];

#[test]
fn utterances_are_padded_and_have_their_speakers() {
    let vowels = read(utterances(&LENGTHS), SIZES).unwrap();
    assert_eq!((vowels.len(), vowels.classes(), vowels.sample_shape()), (10, 9, vec![9, 12]));
    assert_eq!((0..10).map(|index| vowels.length(index)).collect::<Vec<_>>(), LENGTHS);
    let batch = Batch::read(&vowels, &[0, 1, 9], Pass::default()).unwrap();
    assert_eq!(batch.labels().unwrap(), [0, 0, 8]);
    assert_eq!(batch.inputs[1].integers().unwrap(), [3, 1, 9]);
    let frames = batch.inputs[0].values().unwrap();
    assert_eq!(batch.inputs[0].shape().dims()[2], 12);
    let steps = batch.inputs[0].shape().dims()[1];
    assert_eq!((frames[12], frames[12 * steps], frames[12 * steps + 11]), (1.0, 10.0, 15.5));
    assert!(frames[12 * (steps + 1)..2 * 12 * steps].iter().all(|feature| *feature == 0.0));

    // The end of the file may do without an empty line, and lines may end as on Windows.
    let windows = utterances(&LENGTHS).trim_end().replace('\n', "\r\n");
    assert_eq!(read(windows, &SIZES.replace(' ', "\n")).unwrap(), vowels);
    // Further empty lines begin nothing.
    let apart = utterances(&LENGTHS).replace("\n\n", "\n\n \n\n");
    assert_eq!(read(apart, SIZES).unwrap(), vowels);
}

#[test]
fn what_is_wrong_is_named_with_its_file_and_line() {
    let good = utterances(&LENGTHS);
    let refusal = |frames: &str, sizes: &str| read(frames, sizes).unwrap_err().to_string();
    for (frames, expected) in [
        (good.replacen("\n1 1.5 2", "\n1 2", 1), "expected 12 features in line 2, got 11"),
        (good.replacen("\n1 1.5 2", "\n1 1.5 1.7 2", 1), "expected 12 features in line 2, got 13"),
        (good.replacen("\n1 1.5 2", "\n1 x1.5 2", 1), "expected numbers in line 2, got \"x1.5\""),
        (good.replacen("\n1 1.5 2", "\n1 NaN 2", 1), "expected numbers in line 2, got \"NaN\""),
        (
            good.clone() + &utterances(&[1]),
            "expected 10 utterances (as size_ae.train has it) in line 38, got the beginning of one more",
        ),
        (
            utterances(&LENGTHS[..9]),
            "expected 10 utterances (as size_ae.train has it) in line 27, got the end of the file behind 9",
        ),
        (String::new(), "expected 10 utterances (as size_ae.train has it), got an empty file"),
    ] {
        let text = refusal(&frames, SIZES);
        assert!(text.contains("ae.train") && text.contains(expected), "{text}");
    }
    for (sizes, expected) in [
        ("2 1 1\n1 1\n", "expected the sizes of 9 speakers in line 2, got those of 5"),
        ("2 1 1 1 1 1 1 1 1\n1\n", "expected the sizes of 9 speakers in line 2, got \"1\" behind"),
        ("2 0 1 1 1 1 1 1 1\n", "in line 1, got \"0\""),
        ("2 1 1 1 1 1 1 1 99999999999\n", "in line 1, got \"99999999999\""),
        ("", "expected the sizes of 9 speakers, got an empty file"),
    ] {
        let text = refusal(&good, sizes);
        assert!(text.contains("size_ae.train") && text.contains(expected), "{text}");
    }
    let text = read(b"1 2 \xff\n", SIZES).unwrap_err().to_string();
    assert!(text.contains("expected UTF-8 in line 1"), "{text}");
    let folder = TempDir::new().unwrap();
    let text = Vowels::test(folder.path()).unwrap_err().to_string();
    assert!(text.contains("size_ae.test"), "{text}");
}
