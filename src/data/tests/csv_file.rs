// SPDX-License-Identifier: MIT OR Apache-2.0

use std::fs;
use std::path::PathBuf;

use tempfile::TempDir;

use super::*;
use crate::data::{Arrays, CsvFile};

/// A file with this text, in a folder that goes with it.
fn file(text: impl AsRef<[u8]>) -> (TempDir, PathBuf) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("table.csv");
    fs::write(&path, text).unwrap();
    (folder, path)
}

fn read_file(text: &str, tell: impl Fn(CsvFile) -> CsvFile) -> Result<Arrays> {
    let (_folder, path) = file(text);
    tell(CsvFile::new(path)).read()
}

/// The line of the error, and what it says.
fn refusal(text: impl AsRef<[u8]>, tell: impl Fn(CsvFile) -> CsvFile) -> (u64, String) {
    let (_folder, path) = file(text);
    match tell(CsvFile::new(&path)).read().unwrap_err() {
        Error::Text { path: of, line, expected, got } => {
            assert_eq!(of, path);
            (line, format!("{expected}, got {got}"))
        }
        other => panic!("expected an error with a line, got {other:?}"),
    }
}

fn whole(set: &Arrays) -> Batch {
    Batch::read(set, &(0..set.len()).collect::<Vec<_>>(), Pass::default()).unwrap()
}

const HOUSES: &str =
    "area,town,price,kind\n70.5,3,3.5,flat\n\n 54 , -1,\"1.5\",house\r\n8e1,2,2,flat";

#[test]
fn columns_become_fields() {
    let tell = |file: CsvFile| {
        file.input(["price", "area"])
            .integer_input([1])
            .target(["area"])
            .named_label("kind", ["house", "flat"])
    };
    let batch = whole(&read_file(HOUSES, tell).unwrap());
    assert_eq!(batch.inputs[0].values().unwrap(), [3.5, 70.5, 1.5, 54.0, 2.0, 80.0]);
    assert_eq!(batch.inputs[1].integers().unwrap(), [3, -1, 2]);
    assert_eq!(batch.targets[0].values().unwrap(), [70.5, 54.0, 80.0]);
    assert_eq!(batch.targets[1].integers().unwrap(), [1, 0, 1]);
    let dims: Vec<&[usize]> =
        batch.inputs.iter().chain(&batch.targets).map(|tensor| tensor.shape().dims()).collect();
    assert_eq!(dims, [&[3, 2][..], &[3, 1], &[3, 1], &[3]]);
}

#[test]
fn what_is_no_target_is_input() {
    let set = read_file("a;b;c\n1;0;2\n3;1;4\n", |file| file.delimiter(b';').label("b", 2));
    let batch = whole(&set.unwrap());
    assert_eq!(batch.inputs[0].values().unwrap(), [1.0, 2.0, 3.0, 4.0]);
    assert_eq!(batch.labels().unwrap(), [0, 1]);

    let batch = whole(&read_file("1,2\n3,4\n", CsvFile::without_header).unwrap());
    assert_eq!(batch.inputs[0].values().unwrap(), [1.0, 2.0, 3.0, 4.0]);
    assert!(batch.targets.is_empty());
    // As spreadsheets write it.
    let marked = read_file("\u{feff}a,b\n1,2\n", |file| file.target(["a"])).unwrap();
    assert_eq!(whole(&marked).targets[0].values().unwrap(), [1.0]);
}

#[test]
fn bad_files_are_refused_with_their_line() {
    let price = |file: CsvFile| file.target(["price"]);
    let same = |file: CsvFile| file;
    assert_eq!(
        refusal("", price),
        (1, "a line with the names of the columns, got an empty file".into())
    );
    assert_eq!(refusal("\n\n", CsvFile::without_header).1, "a sample, got the end of the file");
    assert_eq!(refusal("area,price\n", price), (2, "a sample, got the end of the file".into()));
    assert_eq!(refusal("area,cost\n1,2\n", price), (1, "a column price, got area, cost".into()));
    assert_eq!(refusal("price,price\n1,2\n", price), (1, "one column price, got several".into()));
    assert_eq!(refusal("price\n1\n", price).1, "a column for each input and target, got none");
    assert_eq!(
        refusal("1,2\n", |file| file.without_header().target([2])),
        (1, "a column 2, counted from 0, got 2 columns".into())
    );
    assert_eq!(
        refusal("1,2\n", |file| price(file.without_header())),
        (1, "a number for column price, got a file without names".into())
    );
    for (row, got) in [("1", "1"), ("1,2,3", "3"), ("1,", "")] {
        let (line, text) = refusal(format!("a,b\n1,2\n{row}\n"), same);
        let expected = match got {
            "" => "a finite number in column b, got nothing".into(),
            got => format!("2 columns, as in the first line, got {got}"),
        };
        assert_eq!((line, text), (3, expected));
    }
    let (line, text) = refusal(b"a\n1\n\xff\n", same);
    assert_eq!((line, &text[..]), (3, "text in UTF-8, got other bytes"));
}

#[test]
fn what_is_no_number_is_refused_with_its_line_and_column() {
    let houses = |file: CsvFile| file.input(["area"]).integer_input(["town"]).label("kind", 2);
    let line = |row: &str| refusal(format!("area,town,kind\n1,2,0\n{row}\n"), houses);
    assert_eq!(line("x,2,1"), (3, "a finite number in column area, got x".into()));
    assert_eq!(line("1e99,2,1").1, "a finite number in column area, got 1e99");
    assert_eq!(line("nan,2,1").1, "a finite number in column area, got nan");
    assert_eq!(line("1,2.5,1").1, "an integer of 32 bits in column town, got 2.5");
    assert_eq!(line("1,2,2").1, "a class of 0..2 in column kind, got 2");
    assert_eq!(
        refusal("a\nred\n", |file| file.input([0]).named_label(0, ["x", "y"])).1,
        "a finite number in column a, got red"
    );
    let named = |file: CsvFile| file.integer_input([0]).named_label(1, ["x", "y"]);
    assert_eq!(refusal("a,b\n1,z\n", named), (2, "one of x, y in column b, got z".into()));
}

/// However lines end, and whatever lies between them.
#[test]
fn lines_are_counted_as_editors_count_them() {
    let lines = [
        ("a\n1\n2\nx\n", 4),
        ("a\r\n1\r\n2\r\nx\r\n", 4),
        ("a\r1\r2\rx\r", 4),
        ("\n\na\n1\n\n\nx", 7),
        ("a\r\n\r\n1\r\n\r\nx", 5),
        ("a\n\"1\"\n\"\n2\n\"\nx", 6),
    ];
    for (text, expected) in lines {
        assert_eq!(refusal(text, |file| file).0, expected, "{text:?}");
    }
}

#[test]
fn files_that_cannot_be_read_are_errors() {
    let folder = TempDir::new().unwrap();
    for path in [folder.path().join("none.csv"), folder.path().to_path_buf()] {
        assert!(matches!(CsvFile::new(path).read(), Err(Error::Io { .. })));
    }
}
