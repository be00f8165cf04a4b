// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the loader asks of a data set.

use super::{Elements, Fields, Pass, Sample};
use crate::{Error, Result};

/// Samples that all hold the same [fields](Fields), read by index: images with a class each, or any
/// inputs and targets of `f32` and `i32`.
///
/// A sample must depend on its index and on the [`Pass`] alone: a resumed run reads it again. The
/// loader reads from several threads at once.
///
/// ```
/// use kiln::data::{Batch, Dataset, Fields, Pass, Sample};
///
/// /// The numbers from 0 up, labelled odd (1) or even (0).
/// struct Parity;
///
/// impl Dataset for Parity {
///     fn len(&self) -> usize {
///         100
///     }
///     fn fields(&self) -> Fields {
///         Fields::labelled([1], 2)
///     }
///     fn read(&self, index: usize, _: Pass, sample: &mut Sample<'_>) -> kiln::Result<()> {
///         self.check_index(index)?;
///         sample.input(0).write_f32(&[index as f32])?;
///         sample.set_label((index % 2) as i32)
///     }
/// }
///
/// let batch = Batch::read(&Parity, &[41, 6], Pass::default())?;
/// assert_eq!(batch.inputs[0].values()?, [41.0, 6.0]);
/// assert_eq!(batch.labels()?, [1, 0]);
/// assert!(Batch::read(&Parity, &[100], Pass::default()).is_err());
/// # Ok::<(), kiln::Error>(())
/// ```
///
/// Several inputs, of integers too, a target that is no class, and noise that is another in each
/// epoch:
///
/// ```
/// use kiln::data::{Dataset, Field, Fields, Pass, Sample};
///
/// struct Houses { areas: Vec<f32>, towns: Vec<i32>, prices: Vec<f32> }
///
/// impl Dataset for Houses {
///     fn len(&self) -> usize {
///         self.prices.len()
///     }
///     fn fields(&self) -> Fields {
///         Fields::of(Field::f32([1])).input(Field::i32([])).target(Field::f32([1]))
///     }
///     fn read(&self, index: usize, pass: Pass, sample: &mut Sample<'_>) -> kiln::Result<()> {
///         self.check_index(index)?;
///         let noise = pass.draws(index, 0).unit() - 0.5;
///         sample.input(0).write_f32(&[self.areas[index] + noise])?;
///         sample.input(1).write_i32(&[self.towns[index]])?;
///         sample.target(0).write_f32(&[self.prices[index]])
///     }
/// }
/// ```
pub trait Dataset: Send + Sync {
    /// The number of samples.
    fn len(&self) -> usize;

    /// Whether there are no samples at all.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What every sample holds.
    fn fields(&self) -> Fields;

    /// Writes every field of sample `index`. What it draws at random depends on the pass, which says
    /// the epoch, and on the index alone; see [`Pass::draws`].
    ///
    /// # Errors
    /// [`Error::Argument`] if `index` is not below [`len`](Self::len), and whatever keeps the data
    /// set from reading the sample.
    fn read(&self, index: usize, pass: Pass, sample: &mut Sample<'_>) -> Result<()>;

    /// Whether a sample is the same in every pass, so that it may be read once and [kept on a
    /// device](super::OnDevice); no, unless a data set says so.
    fn is_fixed(&self) -> bool {
        false
    }

    /// How long the sample of this index is, for [batches of like lengths](super::Shuffle::LikeLengths);
    /// 0 unless a data set says otherwise. It must not change.
    fn length(&self, index: usize) -> usize {
        let _ = index;
        0
    }

    /// The shape of the first input of a sample, without a batch dimension:
    /// `[channels, height, width]` for images.
    fn sample_shape(&self) -> Vec<usize> {
        self.fields().inputs.into_iter().next().map_or(vec![], |input| input.shape)
    }

    /// The number of classes of the first target; 0 if it is none of classes.
    fn classes(&self) -> usize {
        match self.fields().targets.first().map(|target| target.elements) {
            Some(Elements::Classes(classes)) => classes,
            _ => 0,
        }
    }

    /// Checks the argument of [`read`](Self::read); for implementations to call first.
    ///
    /// # Errors
    /// [`Error::Argument`], as described there.
    fn check_index(&self, index: usize) -> Result<()> {
        match index < self.len() {
            true => Ok(()),
            false => Err(Error::argument("index", format!("below {}", self.len()), index)),
        }
    }
}
