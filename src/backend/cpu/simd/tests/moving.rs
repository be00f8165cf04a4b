// SPDX-License-Identifier: MIT OR Apache-2.0
//! Boxes copied and elements chosen, against plain loops over indices, with any number of threads.

use super::{everywhere, noise, pool};
use crate::backend::cpu::simd::{
    blend, copy, gather, gather_gradient, take, take_gradient, transpose,
};
use crate::kernel::{Picks, Piece, Stretch};
use crate::op::{Blend, Term};

/// Extents, with the order in which they lie in the input.
fn permuted(extents: &[usize], order: &[usize]) -> Vec<Stretch> {
    let mut from = vec![0; extents.len()];
    let mut distance = 1;
    for &axis in order.iter().rev() {
        from[axis] = distance;
        distance *= extents[axis];
    }
    let mut stretches = Vec::new();
    let mut distance = 1;
    for axis in (0..extents.len()).rev() {
        stretches.insert(0, Stretch { extent: extents[axis], from: from[axis], to: distance });
        distance *= extents[axis];
    }
    stretches
}

/// Where each element of a piece comes from and goes to.
fn places(piece: &Piece) -> Vec<(usize, usize)> {
    let step = |places: Vec<(usize, usize)>, stretch: &Stretch| {
        let along = |(from, to)| {
            (0..stretch.extent).map(move |i| (from + i * stretch.from, to + i * stretch.to))
        };
        places.into_iter().flat_map(along).collect()
    };
    piece.extents.iter().fold(vec![(piece.from, piece.to)], step)
}

#[test]
fn boxes_go_to_their_places() {
    let whole = |extents: &[usize], order: &[usize]| {
        vec![Piece { input: Some(0), extents: permuted(extents, order), from: 0, to: 0 }]
    };
    let row = |extent, from, to| Stretch { extent, from, to };
    let zeros = |to, extents: Vec<Stretch>| Piece { input: None, extents, from: 0, to };
    let copied = |input, from, to, extents| Piece { input: Some(input), extents, from, to };
    let cases = [
        whole(&[9000], &[0]),
        whole(&[37, 70], &[1, 0]),
        whole(&[16, 3, 33], &[2, 1, 0]),
        whole(&[5, 19, 4, 18], &[1, 3, 0, 2]),
        whole(&[2, 3, 4, 5], &[3, 2, 1, 0]),
        // Nothing neighbours in the input; one element is repeated.
        vec![copied(0, 1, 0, vec![row(50, 6, 3), row(3, 2, 1)])],
        vec![copied(0, 3, 0, vec![row(5000, 0, 1)])],
        vec![copied(0, 0, 0, vec![row(7, 1, 40), row(40, 0, 1)])],
        // Columns of several tensors with zeros between them.
        vec![
            copied(0, 0, 0, vec![row(60, 3, 30), row(3, 1, 1)]),
            zeros(3, vec![row(60, 0, 30), row(2, 0, 1)]),
            copied(1, 5, 5, vec![row(60, 24, 30), row(24, 1, 1)]),
            copied(0, 7, 29, vec![row(60, 1, 30)]),
        ],
    ];
    for pieces in cases {
        let all: Vec<Vec<(usize, usize)>> = pieces.iter().map(places).collect();
        let length = all.iter().map(Vec::len).sum::<usize>();
        let inputs = [noise(20_000, 1), noise(20_000, 2)];
        let mut expected = vec![f32::NAN; length];
        for (piece, places) in pieces.iter().zip(&all) {
            for &(from, to) in places {
                expected[to] = piece.input.map_or(0.0, |input| inputs[input][from]);
            }
        }
        for pool in [1, 2, 3].map(pool) {
            let mut y = vec![f32::NAN; length];
            copy(&pool, &pieces, &[&inputs[0], &inputs[1]], &mut y);
            assert_eq!(y, expected, "{pieces:?} by {pool:?}");
        }
    }
}

/// Where an element of what was chosen comes from.
fn source(picks: Picks, index: i32, element: usize) -> Option<usize> {
    let row = usize::try_from(index).ok().filter(|&row| row < picks.rows)?;
    let block = element / picks.inner / picks.picks;
    Some((block * picks.rows + row) * picks.inner + element % picks.inner)
}

#[test]
fn indices_choose_and_gradients_add_up_in_their_order() {
    let cases = [[1, 5, 3, 40], [4, 3, 1, 7], [7, 11, 5, 2], [1, 2, 1, 1000], [3, 1, 8, 0]];
    for [outer, rows, inner, chosen] in cases {
        let picks = Picks { outer, rows, inner, picks: chosen };
        let count = outer * chosen * inner;
        // Now and then an index names nothing.
        let index = |i: usize| (i * 7 % (rows + 2)) as i32 - 1;
        let (by_row, by_element): (Vec<i32>, Vec<i32>) =
            ((0..chosen).map(index).collect(), (0..count).map(index).collect());
        let (x, dy) = (noise(outer * rows * inner, 1), noise(count, 2));
        let rows_of = |element: usize| by_row[element / inner % chosen];
        let elements_of = |element: usize| by_element[element];
        let expected = |index: &dyn Fn(usize) -> i32| {
            let (mut y, mut dx) = (vec![f32::NAN; count], vec![0.0f32; x.len()]);
            for element in 0..count {
                if let Some(at) = source(picks, index(element), element) {
                    y[element] = x[at];
                    dx[at] += dy[element];
                }
            }
            (y, dx)
        };
        let bits = |values: &[f32]| values.iter().map(|x| x.to_bits()).collect::<Vec<u32>>();
        for pool in [1, 2, 3].map(pool) {
            let what = format!("{picks:?} by {pool:?}");
            let (mut y, mut dx) = (vec![0.0; count], vec![f32::NAN; x.len()]);
            take(&pool, picks, &x, &by_row, &mut y);
            take_gradient(&pool, (picks, None), &by_row, &dy, &mut dx);
            let (y_meant, dx_meant) = expected(&rows_of);
            assert_eq!((bits(&y), bits(&dx)), (bits(&y_meant), bits(&dx_meant)), "take, {what}");
            let (mut y, mut dx) = (vec![0.0; count], vec![f32::NAN; x.len()]);
            gather(&pool, picks, &x, &by_element, &mut y);
            gather_gradient(&pool, picks, &by_element, &dy, &mut dx);
            let (y_meant, dx_meant) = expected(&elements_of);
            assert_eq!((bits(&y), bits(&dx)), (bits(&y_meant), bits(&dx_meant)), "gather, {what}");
        }
    }
}

#[test]
fn weighted_sums_are_those_of_a_loop() {
    for (outer, inner) in [(1, 1), (3, 7), (2, 16), (5, 33), (0, 4), (4, 0)] {
        let places = (0..9).map(|place: usize| {
            let term = |from: usize| Term { from, weight: 0.25 * (place + from) as f64 };
            (0..place % 4).map(|step| term((place + 2 * step) % 5)).collect()
        });
        let rule = Blend::new(1, 5, places.collect());
        let x = noise(outer * 5 * inner, 6);
        everywhere(|pool, isa| {
            let mut y = vec![f32::NAN; outer * 9 * inner];
            blend(pool, isa, &rule, [outer, inner], &x, &mut y);
            for (at, found) in y.iter().enumerate() {
                let (row, column) = (at / inner, at % inner);
                let (block, place) = (row / 9, row % 9);
                let value = |term: &Term| {
                    term.weight * f64::from(x[(block * 5 + term.from) * inner + column])
                };
                let wanted: f64 = rule.places[place].iter().map(value).sum();
                assert!((f64::from(*found) - wanted).abs() <= 1e-6, "{isa} {at}: {found}");
            }
        });
    }
}

#[test]
fn rows_become_columns() {
    everywhere(|pool, isa| {
        for extents in [[1, 1, 1], [3, 7, 5], [2, 8, 16], [2, 17, 33], [1, 16, 48], [2, 40, 16]] {
            let [matrices, rows, columns] = extents;
            let x: Vec<f32> = (0..matrices * rows * columns).map(|value| value as f32).collect();
            let mut y = vec![f32::NAN; x.len()];
            transpose(pool, isa, extents, &x, &mut y);
            for (at, value) in y.into_iter().enumerate() {
                let (matrix, rest) = (at / (rows * columns), at % (rows * columns));
                let (column, row) = (rest / rows, rest % rows);
                let expected = x[(matrix * rows + row) * columns + column];
                assert_eq!(value, expected, "{extents:?}, {isa}: element {at}");
            }
        }
    });
}
