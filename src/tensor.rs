// SPDX-License-Identifier: MIT OR Apache-2.0
//! Host tensors: what goes into a network and what comes out of it.

use std::any::Any;
use std::fmt::Debug;
use std::ops::Range;
use std::sync::Arc;

use crate::op::TensorType;
use crate::{allocate, DType, Error, Result, Shape};

/// A row-major tensor in host memory; cloning shares the elements.
///
/// ```
/// let x = kiln::Tensor::new([2, 3], vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0])?;
/// assert_eq!(x.shape().dims(), [2, 3]);
/// # Ok::<(), kiln::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Tensor {
    shape: Shape,
    data: Data,
}

/// Floating-point numbers that lie where a backend finds them without the host: such as rows of a table on a
/// device.
pub(crate) trait Elsewhere: Debug + Send + Sync {
    /// The elements; the host has them from then on.
    fn values(&self) -> Result<&[f32]>;

    /// A range of so many samples, without the elements, where that is possible.
    fn samples(&self, of: usize, range: Range<usize>) -> Option<Arc<dyn Elsewhere>>;

    /// For the backend that knows what it is.
    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync>;
}

#[derive(Clone, Debug)]
enum Data {
    F32(Arc<Vec<f32>>),
    Elsewhere(Arc<dyn Elsewhere>),
    I32(Arc<Vec<i32>>),
    I64(Arc<Vec<i64>>),
    /// Zeros that there is no memory for, which whoever reads them is told.
    Refused,
}

impl Tensor {
    /// A tensor of floating-point numbers.
    ///
    /// # Errors
    /// [`Error::Shape`] if `data` does not have as many elements as `shape`, or `shape` is of more
    /// than [`Shape::MOST_ELEMENTS`].
    pub fn new(shape: impl Into<Shape>, data: Vec<f32>) -> Result<Self> {
        let shape = checked(shape.into(), data.len())?;
        Ok(Tensor { shape, data: Data::F32(Arc::new(data)) })
    }

    /// A tensor of integers, such as class labels.
    ///
    /// # Errors
    /// [`Error::Shape`] if `data` does not have as many elements as `shape`, or `shape` is of more
    /// than [`Shape::MOST_ELEMENTS`].
    pub fn labels(shape: impl Into<Shape>, data: Vec<i32>) -> Result<Self> {
        let shape = checked(shape.into(), data.len())?;
        Ok(Tensor { shape, data: Data::I32(Arc::new(data)) })
    }

    /// A tensor of 64-bit integers, such as a network's counters.
    ///
    /// # Errors
    /// [`Error::Shape`] if `data` does not have as many elements as `shape`, or `shape` is of more
    /// than [`Shape::MOST_ELEMENTS`].
    pub fn from_counters(shape: impl Into<Shape>, data: Vec<i64>) -> Result<Self> {
        let shape = checked(shape.into(), data.len())?;
        Ok(Tensor { shape, data: Data::I64(Arc::new(data)) })
    }

    /// A tensor of zeros. If there is no memory for them, whatever reads the elements or runs on
    /// the tensor gets the error.
    ///
    /// ```
    /// use kiln::Tensor;
    ///
    /// assert_eq!(Tensor::zeros([2]).values()?, [0.0, 0.0]);
    /// let error = Tensor::zeros([1 << 62, 4]).values().unwrap_err().to_string();
    /// assert!(error.starts_with("tensor: expected a shape of at most"), "{error}");
    /// # Ok::<(), kiln::Error>(())
    /// ```
    pub fn zeros(shape: impl Into<Shape>) -> Self {
        let shape = shape.into();
        let zeros = match shape.is_allowed() {
            true => allocate::zeros(shape.elements(), TENSOR).ok(),
            false => None,
        };
        let data = zeros.map_or(Data::Refused, |zeros| Data::F32(Arc::new(zeros)));
        Tensor { shape, data }
    }

    /// Integers that came as 32-bit words in the place of floating-point numbers, as backends hand
    /// them out.
    pub(crate) fn from_words(shape: Shape, words: &[f32]) -> Result<Self> {
        let mut integers = allocate::room(words.len(), TENSOR)?;
        integers.extend(words.iter().map(|word| word.to_bits() as i32));
        Self::labels(shape, integers)
    }

    /// Shares elements that are already counted; the executor's way to hand out its outputs.
    pub(crate) fn from_shared(shape: Shape, data: Arc<Vec<f32>>) -> Self {
        debug_assert_eq!(shape.elements(), data.len());
        Tensor { shape, data: Data::F32(data) }
    }

    /// Elements that lie elsewhere, as many as the shape has.
    pub(crate) fn from_elsewhere(shape: impl Into<Shape>, data: Arc<dyn Elsewhere>) -> Self {
        Tensor { shape: shape.into(), data: Data::Elsewhere(data) }
    }

    /// Where the elements lie, if that is elsewhere.
    pub(crate) fn elsewhere(&self) -> Option<&Arc<dyn Elsewhere>> {
        match &self.data {
            Data::Elsewhere(data) => Some(data),
            Data::F32(_) | Data::I32(_) | Data::I64(_) | Data::Refused => None,
        }
    }

    /// The extents.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// The element type.
    pub fn dtype(&self) -> DType {
        match self.data {
            Data::F32(_) | Data::Elsewhere(_) | Data::Refused => DType::F32,
            Data::I32(_) => DType::I32,
            Data::I64(_) => DType::I64,
        }
    }

    /// Shape and element type.
    pub fn ty(&self) -> TensorType {
        TensorType { shape: self.shape.clone(), dtype: self.dtype() }
    }

    /// The elements of a floating-point tensor, row-major.
    ///
    /// # Errors
    /// [`Error::Shape`] if the elements are integers; [`Error::Device`] if there was no memory for
    /// them.
    pub fn values(&self) -> Result<&[f32]> {
        match &self.data {
            Data::F32(data) => Ok(data),
            Data::Elsewhere(data) => data.values(),
            Data::I32(_) | Data::I64(_) => Err(self.wrong_type(DType::F32)),
            Data::Refused => Err(self.refused()),
        }
    }

    /// The elements of an integer tensor, row-major.
    ///
    /// # Errors
    /// [`Error::Shape`] if the elements are floating-point numbers.
    pub fn integers(&self) -> Result<&[i32]> {
        match &self.data {
            Data::I32(data) => Ok(data),
            _ => Err(self.wrong_type(DType::I32)),
        }
    }

    /// The elements of a tensor of 64-bit integers, row-major.
    ///
    /// # Errors
    /// [`Error::Shape`] if the elements are of another type.
    pub fn counters(&self) -> Result<&[i64]> {
        match &self.data {
            Data::I64(data) => Ok(data),
            _ => Err(self.wrong_type(DType::I64)),
        }
    }

    /// The only element of a one-element tensor.
    ///
    /// # Errors
    /// [`Error::Shape`] if there are several elements or none, or if they are integers.
    pub fn item(&self) -> Result<f32> {
        match self.values()? {
            [value] => Ok(*value),
            _ => Err(shape_error("item", "one element", &self.shape)),
        }
    }

    /// The same elements under another shape.
    ///
    /// # Errors
    /// [`Error::Shape`] if the number of elements differs or the shape is of more than
    /// [`Shape::MOST_ELEMENTS`].
    pub fn reshaped(&self, shape: impl Into<Shape>) -> Result<Self> {
        let shape = checked(shape.into(), self.shape.elements())?;
        Ok(Tensor { shape, data: self.data.clone() })
    }

    /// Samples `start..end` of the first extent, copied.
    ///
    /// # Errors
    /// [`Error::Shape`] if the range is empty or reaches past the last sample.
    pub fn samples(&self, start: usize, end: usize) -> Result<Self> {
        if start >= end || end > self.shape.samples() || self.shape.rank() == 0 {
            let expected = format!("a range within {} samples", self.shape.samples());
            return Err(shape_error("samples", &expected, format!("{start}..{end}")));
        }
        if let Data::Refused = self.data {
            return Err(self.refused());
        }
        let size = self.shape.sample_elements();
        let range = start * size..end * size;
        let data = match &self.data {
            Data::F32(data) => Data::F32(Arc::new(copied(&data[range])?)),
            Data::Elsewhere(data) => match data.samples(self.shape.samples(), start..end) {
                Some(data) => Data::Elsewhere(data),
                None => Data::F32(Arc::new(copied(&data.values()?[range])?)),
            },
            Data::I32(data) => Data::I32(Arc::new(copied(&data[range])?)),
            Data::I64(data) => Data::I64(Arc::new(copied(&data[range])?)),
            Data::Refused => Data::Refused, // told above
        };
        Ok(Tensor { shape: self.shape.with_samples(end - start), data })
    }

    /// Checks that there is memory for the elements.
    ///
    /// # Errors
    /// [`Error::Device`] if not, [`Error::Shape`] if they are more than a tensor has.
    pub(crate) fn check(&self) -> Result<()> {
        match self.data {
            Data::Refused => Err(self.refused()),
            _ => Ok(()),
        }
    }

    /// For each row along the innermost extent, the index of its first largest element.
    ///
    /// ```
    /// # use kiln::Tensor;
    /// let scores = Tensor::new([2, 3], vec![0.1, 0.7, 0.2, 0.5, 0.1, 0.5])?;
    /// assert_eq!(scores.argmax()?, [1, 0]);
    /// assert!(Tensor::new([1, 2], vec![f32::NAN, 1.0])?.argmax().is_err());
    /// # Ok::<(), kiln::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Shape`] if the elements are integers or a row is empty; [`Error::Argument`] if an
    /// element is NaN, which is neither larger nor smaller than another.
    pub fn argmax(&self) -> Result<Vec<usize>> {
        let width = self.shape.last();
        if width == 0 {
            return Err(shape_error("argmax", "rows of at least one element", &self.shape));
        }
        let rows = self.values()?.chunks_exact(width).enumerate();
        rows.map(|(number, row)| {
            if row.iter().any(|value| value.is_nan()) {
                return Err(Error::argument("argmax", "numbers", format!("NaN in row {number}")));
            }
            let larger = |best, index| if row[index] > row[best] { index } else { best };
            Ok((1..row.len()).fold(0, larger))
        })
        .collect()
    }

    fn wrong_type(&self, expected: DType) -> Error {
        shape_error("tensor", &format!("{expected} elements"), self.dtype())
    }

    /// Why there are no elements.
    fn refused(&self) -> Error {
        let refused = || allocate::refused::<f32>(self.shape.elements(), TENSOR);
        checked(self.shape.clone(), self.shape.elements()).err().unwrap_or_else(refused)
    }
}

/// By shape, type and elements; zeros that there was no memory for are like one another.
impl PartialEq for Tensor {
    fn eq(&self, other: &Self) -> bool {
        self.shape == other.shape
            && match (&self.data, &other.data) {
                (Data::I32(own), Data::I32(theirs)) => own == theirs,
                (Data::I64(own), Data::I64(theirs)) => own == theirs,
                (Data::Refused, Data::Refused) => true,
                _ => {
                    matches!((self.values(), other.values()), (Ok(own), Ok(theirs)) if own == theirs)
                }
            }
    }
}

const TENSOR: &str = "a tensor";

fn copied<T: Copy>(elements: &[T]) -> Result<Vec<T>> {
    let mut copy = allocate::room(elements.len(), TENSOR)?;
    copy.extend_from_slice(elements);
    Ok(copy)
}

fn checked(shape: Shape, elements: usize) -> Result<Shape> {
    let shape = shape.allowed().map_err(|m| shape_error("tensor", &m.expected, m.got))?;
    if shape.elements() == elements {
        Ok(shape)
    } else {
        let expected = format!("{} elements for shape {shape}", shape.elements());
        Err(shape_error("tensor", &expected, elements))
    }
}

fn shape_error(op: &str, expected: &str, got: impl ToString) -> Error {
    Error::Shape {
        layer: String::new(),
        op: op.into(),
        expected: expected.into(),
        got: got.to_string(),
    }
}
