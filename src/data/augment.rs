// SPDX-License-Identifier: MIT OR Apache-2.0
//! Images that are shifted, mirrored or partly covered, another way in each epoch.

use std::fmt;
use std::sync::Arc;

use super::{Dataset, Draws, Elements, Fields, Pass, Sample};
use crate::{Error, Result};

/// A random change of an image `[channels, height, width]`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Augmentation {
    /// The image with a border of so many zeros on each side, cropped to its size at any place,
    /// as torchvision's `RandomCrop(size, padding)`.
    Crop {
        /// Width of the border.
        padding: usize,
    },
    /// The image mirrored left to right, with this probability.
    Flip {
        /// From 0 to 1.
        probability: f32,
    },
    /// A square of zeros at any place within the image, with this probability: `RandomErasing` of
    /// torchvision with one size, cutout.
    Cutout {
        /// Rows and columns of the square.
        side: usize,
        /// From 0 to 1.
        probability: f32,
    },
}

/// A data set with random changes of its first input, an image `[channels, height, width]`.
///
/// What is drawn depends on the pass and the index of a sample alone: another way in each epoch, and
/// the same whatever the number of threads and after a resume. Zeros are black as long as images are
/// not normalised: put [`Normalised`](super::Normalised) around it. Measure on a data set without it.
///
/// ```
/// use std::sync::Arc;
/// use kiln::data::{Augmentation, Augmented, Digits, Loader, LoaderConfig};
///
/// let digits = Arc::new(Digits::load().to_32x32_rgb());
/// let changes = [
///     Augmentation::Crop { padding: 4 },
///     Augmentation::Flip { probability: 0.5 },
///     Augmentation::Cutout { side: 8, probability: 1.0 },
/// ];
/// let train = Augmented::new(digits, changes)?;
/// // Other choices for another seed.
/// let config = LoaderConfig { batch_size: 64, seed: 7, ..LoaderConfig::default() };
/// let batch = Loader::new(Arc::new(train), config)?.next_batch()?;
/// assert_eq!(batch.inputs[0].shape().dims(), [64, 3, 32, 32]);
/// # Ok::<(), kiln::Error>(())
/// ```
#[derive(Clone)]
pub struct Augmented {
    inner: Arc<dyn Dataset>,
    changes: Vec<Augmentation>,
    first_stage: u8,
    size: [usize; 2],
}

impl Augmented {
    /// Makes these changes, one after the other, to every sample of `inner` that is read. Each draws
    /// from a stage of its own (see [`Pass::draws`]), from 0 on.
    ///
    /// # Errors
    /// [`Error::Argument`] unless the first input is an `f32` image `[channels, height, width]`, and
    /// for probabilities that are none, a square that is empty or larger than the image, a border
    /// that is larger than it and more changes than there are stages; all of them at once.
    pub fn new(inner: Arc<dyn Dataset>, changes: impl Into<Vec<Augmentation>>) -> Result<Self> {
        let (fields, changes) = (inner.fields(), changes.into());
        fields.check()?;
        let size = image_size(&fields)?;
        let mut errors: Vec<Error> =
            changes.iter().filter_map(|change| change.check(size).err()).collect();
        if changes.len() > STAGES {
            errors.push(Error::argument("changes", format!("at most {STAGES}"), changes.len()));
        }
        Error::check(errors)?;
        Ok(Augmented { inner, changes, first_stage: 0, size })
    }

    /// The same, drawing from this stage on: for one around another that draws too.
    #[must_use]
    pub fn from_stage(self, first_stage: u8) -> Self {
        Augmented { first_stage, ..self }
    }
}

/// Values of a stage.
const STAGES: usize = 256;

impl Dataset for Augmented {
    fn len(&self) -> usize {
        self.inner.len()
    }

    fn fields(&self) -> Fields {
        self.inner.fields()
    }

    fn read(&self, index: usize, pass: Pass, sample: &mut Sample<'_>) -> Result<()> {
        self.inner.read(index, pass, sample)?;
        let image = sample.input(0).f32()?;
        for (stage, change) in
            (self.first_stage..=u8::MAX).chain(0..self.first_stage).zip(&self.changes)
        {
            change.apply(image, self.size, pass.draws(index, stage));
        }
        Ok(())
    }

    fn length(&self, index: usize) -> usize {
        self.inner.length(index)
    }
}

impl Augmentation {
    fn check(self, [height, width]: [usize; 2]) -> Result<()> {
        let least = height.min(width);
        let (what, probability) = match self {
            Augmentation::Crop { padding } if padding <= least => return Ok(()),
            Augmentation::Crop { padding } => {
                let expected = format!("at most {least}, a side of the image");
                return Err(Error::argument("padding", expected, padding));
            }
            Augmentation::Cutout { side, .. } if side == 0 || side > least => {
                let expected = format!("from 1 to {least}, a side of the image");
                return Err(Error::argument("side", expected, side));
            }
            Augmentation::Flip { probability } => ("probability of flips", probability),
            Augmentation::Cutout { probability, .. } => ("probability of cutouts", probability),
        };
        match (0.0..=1.0).contains(&probability) {
            true => Ok(()),
            false => Err(Error::argument(what, "a number from 0 to 1", probability)),
        }
    }

    /// How much is drawn never depends on what was drawn.
    fn apply(self, image: &mut [f32], [height, width]: [usize; 2], mut draws: Draws) {
        let planes = image.chunks_exact_mut(height * width);
        match self {
            Augmentation::Crop { padding } => {
                let place = |draws: &mut Draws| {
                    draws.below(2 * padding as u32 + 1) as isize - padding as isize
                };
                let (down, right) = (place(&mut draws), place(&mut draws));
                planes.for_each(|plane| shift(plane, width, down, right));
            }
            Augmentation::Flip { probability } => {
                if draws.chance(probability) {
                    planes
                        .for_each(|plane| plane.chunks_exact_mut(width).for_each(<[f32]>::reverse));
                }
            }
            Augmentation::Cutout { side, probability } => {
                let is_cut = draws.chance(probability);
                let top = draws.below((height - side + 1) as u32) as usize;
                let left = draws.below((width - side + 1) as u32) as usize;
                if is_cut {
                    for plane in planes {
                        let rows = plane.chunks_exact_mut(width).skip(top).take(side);
                        rows.for_each(|row| row[left..][..side].fill(0.0));
                    }
                }
            }
        }
    }
}

/// Each pixel becomes the one so many rows below and columns to the right of it, 0 past the edges.
fn shift(plane: &mut [f32], width: usize, down: isize, right: isize) {
    let height = plane.len() / width;
    let kept = width - right.unsigned_abs();
    // What stands at the beginning of a row comes from `from`, and goes to `to`.
    let (from, to) = (right.max(0) as usize, (-right).max(0) as usize);
    let mut one = |row: usize| {
        let start = row * width;
        match row.checked_add_signed(down).filter(|source| *source < height) {
            None => plane[start..][..width].fill(0.0),
            Some(source) => {
                let source = source * width + from;
                plane.copy_within(source..source + kept, start + to);
                plane[start..][..to].fill(0.0);
                plane[start + to + kept..start + width].fill(0.0);
            }
        }
    };
    // No row is written before it is read.
    match down >= 0 {
        true => (0..height).for_each(&mut one),
        false => (0..height).rev().for_each(&mut one),
    }
}

/// Height and width of the first input.
fn image_size(fields: &Fields) -> Result<[usize; 2]> {
    let input = &fields.inputs[0];
    match input.shape[..] {
        [_, height, width]
            if input.elements == Elements::F32
                && input.varying.is_none()
                && u32::try_from(height.max(width)).is_ok_and(|side| side < u32::MAX / 4) =>
        {
            Ok([height, width])
        }
        _ => {
            let got = format!("{:?} of {:?}", input.shape, input.elements);
            Err(Error::argument("sample_shape", "an f32 image [channels, height, width]", got))
        }
    }
}

impl fmt::Debug for Augmented {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Augmented")
            .field("len", &self.len())
            .field("changes", &self.changes)
            .field("first_stage", &self.first_stage)
            .finish_non_exhaustive()
    }
}
