// SPDX-License-Identifier: MIT OR Apache-2.0
//! A straight line through each group: what is normalised, and the gradients of statistics.

use super::base::{dispatch, for_each_vector, load, store, Isa, Kernel, SharedSlice, Vector};
use super::{split, Affine, Groups, Matrix, Pool, Statistics};
use std::ops::Range;

/// `y = (x - mean) / sqrt(variance + eps) * gamma + beta`
///
/// # Panics
/// If lengths do not fit.
pub(crate) fn normalize(
    pool: &Pool,
    isa: Isa,
    groups: Groups,
    statistics: &Statistics<'_>,
    affine: Option<Affine<'_>>,
    x: &[f32],
    y: &mut [f32],
) {
    let scale = statistics.scales(affine.map(|affine| affine.gamma));
    let zeros = vec![0.0; if affine.is_some() { 0 } else { scale.len() }];
    let shift = affine.map_or(zeros.as_slice(), |affine| &affine.beta[..scale.len()]);
    let lines = Lines { centre: statistics.mean, scale: &scale, shift };
    lines.apply(pool, isa, groups, x, y);
}

/// `dx = (d_mean + 2 * d_variance * (x - mean)) / elements of a group`
///
/// # Panics
/// If lengths do not fit.
pub(crate) fn statistics_gradient(
    pool: &Pool,
    isa: Isa,
    groups: Groups,
    mean: &[f32],
    [d_mean, d_variance]: [&[f32]; 2],
    x: &[f32],
    dx: &mut [f32],
) {
    let matrix = Matrix::new(groups, x);
    let count = match groups {
        Groups::Columns(_) => matrix.rows,
        Groups::Rows(_) => matrix.columns,
    } as f64;
    let per_element = |factor: f64, sums: &[f32]| -> Vec<f32> {
        sums.iter().map(|&sum| (factor * f64::from(sum) / count) as f32).collect()
    };
    let (scale, shift) = (per_element(2.0, d_variance), per_element(1.0, d_mean));
    Lines { centre: mean, scale: &scale, shift: &shift }.apply(pool, isa, groups, x, dx);
}

/// `(x - centre) * scale + shift`, with numbers for each group.
#[derive(Clone, Copy)]
struct Lines<'a> {
    centre: &'a [f32],
    scale: &'a [f32],
    shift: &'a [f32],
}

impl Lines<'_> {
    fn apply(&self, pool: &Pool, isa: Isa, groups: Groups, x: &[f32], y: &mut [f32]) {
        assert_eq!(x.len(), y.len(), "elements of a normalisation");
        let matrix = Matrix::new(groups, x);
        let count = match groups {
            Groups::Columns(columns) => columns,
            Groups::Rows(_) => matrix.rows,
        };
        let least = self.centre.len().min(self.scale.len()).min(self.shift.len());
        assert!(least >= count, "a number for each group");
        let y = SharedSlice::new(y);
        pool.run(&|index| {
            let rows = split(matrix.rows, pool.threads(), index);
            // SAFETY: the threads' rows are disjoint.
            let y = unsafe { y.part(rows.start * matrix.columns..rows.end * matrix.columns) };
            // SAFETY: the kernel uses slices.
            unsafe { dispatch(isa, Applied { lines: *self, groups, matrix, rows, y }) }
        });
    }
}

/// Some rows of [`Lines::apply`].
struct Applied<'a> {
    lines: Lines<'a>,
    groups: Groups,
    matrix: Matrix<'a>,
    rows: Range<usize>,
    y: &'a mut [f32],
}

impl Kernel for Applied<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let Lines { centre, scale, shift } = self.lines;
        let columns = self.matrix.columns;
        for (row, y) in self.rows.clone().zip(self.y.chunks_exact_mut(columns.max(1))) {
            let x = self.matrix.row(row);
            // SAFETY: the row has so many columns, and there is a number for each group.
            unsafe {
                match self.groups {
                    Groups::Columns(_) => for_each_vector!(V, columns, |at, lanes| {
                        let number = |of: &[f32]| load::<V>(of.as_ptr().add(at), lanes);
                        let centred = load::<V>(x.as_ptr().add(at), lanes).sub(number(centre));
                        let value = centred.mul_add(number(scale), number(shift));
                        store(value, y.as_mut_ptr().add(at), lanes);
                    }),
                    Groups::Rows(_) => {
                        let number = |of: &[f32]| V::splat(of[row]);
                        let [centre, scale, shift] = [number(centre), number(scale), number(shift)];
                        for_each_vector!(V, columns, |at, lanes| {
                            let centred = load::<V>(x.as_ptr().add(at), lanes).sub(centre);
                            let value = centred.mul_add(scale, shift);
                            store(value, y.as_mut_ptr().add(at), lanes);
                        });
                    }
                }
            }
        }
    }
}
