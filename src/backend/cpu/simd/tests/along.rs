// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sums, extremes and their places along any extents, against plain loops over indices.

use super::super::reduce;
use super::*;
use crate::kernel::Extent::{self, Kept, Reduced};
use crate::kernel::{Reduce, Reducer};
use crate::op::Extremum;

/// Extents that end inside lanes, chains, tiles and parts, with one and with several reduced ones.
const EXTENTS: &[&[Extent]] = &[
    &[Reduced(1)],
    &[Reduced(31)],
    &[Reduced(1025)],
    &[Reduced(70_001)],
    &[Kept(7), Reduced(1)],
    &[Kept(300), Reduced(5)],
    &[Kept(3), Reduced(2100)],
    &[Reduced(9), Kept(1)],
    &[Reduced(2), Kept(3)],
    &[Reduced(300), Kept(257)],
    &[Reduced(70_000), Kept(2)],
    &[Kept(5), Reduced(4), Kept(8)],
    &[Kept(70), Reduced(3), Kept(130)],
    &[Reduced(40), Kept(3), Reduced(50)],
    &[Kept(2), Reduced(3), Kept(4), Reduced(5), Kept(6)],
    &[Reduced(30), Kept(5), Reduced(7), Kept(4)],
    &[Kept(4), Reduced(3), Kept(2), Reduced(1030)],
    &[Kept(0), Reduced(3)],
    &[Kept(3), Reduced(0)],
];

/// The elements that each result is made of, in order.
fn elements(extents: &[Extent]) -> Vec<Vec<usize>> {
    let count = extents.iter().map(|extent| extent.size()).product();
    let results = Reduce { function: Reducer::Sum, extents: extents.to_vec() }.results();
    let mut all = vec![Vec::new(); results];
    for element in 0..count {
        let (mut rest, mut result, mut distance) = (element, 0, 1);
        for extent in extents.iter().rev() {
            let place = rest % extent.size();
            rest /= extent.size();
            if let Kept(size) = extent {
                result += place * distance;
                distance *= size;
            }
        }
        all[result].push(element);
    }
    all
}

/// The plain meaning of [`crate::op::Extreme`] and [`crate::op::ArgExtreme`].
fn extreme(kind: Extremum, values: &[f32]) -> (f32, usize) {
    let mut best = (values[0], 0);
    for (place, &value) in values.iter().enumerate() {
        if kind.replaces(f64::from(value), f64::from(best.0)) {
            best = (value, place);
        }
    }
    best
}

fn result(pool: &Pool, isa: Isa, function: Reducer, extents: &[Extent], x: &[f32]) -> Vec<f32> {
    let of = Reduce { function, extents: extents.to_vec() };
    let mut y = vec![-7.0; of.results()];
    reduce(pool, isa, &of, x, &mut y);
    y
}

fn count(extents: &[Extent]) -> usize {
    extents.iter().map(|extent| extent.size()).product()
}

#[test]
fn sums_are_those_of_plain_loops_and_the_same_everywhere() {
    for extents in EXTENTS {
        let x = noise(count(extents), 5);
        let sum = |of: &Vec<usize>| of.iter().map(|&at| f64::from(x[at])).sum::<f64>();
        let want: Vec<f64> = elements(extents).iter().map(sum).collect();
        let first = result(&pool(1), Isa::Portable, Reducer::Sum, extents, &x);
        assert_close(&first, &want, 2e-5);
        everywhere(|pool, isa| {
            let y = result(pool, isa, Reducer::Sum, extents, &x);
            assert_eq!(y, first, "{extents:?} on {isa} by {pool:?}");
        });
    }
}

#[test]
fn sums_of_many_equal_terms_keep_their_digits() {
    for extents in
        [&[Reduced(1 << 20)][..], &[Reduced(1 << 18), Kept(3)], &[Kept(3), Reduced(1 << 18)]]
    {
        let x = vec![0.1; count(extents)];
        let terms =
            count(extents) / Reduce { function: Reducer::Sum, extents: extents.to_vec() }.results();
        let exact = f64::from(0.1f32) * terms as f64;
        for y in result(&pool(2), Isa::best(), Reducer::Sum, extents, &x) {
            assert!((f64::from(y) - exact).abs() <= 1e-6 * exact, "{extents:?}: {y} for {exact}");
        }
    }
}

/// With NaN here and there, infinities and many equal numbers.
#[test]
fn extremes_and_their_places_are_those_of_plain_loops() {
    for extents in EXTENTS.iter().filter(|extents| !extents.contains(&Reduced(0))) {
        let rounded = noise(count(extents), 9).into_iter().map(|x| (x * 50.0).round());
        let plain: Vec<f32> = rounded.collect();
        let special = |nan: usize| {
            let with = |(at, &x): (usize, &f32)| match at % nan {
                3 => f32::NAN,
                5 => f32::NEG_INFINITY,
                7 => f32::INFINITY,
                _ => x,
            };
            plain.iter().enumerate().map(with).collect::<Vec<f32>>()
        };
        let lowest = vec![f32::NEG_INFINITY; plain.len()];
        let highest = vec![f32::INFINITY; plain.len()];
        let inputs = [special(11), special(997), special(usize::MAX), lowest, highest, plain];
        let elements = elements(extents);
        let reduced = extents.iter().filter(|extent| matches!(extent, Reduced(_))).count();
        for (x, kind) in inputs.iter().flat_map(|x| [Extremum::Max, Extremum::Min].map(|k| (x, k)))
        {
            let values = |of: &Vec<usize>| of.iter().map(|&at| x[at]).collect::<Vec<f32>>();
            let want: Vec<(f32, usize)> =
                elements.iter().map(|of| extreme(kind, &values(of))).collect();
            let bits = |x: f32| if x.is_nan() { f32::NAN.to_bits() } else { x.to_bits() };
            everywhere(|pool, isa| {
                let what = format!("{kind:?} of {extents:?} on {isa} by {pool:?}");
                let y = result(pool, isa, Reducer::Extreme(kind), extents, x);
                let same = y
                    .iter()
                    .zip(&want)
                    .all(|(&y, &(want, _))| bits(y) == bits(want) || (y == 0.0 && want == 0.0));
                assert!(same && y.len() == want.len(), "{what}");
                if reduced == 1 {
                    let y = result(pool, isa, Reducer::Place(kind), extents, x);
                    let places: Vec<usize> = y.iter().map(|y| y.to_bits() as usize).collect();
                    let want: Vec<usize> = want.iter().map(|&(_, place)| place).collect();
                    assert_eq!(places, want, "place, {what}");
                }
            });
        }
    }
}
