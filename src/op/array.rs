// SPDX-License-Identifier: MIT OR Apache-2.0
//! The values that plain meanings compute with.

use crate::Shape;

/// A row-major array of `f64`: slow, obvious and precise enough to judge `f32` kernels by.
///
/// Integers are held as the equal floating-point numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    /// The extents.
    pub shape: Shape,
    /// The elements, row-major.
    pub data: Vec<f64>,
}

impl Array {
    /// An array from its parts.
    ///
    /// # Panics
    /// If `data` does not have as many elements as `shape`; arrays are made by the interpreter and
    /// by tests, never from user input.
    pub fn new(shape: Shape, data: Vec<f64>) -> Self {
        assert_eq!(shape.elements(), data.len(), "array of shape {shape}");
        Array { shape, data }
    }

    /// One number.
    pub fn scalar(value: f64) -> Self {
        Array { shape: Shape::scalar(), data: vec![value] }
    }

    /// An array of zeros.
    pub fn zeros(shape: &Shape) -> Self {
        Array { shape: shape.clone(), data: vec![0.0; shape.elements()] }
    }

    /// Applies a function to each element.
    pub fn map(&self, function: impl Fn(f64) -> f64) -> Self {
        let data = self.data.iter().map(|&x| function(x)).collect();
        Array { shape: self.shape.clone(), data }
    }

    /// Applies a function to each pair of elements of two arrays of the same shape.
    pub fn zip(&self, other: &Array, function: impl Fn(f64, f64) -> f64) -> Self {
        assert_eq!(self.shape, other.shape, "element-wise function of two arrays");
        let data = self.data.iter().zip(&other.data).map(|(&a, &b)| function(a, b)).collect();
        Array { shape: self.shape.clone(), data }
    }

    /// The same elements under another shape.
    pub fn reshaped(&self, shape: &Shape) -> Self {
        Array::new(shape.clone(), self.data.clone())
    }

    /// The rows along the innermost extent.
    pub fn rows(&self) -> impl Iterator<Item = &[f64]> {
        self.data.chunks_exact(self.shape.last().max(1))
    }
}
