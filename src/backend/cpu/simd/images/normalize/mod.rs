// SPDX-License-Identifier: MIT OR Apache-2.0
//! Means and variances of the rows or columns of a matrix, what is normalised with them, and its
//! gradients. An image that lies channels-last is a matrix of pixels by channels.
//!
//! Columns are summed in blocks of rows that fit into the first cache, each around its own mean; blocks
//! are added up in order in `f64`. They are cut by shape alone, so sums do not depend on threads.

mod gradient;
mod lines;
mod statistics;

pub(crate) use gradient::normalize_gradient;
pub(crate) use lines::{normalize, statistics_gradient};
pub(crate) use statistics::statistics;

use super::{base, reductions, split, split_by, Pool, APART};
use std::ops::Range;

/// Elements of a block of rows, and the most rows that are summed in one chain.
const BLOCK_ELEMENTS: usize = 4096;
const BLOCK_ROWS: usize = 256;

/// Vectors of columns whose sums grow side by side: a single one would wait for its own last addition.
const SIDE_BY_SIDE: usize = 4;

/// Which elements of a matrix belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Groups {
    /// Those of a column, of so many.
    Columns(usize),
    /// Those of a row of so many columns.
    Rows(usize),
}

/// A learned factor and addend for each group.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Affine<'a> {
    /// The factors.
    pub(crate) gamma: &'a [f32],
    /// The addends; not used by gradients.
    pub(crate) beta: &'a [f32],
}

/// What is normalised with: one number per group.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Statistics<'a> {
    /// Mean of each group.
    pub(crate) mean: &'a [f32],
    /// Variance of each group.
    pub(crate) variance: &'a [f32],
    /// Added to the variance.
    pub(crate) eps: f64,
}

/// Gradients that are summed over each group, those that are asked for.
#[derive(Debug, Default)]
pub(crate) struct Sums<'a> {
    /// With respect to the mean.
    pub(crate) mean: Option<&'a mut [f32]>,
    /// With respect to the variance.
    pub(crate) variance: Option<&'a mut [f32]>,
    /// With respect to the factor.
    pub(crate) gamma: Option<&'a mut [f32]>,
    /// With respect to the addend.
    pub(crate) beta: Option<&'a mut [f32]>,
}

impl Groups {
    pub(super) fn columns(self) -> usize {
        match self {
            Groups::Columns(columns) | Groups::Rows(columns) => columns,
        }
    }

    /// Rows of a block: one for groups that are rows.
    pub(super) fn block_rows(self) -> usize {
        match self {
            Groups::Columns(columns) => {
                (BLOCK_ELEMENTS / columns.max(1)).clamp(BLOCK_ROWS / 16, BLOCK_ROWS)
            }
            Groups::Rows(_) => 1,
        }
    }
}

impl Statistics<'_> {
    /// What centred elements of each group are multiplied by.
    pub(crate) fn scales(&self, gamma: Option<&[f32]>) -> Vec<f32> {
        let scale = |(group, &variance): (usize, &f32)| {
            let gamma = gamma.map_or(1.0, |gamma| f64::from(gamma[group]));
            (gamma / (f64::from(variance) + self.eps).sqrt()) as f32
        };
        self.variance.iter().enumerate().map(scale).collect()
    }
}

/// Splits columns among the threads by whole cache lines.
pub(super) fn each_columns(pool: &Pool, columns: usize, each: impl Fn(Range<usize>) + Sync) {
    pool.run(&|index| {
        each(split_by(APART / size_of::<f32>(), columns, pool.threads(), index));
    });
}

/// A matrix in blocks of rows.
#[derive(Clone, Copy)]
pub(super) struct Matrix<'a> {
    pub(super) x: &'a [f32],
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) block_rows: usize,
}

impl<'a> Matrix<'a> {
    pub(super) fn new(groups: Groups, x: &'a [f32]) -> Self {
        let columns = groups.columns();
        let rows = x.len().checked_div(columns).unwrap_or(0);
        assert_eq!(rows * columns, x.len(), "whole rows");
        Matrix { x, rows, columns, block_rows: groups.block_rows() }
    }

    pub(super) fn blocks(&self) -> usize {
        self.rows.div_ceil(self.block_rows)
    }

    /// Rows of a block.
    pub(super) fn block(&self, number: usize) -> Range<usize> {
        let row = |number: usize| (number * self.block_rows).min(self.rows);
        row(number)..row(number + 1)
    }

    pub(super) fn row(&self, row: usize) -> &'a [f32] {
        &self.x[row * self.columns..(row + 1) * self.columns]
    }
}
