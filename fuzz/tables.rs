// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tables in CSV files, and frames of speech.

use kiln::data::{Batch, CsvFile, Dataset, Pass, Vowels};

use super::harness::{judge, judge_text, run, Case};
use super::mutate::mutated;

const SEEDS: [&str; 5] = [
    "area,town,price,kind\n70.5,3,3.5,flat\n54,-1,1.5,house\n8e1,2,2,flat\n",
    "a;b;c\r\n1;0;2\r\n\r\n3;1;4\r\n",
    "\u{feff}x,y\n\"1\",\"2\"\n\"3\n\",4\n",
    "1,2\n3,4\n5,6",
    "label\n0\n1\n2\n1\n",
];

/// Each byte may be a field of its own, which takes a number, a place in its line and, in the header, a
/// name.
fn limit(bytes: &[u8]) -> usize {
    128 * bytes.len() + (1 << 20)
}

#[test]
fn tables_of_numbers() {
    let seeds: Vec<Vec<u8>> = SEEDS.iter().map(|text| text.as_bytes().to_vec()).collect();
    run("tables_of_numbers", 5, |case| {
        let (bytes, _) = mutated(&mut case.numbers, &seeds);
        let path = case.write("table.csv", &bytes);
        let file = told(case, CsvFile::new(&path));
        match case.within(limit(&bytes), || file.read()) {
            Err(error) => judge(&error, &path),
            Ok(set) => {
                let all: Vec<usize> = (0..set.len()).collect();
                let batch = Batch::read(&set, &all, Pass::default()).expect("all samples");
                assert!(!all.is_empty() && !batch.inputs.is_empty());
                for tensor in batch.inputs.iter().chain(&batch.targets) {
                    let finite = |values: &[f32]| values.iter().all(|value| value.is_finite());
                    assert!(tensor.values().map_or(true, finite));
                }
            }
        }
    });
}

/// Frames and sizes, of which one file is almost right.
#[test]
fn frames_of_speech() {
    let frame = "0.5 -1e-3 2 3 4 5 6 7 8 9 1.25 11 \n";
    let frames = format!("{frame}{frame}\n{frame}\n").repeat(5).into_bytes();
    let sizes = b"1 1 1 1 1 1 1 1 2\n".to_vec();
    run("frames_of_speech", 5, |case| {
        let is_of_sizes = case.numbers.below(3) == 0;
        let seeds = [if is_of_sizes { sizes.clone() } else { frames.clone() }];
        let (wrong, _) = mutated(&mut case.numbers, &seeds);
        let (frames, sizes) = match is_of_sizes {
            true => (frames.clone(), wrong),
            false => (wrong, sizes.clone()),
        };
        case.write("ae.train", &frames);
        case.write("size_ae.train", &sizes);
        let folder = case.folder.clone();
        let most = 16 * (frames.len() + sizes.len()) + (1 << 20);
        match case.within(most, || Vowels::train(&folder)) {
            // Either file may be named.
            Err(error) => {
                assert!(error.to_string().contains("ae.train"), "{error}");
                judge_text(&error.to_string());
            }
            Ok(set) => {
                let all: Vec<usize> = (0..set.len()).collect();
                let batch = Batch::read(&set, &all, Pass::default()).expect("all samples");
                let frames = batch.inputs[0].values().expect("f32");
                assert!(frames.iter().all(|feature| feature.is_finite()));
            }
        }
    });
}

/// What the columns are for.
fn told(case: &mut Case, mut file: CsvFile) -> CsvFile {
    if case.numbers.below(4) == 0 {
        file = file.without_header();
    }
    if case.numbers.below(4) == 0 {
        file = file.delimiter(*case.numbers.pick(b";\t \n\"\0a"));
    }
    let numbered = case.numbers.below(5);
    let named = *case.numbers.pick(&["price", "label", "x", "", "c"]);
    match case.numbers.below(6) {
        0 => file,
        1 => file.target([numbered]),
        2 => file.target([named]),
        3 => file.integer_input([numbered]).input([0, 0]),
        4 => file.label(numbered, *case.numbers.pick(&[0, 3, usize::MAX])),
        _ => file.named_label(numbered, ["flat", "house"]),
    }
}
