// SPDX-License-Identifier: MIT OR Apache-2.0
//! The UCI digits, embedded in the crate: real data with nothing to fetch.

use super::MemoryDataset;
use crate::Result;

/// See `data/uci-digits/README.md` for the layout, the source and the licence.
const FILE: &[u8] = include_bytes!("../../data/uci-digits/digits.bin");
const MAGIC: &[u8; 8] = b"KILNDIG1";
const HEADER: usize = MAGIC.len() + 4 + 4;
const SIDE: usize = 8;
const PIXELS: usize = SIDE * SIDE;
const COUNT: usize = u32::from_le_bytes([FILE[8], FILE[9], FILE[10], FILE[11]]) as usize;

// The file is part of the crate: a wrong one must not compile.
const _: () = {
    assert!(FILE.len() == HEADER + COUNT * PIXELS + COUNT);
    assert!(u32::from_le_bytes([FILE[12], FILE[13], FILE[14], FILE[15]]) as usize == PIXELS);
    let mut at = 0;
    while at < MAGIC.len() {
        assert!(FILE[at] == MAGIC[at]);
        at += 1;
    }
};

/// 1797 handwritten digits of 8 x 8 grey values, classes 0 to 9.
///
/// *Optical Recognition of Handwritten Digits* by E. Alpaydin and C. Kaynak, UCI Machine Learning
/// Repository, 1998, <https://doi.org/10.24432/C50P49>, under CC BY 4.0. These are the 13 writers
/// of its test part: a random split mixes writers and is easier than a split between writers.
///
/// ```
/// use kiln::data::{Dataset, Digits};
///
/// let (train, test) = Digits::load().split(600, 0)?;
/// assert_eq!((train.len(), test.len()), (600, 1197));
/// assert_eq!(train.sample_shape(), [1, 28, 28]);
/// # Ok::<(), kiln::Error>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Digits {
    pixels: &'static [u8],
    labels: &'static [u8],
}

impl Digits {
    /// The digits in the order of the source.
    pub fn load() -> Self {
        let (pixels, labels) = FILE[HEADER..].split_at(COUNT * PIXELS);
        Self { pixels, labels }
    }

    /// Grey values 0..=16 of all digits, 64 for each, row-major.
    pub fn pixels(&self) -> &'static [u8] {
        self.pixels
    }

    /// The digit that each image shows.
    pub fn labels(&self) -> &'static [u8] {
        self.labels
    }

    /// As images `[1, 8, 8]` with values in `[0, 1]`.
    pub fn to_8x8(&self) -> MemoryDataset {
        self.enlarged(Layout { channels: 1, zoom: 1, border: 0 })
    }

    /// As images `[1, 28, 28]`, the size of MNIST: each pixel a square of 3 x 3, a border of 2
    /// zeros.
    pub fn to_28x28(&self) -> MemoryDataset {
        self.enlarged(Layout { channels: 1, zoom: 3, border: 2 })
    }

    /// As images `[3, 32, 32]`, the size of CIFAR-10: each pixel a square of 4 x 4, three equal
    /// channels.
    pub fn to_32x32_rgb(&self) -> MemoryDataset {
        self.enlarged(Layout { channels: 3, zoom: 4, border: 0 })
    }

    /// A training and a test set of `[1, 28, 28]` images: [`to_28x28`](Self::to_28x28), shuffled by
    /// `seed`, the first `train_count` samples and the rest. The same for ever for the same
    /// arguments.
    ///
    /// # Errors
    /// [`Error::Argument`](crate::Error::Argument) if `train_count` exceeds 1797.
    pub fn split(&self, train_count: usize, seed: u64) -> Result<(MemoryDataset, MemoryDataset)> {
        self.to_28x28().shuffled(seed).split(train_count)
    }

    fn enlarged(&self, layout: Layout) -> MemoryDataset {
        let side = SIDE * layout.zoom + 2 * layout.border;
        let mut inputs = Vec::with_capacity(COUNT * layout.channels * side * side);
        for digit in self.pixels.chunks_exact(PIXELS) {
            for _ in 0..layout.channels {
                for place in 0..side * side {
                    let value = layout.source(place, side).map_or(0, |source| digit[source]);
                    inputs.push(f32::from(value) / 16.0);
                }
            }
        }
        let labels = self.labels.iter().map(|&label| i32::from(label)).collect();
        MemoryDataset::new(inputs, &[layout.channels, side, side], labels, 10).expect(
            "one label below 10 and one image for each digit, checked when compiled and tested",
        )
    }
}

/// How an 8 x 8 digit becomes a larger image.
struct Layout {
    channels: usize,
    zoom: usize,
    border: usize,
}

impl Layout {
    /// The pixel of the digit seen at `place` of an image of `side`, `None` on the border.
    fn source(&self, place: usize, side: usize) -> Option<usize> {
        let row = (place / side).checked_sub(self.border)? / self.zoom;
        let column = (place % side).checked_sub(self.border)? / self.zoom;
        (row < SIDE && column < SIDE).then_some(row * SIDE + column)
    }
}
