// SPDX-License-Identifier: MIT OR Apache-2.0

use super::*;
use crate::data::Emoji;

/// What is embedded is what `make.py` wrote, and decodes alike everywhere.
#[test]
fn emoji_never_change() {
    let counts = |labels: &[u8]| {
        (0..9_u8).map(|group| labels.iter().filter(|of| **of == group).count()).collect::<Vec<_>>()
    };
    let (train, test) = (Emoji::train().unwrap(), Emoji::test().unwrap());
    assert_eq!((train.len(), test.len(), train.classes(), test.classes()), (1200, 706, 9, 9));
    assert_eq!(counts(train.labels()), [123, 242, 98, 77, 138, 51, 148, 149, 174]);
    assert_eq!(counts(test.labels()), [46, 144, 61, 54, 80, 34, 116, 75, 96]);
    let first = &test.pixels()[..3072];
    let at = |row: usize, column: usize| [0, 1, 2].map(|c| first[c * 1024 + row * 32 + column]);
    assert_eq!((test.labels()[0], at(0, 0), at(13, 16)), (3, [255; 3], [249, 220, 158]));
    let mut means = [188.472109, 196.788930].into_iter();
    for set in [&train, &test] {
        let mean = set.pixels().iter().map(|byte| f64::from(*byte)).sum::<f64>();
        let mean = mean / set.pixels().len() as f64;
        assert!(means.next().is_some_and(|known: f64| (mean - known).abs() < 1e-4), "{mean}");
    }
}
