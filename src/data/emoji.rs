// SPDX-License-Identifier: MIT OR Apache-2.0
//! Emoji in two drawing styles, embedded in the crate: colour images with nothing to fetch.

use image::ImageFormat;

use super::colour_images::{ColourImages, PIXELS, SIDE};
use crate::{Error, Result};

/// See `data/emoji/README.md` for the layout, the sources and the licences.
const LABELS: &str = include_str!("../../data/emoji/labels.txt");
const TRAIN: &[u8] = include_bytes!("../../data/emoji/train.png");
const TEST: &[u8] = include_bytes!("../../data/emoji/test.png");

/// Emoji of nine groups as colour images of 32 x 32: those to train on in one drawing style, others to
/// test with in another, so that what is learnt must carry over.
///
/// The training set are 1200 emoji of Twemoji, under CC BY 4.0, the test set 706 others of Noto Emoji,
/// under Apache 2.0, both in no order.
///
/// ```
/// use kiln::data::{Dataset, Emoji};
///
/// let (train, test) = (Emoji::train()?, Emoji::test()?);
/// assert_eq!((train.len(), test.len()), (1200, 706));
/// assert_eq!(train.sample_shape(), [3, 32, 32]);
/// assert_eq!(Emoji::GROUPS[8], "flags");
/// # Ok::<(), kiln::Error>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Emoji;

impl Emoji {
    /// The names of the classes, in the order of their labels.
    pub const GROUPS: [&'static str; 9] = [
        "smileys and emotion",
        "people and body",
        "animals and nature",
        "food and drink",
        "travel and places",
        "activities",
        "objects",
        "symbols",
        "flags",
    ];

    /// The emoji to train on.
    ///
    /// # Errors
    /// [`Error::Device`] if there is no memory for them.
    pub fn train() -> Result<ColourImages> {
        table(TRAIN, "train")
    }

    /// The emoji to test with.
    ///
    /// # Errors
    /// As [`train`](Self::train).
    pub fn test() -> Result<ColourImages> {
        table(TEST, "test")
    }
}

/// The cells of a picture, and the labels of this part.
fn table(picture: &[u8], part: &str) -> Result<ColourImages> {
    let broken = |message: String| Error::Internal { pass: "emoji", message };
    let picture = image::load_from_memory_with_format(picture, ImageFormat::Png)
        .map_err(|error| broken(error.to_string()))?
        .into_rgb8();
    let of_part = LABELS.lines().filter_map(|line| line.strip_prefix(part));
    let label = |line: &str| line.split_whitespace().next().and_then(|label| label.parse().ok());
    let labels: Option<Vec<u8>> = of_part.map(label).collect();
    let labels = labels.ok_or_else(|| broken("a label is no number".into()))?;
    let columns = picture.width() as usize / SIDE;
    let mut pixels = Vec::with_capacity(labels.len() * PIXELS);
    for number in 0..labels.len() {
        let (left, top) = (number % columns * SIDE, number / columns * SIDE);
        for channel in 0..3 {
            for place in 0..SIDE * SIDE {
                let (x, y) = (left + place % SIDE, top + place / SIDE);
                let pixel = picture.get_pixel_checked(x as u32, y as u32);
                let pixel = pixel.ok_or_else(|| broken("a picture is too small".into()))?;
                pixels.push(pixel.0[channel]);
            }
        }
    }
    Ok(ColourImages { pixels, labels, classes: Emoji::GROUPS.len() })
}
