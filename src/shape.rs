// SPDX-License-Identifier: MIT OR Apache-2.0
//! Shapes: the extents of a tensor, outermost first. The first extent counts samples.

use std::fmt;

use smallvec::SmallVec;

use crate::error::Mismatch;

/// The extents of a tensor in row-major order, outermost first; a scalar has none.
///
/// Any extents make a shape, but a tensor only takes one of at most [`Shape::MOST_ELEMENTS`]
/// elements. All that holds or plans tensors checks this once, where the shape comes in.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Shape(Dims);

/// As many extents as images have lie in the shape itself: plans hold many shapes, and copy them often.
type Dims = SmallVec<[usize; 4]>;

impl Shape {
    /// Most elements of a tensor: more than any machine holds, and few enough that bytes, padding
    /// and products of some of the extents can be counted without a further check.
    pub const MOST_ELEMENTS: usize = match usize::BITS {
        64.. => isize::MAX as usize >> 11,
        _ => isize::MAX as usize >> 4,
    };

    /// The shape of a single number.
    pub fn scalar() -> Self {
        Shape(Dims::new())
    }

    /// The extents, outermost first.
    pub fn dims(&self) -> &[usize] {
        &self.0
    }

    /// Number of extents.
    pub fn rank(&self) -> usize {
        self.0.len()
    }

    /// Number of elements: the product of the extents, 1 for a scalar; `usize::MAX` if it is larger
    /// still, as it is for no tensor.
    ///
    /// ```
    /// use kiln::Shape;
    ///
    /// assert_eq!(Shape::from([2, 3]).elements(), 6);
    /// assert_eq!(Shape::from([1 << 62, 4]).elements(), usize::MAX);
    /// ```
    pub fn elements(&self) -> usize {
        product(&self.0)
    }

    /// Whether a tensor may have this shape: the product of the extents, of those that are not 0
    /// too, is at most [`MOST_ELEMENTS`](Shape::MOST_ELEMENTS).
    pub fn is_allowed(&self) -> bool {
        let whole = self.0.iter().fold(1_usize, |all, &extent| all.saturating_mul(extent.max(1)));
        whole <= Self::MOST_ELEMENTS
    }

    /// The shape, if a tensor may have it.
    pub(crate) fn allowed(self) -> Result<Self, Mismatch> {
        match self.is_allowed() {
            true => Ok(self),
            false => {
                let expected = format!("a shape of at most {} elements", Self::MOST_ELEMENTS);
                Err(Mismatch::new(expected, self))
            }
        }
    }

    /// Number of samples: the first extent, 1 for a scalar.
    pub fn samples(&self) -> usize {
        self.0.first().copied().unwrap_or(1)
    }

    /// Elements in one sample.
    pub fn sample_elements(&self) -> usize {
        product(self.0.get(1..).unwrap_or_default())
    }

    /// The innermost extent, 1 for a scalar.
    pub fn last(&self) -> usize {
        self.0.last().copied().unwrap_or(1)
    }

    /// Rows of the matrix that remains when all extents but the innermost are merged.
    pub fn rows(&self) -> usize {
        product(&self.0[..self.rank().saturating_sub(1)])
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
        let mut dims = Dims::with_capacity(rank);
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

/// The product, never wrapped.
fn product(extents: &[usize]) -> usize {
    extents.iter().fold(1, |all, &extent| all.saturating_mul(extent))
}

impl From<Vec<usize>> for Shape {
    fn from(dims: Vec<usize>) -> Self {
        Shape(Dims::from_slice(&dims))
    }
}

impl From<&[usize]> for Shape {
    fn from(dims: &[usize]) -> Self {
        Shape(Dims::from_slice(dims))
    }
}

impl<const N: usize> From<[usize; N]> for Shape {
    fn from(dims: [usize; N]) -> Self {
        Shape(Dims::from_slice(&dims))
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_of_extents_never_wrap() {
        let huge = Shape::from([1 << 62, 4]);
        assert_eq!(
            (huge.elements(), huge.rows(), huge.sample_elements()),
            (usize::MAX, 1 << 62, 4)
        );
        assert_eq!(Shape::from([usize::MAX, usize::MAX, 2]).rows(), usize::MAX);
        assert_eq!(Shape::from([3, usize::MAX, 2]).sample_elements(), usize::MAX);
        assert_eq!(Shape::from([usize::MAX, 2, 0]).elements(), 0);
        assert_eq!(Shape::scalar().sample_elements(), 1);
    }

    /// An extent of 0 hides no product of the others: kernels multiply some of them.
    #[test]
    fn what_cannot_be_counted_is_not_allowed() {
        for dims in [vec![1 << 62, 4], vec![usize::MAX], vec![1 << 40, 0, 1 << 40]] {
            assert!(!Shape::from(dims.clone()).is_allowed(), "{dims:?}");
        }
        for dims in [vec![], vec![0], vec![784, 0], vec![Shape::MOST_ELEMENTS], vec![1 << 40, 0]] {
            assert!(Shape::from(dims.clone()).is_allowed(), "{dims:?}");
        }
        let error = Shape::from([1 << 62, 4]).allowed().unwrap_err();
        assert_eq!(error.expected, "a shape of at most 4503599627370495 elements");
        assert_eq!(error.got, "[4611686018427387904, 4]");
    }
}
