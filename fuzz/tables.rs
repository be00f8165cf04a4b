// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tables in CSV files.

use kiln::data::{Batch, CsvFile, Dataset, Pass};

use super::harness::{judge, run, Case};
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
