// SPDX-License-Identifier: MIT OR Apache-2.0
//! What becomes of a convolution's sums before they are stored.

use super::base::{load, store, KeepSchedule, Vector};
use super::choice::TALLEST_TILE;
use super::elementwise::{activate_in_place, Activation};
use super::products::MaskNonZero;
use super::random::{keep_runs, Dropout};

/// What becomes of sums: `mask(dropout(activation(line(sum + bias))))`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConvTail<'a> {
    /// One number per channel of the target, or more behind.
    pub(crate) bias: Option<&'a [f32]>,
    /// Applied to the sum.
    pub(crate) line: Option<ChannelLine<'a>>,
    /// Applied after it.
    pub(crate) activation: Activation,
    /// Applied after it; rows are pixels.
    pub(crate) dropout: Option<Dropout>,
    /// Applied last; as many elements as the target.
    pub(crate) mask: Option<MaskNonZero<'a>>,
}

/// `(sum - centre) * scale + shift`: normalisation with known statistics. One number per channel of the
/// target, or more behind.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ChannelLine<'a> {
    /// What becomes 0.
    pub(crate) centre: &'a [f32],
    /// The factors.
    pub(crate) scale: &'a [f32],
    /// The addends.
    pub(crate) shift: &'a [f32],
}

/// Where a tile's results go. Rows are pixels, columns channels.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spot {
    /// The target's first element.
    pub(super) target: *mut f32,
    /// Number of the tile's first element.
    pub(super) element: usize,
    /// Distance between rows.
    pub(super) step: usize,
    /// Channel of the first column.
    pub(super) channel: usize,
    /// Columns that are not padding.
    pub(super) columns: usize,
}

/// Which elements of some rows of a panel dropout keeps, and what they are multiplied by.
pub(super) struct Kept {
    bits: [u32; TALLEST_TILE],
    scale: f32,
}

impl Kept {
    /// One of the rows.
    pub(super) fn row(&self, row: usize) -> Kept {
        let mut bits = [0; TALLEST_TILE];
        bits[0] = self.bits[row];
        Kept { bits, ..*self }
    }
}

impl Spot {
    /// The same rows from a later column on.
    pub(super) fn beyond(&self, columns: usize) -> Spot {
        Spot {
            element: self.element + columns,
            channel: self.channel + columns,
            columns: self.columns.saturating_sub(columns),
            ..*self
        }
    }

    /// Real columns of a vector.
    #[inline(always)]
    fn lanes<V: Vector>(&self, vector: usize) -> usize {
        self.columns.saturating_sub(vector * V::LANES).min(V::LANES)
    }
}

impl ConvTail<'_> {
    /// Sums, and nothing else.
    pub(crate) const NONE: ConvTail<'static> = ConvTail {
        bias: None,
        line: None,
        activation: Activation::None,
        dropout: None,
        mask: None,
    };

    /// # Panics
    /// If a slice is too short for a target of so many elements and channels.
    pub(super) fn check(&self, elements: usize, channels: usize) {
        assert!(self.bias.is_none_or(|bias| bias.len() >= channels), "bias too short");
        if let Some(ChannelLine { centre, scale, shift }) = self.line {
            let numbers = centre.len().min(scale.len()).min(shift.len());
            assert!(numbers >= channels, "a number for each channel");
        }
        assert!(self.mask.as_ref().is_none_or(|mask| mask.y.len() == elements), "a mask's length");
    }

    /// The schedule of masks, if there is dropout.
    pub(super) fn schedule(&self) -> Option<KeepSchedule> {
        self.dropout.map(|dropout| KeepSchedule::new(&dropout.key))
    }

    /// What dropout keeps of so many rows of a panel that begins at a spot, in a target with so many
    /// channels.
    #[inline(always)]
    pub(super) fn kept<V: Vector>(
        &self,
        schedule: Option<&KeepSchedule>,
        spot: &Spot,
        rows: usize,
        channels: usize,
    ) -> Option<Kept> {
        let (schedule, dropout) = (schedule?, self.dropout.as_ref()?);
        let mut bits = [0; TALLEST_TILE];
        for (four, bits) in bits.chunks_exact_mut(4).enumerate().take(rows.div_ceil(4)) {
            let runs = [0, 1, 2, 3].map(|row: usize| {
                let element = spot.element + (4 * four + row) * spot.step;
                dropout.run(element / channels, channels, spot.channel)
            });
            bits.copy_from_slice(&keep_runs::<V>(schedule, &runs));
        }
        Some(Kept { bits, scale: dropout.scale() })
    }

    /// The tile before the products are added.
    ///
    /// # Safety
    /// The columns are channels that [`ConvTail::check`] knew.
    #[inline(always)]
    pub(super) unsafe fn start<V: Vector, const R: usize, const C: usize>(
        &self,
        spot: &Spot,
    ) -> [[V; C]; R] {
        let mut tile = [[V::splat(0.0); C]; R];
        if let Some(bias) = self.bias {
            for vector in 0..C {
                let from = bias.as_ptr().wrapping_add(spot.channel + vector * V::LANES);
                // SAFETY: the caller's; no lane lies behind the last channel.
                let bias = unsafe { load::<V>(from, spot.lanes::<V>(vector)) };
                for row in &mut tile {
                    row[vector] = bias;
                }
            }
        }
        tile
    }

    /// The tail, and the store. `first` is the tile's first column in the panel that `kept` is of.
    ///
    /// # Safety
    /// The spot lies in the target, whose elements [`ConvTail::check`] knew, and is this thread's.
    #[inline(always)]
    pub(super) unsafe fn finish<V: Vector, const R: usize, const C: usize>(
        &self,
        mut tile: [[V; C]; R],
        spot: &Spot,
        first: usize,
        kept: Option<&Kept>,
    ) {
        if let Some(line) = &self.line {
            // SAFETY: the caller's.
            unsafe { line.apply(&mut tile, spot) }
        }
        match self.activation {
            Activation::None => {}
            Activation::Relu => {
                for row in &mut tile {
                    for value in row {
                        // The operand order lets NaN through.
                        *value = V::splat(0.0).max(*value);
                    }
                }
            }
            activation => {
                // SAFETY: the caller's.
                unsafe { self.activate(activation, &mut tile, spot) }
            }
        }
        if let Some(Kept { bits, scale }) = kept {
            let scale = V::splat(*scale);
            for row in 0..R {
                for vector in 0..C {
                    let keep = V::mask(bits[row] >> (first + vector * V::LANES));
                    tile[row][vector] =
                        V::select(keep, tile[row][vector].mul(scale), V::splat(0.0));
                }
            }
        }
        for vector in 0..C {
            let lanes = spot.lanes::<V>(vector);
            for row in 0..R {
                let at = spot.element + row * spot.step + vector * V::LANES;
                let mut value = tile[row][vector];
                // SAFETY: the caller's; only real columns are read and written.
                unsafe {
                    if let Some(mask) = &self.mask {
                        let y = load::<V>(mask.y.as_ptr().wrapping_add(at), lanes);
                        let passed = value.mul(V::splat(mask.scale));
                        value = V::select(y.differs(V::splat(0.0)), passed, V::splat(0.0));
                    }
                    store(value, spot.target.wrapping_add(at), lanes);
                }
            }
        }
    }

    /// Activations too long to be unrolled over a tile, in the target's memory.
    ///
    /// # Safety
    /// As [`ConvTail::finish`].
    #[inline(always)]
    unsafe fn activate<V: Vector, const R: usize, const C: usize>(
        &self,
        activation: Activation,
        tile: &mut [[V; C]; R],
        spot: &Spot,
    ) {
        let columns = spot.columns.min(C * V::LANES);
        for row in 0..R {
            let to = spot.target.wrapping_add(spot.element + row * spot.step);
            // SAFETY: the caller's; only real columns are read and written.
            unsafe {
                for vector in 0..C {
                    let lanes = spot.lanes::<V>(vector);
                    store(tile[row][vector], to.wrapping_add(vector * V::LANES), lanes);
                }
                let values = std::slice::from_raw_parts_mut(to, columns);
                activate_in_place::<V>(activation, values);
                for vector in 0..C {
                    let lanes = spot.lanes::<V>(vector);
                    tile[row][vector] = load(to.wrapping_add(vector * V::LANES), lanes);
                }
            }
        }
    }
}

impl ChannelLine<'_> {
    /// # Safety
    /// The columns are channels that [`ConvTail::check`] knew.
    #[inline(always)]
    unsafe fn apply<V: Vector, const R: usize, const C: usize>(
        &self,
        tile: &mut [[V; C]; R],
        spot: &Spot,
    ) {
        for vector in 0..C {
            let (at, lanes) = (spot.channel + vector * V::LANES, spot.lanes::<V>(vector));
            let [centre, scale, shift] = [self.centre, self.scale, self.shift].map(|numbers| {
                // SAFETY: the caller's; no lane lies behind the last channel.
                unsafe { load::<V>(numbers.as_ptr().wrapping_add(at), lanes) }
            });
            for row in tile.iter_mut() {
                row[vector] = row[vector].sub(centre).mul_add(scale, shift);
            }
        }
    }
}
