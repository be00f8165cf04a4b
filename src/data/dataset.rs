// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the loader asks of a data set.

use crate::{Error, Result, Shape};

/// Labelled samples of one shape, read by index.
///
/// A sample must not change from one read to the next: a resumed run reads it again. The loader
/// reads from several threads at once.
///
/// ```
/// use kiln::data::Dataset;
///
/// /// The numbers from 0 up, labelled odd (1) or even (0).
/// struct Parity;
///
/// impl Dataset for Parity {
///     fn len(&self) -> usize {
///         100
///     }
///     fn sample_shape(&self) -> &[usize] {
///         &[1]
///     }
///     fn classes(&self) -> usize {
///         2
///     }
///     fn read(&self, index: usize, into: &mut [f32]) -> kiln::Result<i32> {
///         self.check_read(index, into)?;
///         into[0] = index as f32;
///         Ok((index % 2) as i32)
///     }
/// }
///
/// let mut sample = [0.0];
/// assert_eq!(Parity.read(41, &mut sample)?, 1);
/// assert_eq!(sample, [41.0]);
/// assert!(Parity.read(100, &mut sample).is_err());
/// # Ok::<(), kiln::Error>(())
/// ```
pub trait Dataset: Send + Sync {
    /// The number of samples.
    fn len(&self) -> usize;

    /// Whether there are no samples at all.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The shape of one sample, without a batch dimension: `[channels, height, width]` for images.
    fn sample_shape(&self) -> &[usize];

    /// The number of classes; labels are `0..classes`.
    fn classes(&self) -> usize;

    /// Writes sample `index`, row-major, to `into` and returns its label.
    ///
    /// # Errors
    /// [`Error::Argument`] if `index` is not below [`len`](Self::len) or `into` does not hold
    /// exactly one sample, and whatever keeps the data set from reading the sample.
    fn read(&self, index: usize, into: &mut [f32]) -> Result<i32>;

    /// Checks the arguments of [`read`](Self::read); for implementations to call first.
    ///
    /// # Errors
    /// [`Error::Argument`], as described there.
    fn check_read(&self, index: usize, into: &[f32]) -> Result<()> {
        if index >= self.len() {
            return Err(Error::argument("index", format!("below {}", self.len()), index));
        }
        let wanted = elements(self.sample_shape())?;
        if into.len() != wanted {
            let expected = format!("{wanted} elements, one sample");
            return Err(Error::argument("into", expected, into.len()));
        }
        Ok(())
    }
}

/// The number of elements in a sample of `shape`; at least one.
pub(super) fn elements(shape: &[usize]) -> Result<usize> {
    let shape = Shape::from(shape);
    match shape.elements() {
        all if all > 0 && shape.is_allowed() => Ok(all),
        _ => {
            let expected = "sizes above 0 whose product fits in memory";
            Err(Error::argument("sample_shape", expected, shape))
        }
    }
}
