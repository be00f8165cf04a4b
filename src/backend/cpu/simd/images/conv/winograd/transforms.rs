// SPDX-License-Identifier: MIT OR Apache-2.0
//! The one-dimensional transforms of F(4, 3) with the points 0, 1, -1, 2, -1/2 and infinity.
//!
//! Four results of a filter of three taps are `A^T ((G w) * (B^T d))` for six elements `d`. With these
//! points errors are a third of those with 0, 1, -1, 2, -2, and half of the factors are still exact.

use super::base::Vector;

/// Results of a transform along one extent.
pub(super) const RESULTS: usize = 4;
/// Points, and elements that the results of a transform see.
pub(super) const POINTS: usize = 6;
/// Taps of a filter along one extent.
pub(super) const TAPS: usize = 3;

/// A transform along one extent. Functions and closures that are handed over might not become part of
/// the caller, and would then be compiled without its instruction set.
pub(super) trait Transform<const FROM: usize, const TO: usize> {
    fn apply<V: Vector>(values: [V; FROM]) -> [V; TO];
}

/// `B^T d`
pub(super) struct SourceToPoints;

impl Transform<POINTS, POINTS> for SourceToPoints {
    #[inline(always)]
    fn apply<V: Vector>([d0, d1, d2, d3, d4, d5]: [V; POINTS]) -> [V; POINTS] {
        let (even, odd) = (d4.sub(d2), d3.sub(d1));
        let by = |value: V, factor: f32, to: V| value.mul_add(V::splat(factor), to);
        [
            by(odd, -1.5, by(d2, -2.0, d0.add(d4))),
            by(d3, -0.5, by(d2, -2.5, d4.sub(d1))),
            by(d3, -2.5, by(d2, 0.5, d4.add(d1))),
            by(odd, 0.5, even),
            by(odd, -2.0, even),
            by(even, -1.5, by(d3, -2.0, d1.add(d5))),
        ]
    }
}

/// `A^T m`
pub(super) struct PointsToResults;

impl Transform<POINTS, RESULTS> for PointsToResults {
    #[inline(always)]
    fn apply<V: Vector>([m0, m1, m2, m3, m4, m5]: [V; POINTS]) -> [V; RESULTS] {
        let (sum, difference) = (m1.add(m2), m1.sub(m2));
        let by = |value: V, factor: f32, to: V| value.mul_add(V::splat(factor), to);
        [
            m0.add(sum).add(m3.add(m4)),
            by(m4, -0.5, by(m3, 2.0, difference)),
            by(m4, 0.25, by(m3, 4.0, sum)),
            by(m4, -0.125, by(m3, 8.0, difference)).add(m5),
        ]
    }
}

/// `A g`, for gradients of results.
pub(super) struct GradientToPoints;

impl Transform<RESULTS, POINTS> for GradientToPoints {
    #[inline(always)]
    fn apply<V: Vector>([g0, g1, g2, g3]: [V; RESULTS]) -> [V; POINTS] {
        let by = |value: V, factor: f32, to: V| value.mul_add(V::splat(factor), to);
        let (even, odd) = (g0.add(g2), g1.add(g3));
        [
            g0,
            even.add(odd),
            even.sub(odd),
            by(by(g3, 4.0, g1), 2.0, by(g2, 4.0, g0)),
            by(by(g3, 0.25, g1), -0.5, by(g2, 0.25, g0)),
            g3,
        ]
    }
}

/// `G w`
pub(super) struct FilterToPoints;

impl Transform<TAPS, POINTS> for FilterToPoints {
    #[inline(always)]
    fn apply<V: Vector>([w0, w1, w2]: [V; TAPS]) -> [V; POINTS] {
        let by = |value: V, factor: f32, to: V| value.mul_add(V::splat(factor), to);
        let scaled = |value: V, factor: f32| value.mul(V::splat(factor));
        let even = w0.add(w2);
        [
            w0,
            scaled(even.add(w1), -1.0 / 3.0),
            scaled(even.sub(w1), 1.0 / 3.0),
            scaled(by(w2, 4.0, by(w1, 2.0, w0)), 1.0 / 15.0),
            scaled(by(w2, 0.25, by(w1, -0.5, w0)), -16.0 / 15.0),
            w2,
        ]
    }
}

/// `G^T p`, for gradients of filters.
pub(super) struct PointsToFilter;

impl Transform<POINTS, TAPS> for PointsToFilter {
    #[inline(always)]
    fn apply<V: Vector>([p0, p1, p2, p3, p4, p5]: [V; POINTS]) -> [V; TAPS] {
        let by = |value: V, factor: f32, to: V| value.mul_add(V::splat(factor), to);
        let scaled = |value: V, factor: f32| value.mul(V::splat(factor));
        let (sum, difference) = (scaled(p1.add(p2), -1.0 / 3.0), scaled(p2.sub(p1), 1.0 / 3.0));
        let (near, far) = (scaled(p3, 1.0 / 15.0), scaled(p4, -16.0 / 15.0));
        [
            p0.add(difference).add(near.add(far)),
            by(far, -0.5, by(near, 2.0, sum)),
            by(far, 0.25, by(near, 4.0, difference)).add(p5),
        ]
    }
}

/// Transforms both extents of a square: first all columns, then all rows.
#[inline(always)]
pub(super) fn both<V: Vector, T: Transform<FROM, TO>, const FROM: usize, const TO: usize>(
    from: impl Fn(usize, usize) -> V,
    mut to: impl FnMut(usize, usize, V),
) {
    let mut columns = [[V::splat(0.0); FROM]; TO];
    for column in 0..FROM {
        let mut values = [V::splat(0.0); FROM];
        for row in 0..FROM {
            values[row] = from(row, column);
        }
        let values = T::apply(values);
        for row in 0..TO {
            columns[row][column] = values[row];
        }
    }
    for row in 0..TO {
        let values = T::apply(columns[row]);
        for column in 0..TO {
            to(row, column, values[column]);
        }
    }
}
