// SPDX-License-Identifier: MIT OR Apache-2.0
//! Shapes: the extents of a tensor, outermost first. The first extent counts samples.

use std::fmt;

/// The extents of a tensor in row-major order, outermost first; a scalar has none.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Shape(Vec<usize>);

impl Shape {
    /// The shape of a single number.
    pub fn scalar() -> Self {
        Shape(Vec::new())
    }

    /// The extents, outermost first.
    pub fn dims(&self) -> &[usize] {
        &self.0
    }

    /// Number of extents.
    pub fn rank(&self) -> usize {
        self.0.len()
    }

    /// Number of elements: the product of the extents, 1 for a scalar.
    pub fn elements(&self) -> usize {
        self.0.iter().product()
    }

    /// Number of samples: the first extent, 1 for a scalar.
    pub fn samples(&self) -> usize {
        self.0.first().copied().unwrap_or(1)
    }

    /// Elements in one sample.
    pub fn sample_elements(&self) -> usize {
        self.0.iter().skip(1).product()
    }

    /// The innermost extent, 1 for a scalar.
    pub fn last(&self) -> usize {
        self.0.last().copied().unwrap_or(1)
    }

    /// Rows of the matrix that remains when all extents but the innermost are merged.
    pub fn rows(&self) -> usize {
        self.0[..self.rank().saturating_sub(1)].iter().product()
    }

    /// The same shape with another number of samples.
    pub fn with_samples(&self, samples: usize) -> Self {
        let mut dims = self.0.clone();
        match dims.first_mut() {
            Some(first) => *first = samples,
            None => dims.push(samples),
        }
        Shape(dims)
    }

    /// Whether this shape stretches to `target` by NumPy's broadcasting rule: extents are aligned at
    /// the innermost, and each is equal, 1 or missing.
    pub fn broadcasts_to(&self, target: &Shape) -> bool {
        self.rank() <= target.rank()
            && self.0.iter().rev().zip(target.0.iter().rev()).all(|(a, b)| a == b || *a == 1)
    }

    /// The smallest shape that both shapes stretch to, if there is one.
    pub fn broadcast_with(&self, other: &Shape) -> Option<Shape> {
        let rank = self.rank().max(other.rank());
        let extent = |shape: &Shape, back: usize| {
            shape.rank().checked_sub(back).map_or(1, |index| shape.0[index])
        };
        let mut dims = Vec::with_capacity(rank);
        for back in (1..=rank).rev() {
            let (a, b) = (extent(self, back), extent(other, back));
            if a != b && a != 1 && b != 1 {
                return None;
            }
            dims.push(if a == 1 { b } else { a });
        }
        Some(Shape(dims))
    }
}

impl From<Vec<usize>> for Shape {
    fn from(dims: Vec<usize>) -> Self {
        Shape(dims)
    }
}

impl From<&[usize]> for Shape {
    fn from(dims: &[usize]) -> Self {
        Shape(dims.to_vec())
    }
}

impl<const N: usize> From<[usize; N]> for Shape {
    fn from(dims: [usize; N]) -> Self {
        Shape(dims.to_vec())
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}
