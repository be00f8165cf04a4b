// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sizes as kernels take them, in 31 or 32 bits. What does not fit is noted, and the lowering of its step is an error.

use std::cell::Cell;

use super::launch::{Item, Launch};

thread_local! {
    /// The first size of the lowering under way that fits nowhere.
    static UNFIT: Cell<Option<usize>> = const { Cell::new(None) };
}

/// A number of elements, blocks or bytes.
pub(super) fn word(size: usize) -> u32 {
    u32::try_from(size).unwrap_or_else(|_| {
        note(size);
        u32::MAX
    })
}

/// An extent of a matrix, or a place that may be negated.
pub(super) fn signed(size: usize) -> i32 {
    i32::try_from(size).unwrap_or_else(|_| {
        note(size);
        i32::MAX
    })
}

/// A number of something of which there are few.
pub(super) fn few(size: usize) -> u8 {
    u8::try_from(size).unwrap_or_else(|_| {
        note(size);
        u8::MAX
    })
}

/// A real number as kernels take it: the nearest.
#[allow(
    clippy::cast_possible_truncation,
    reason = "a number is rounded, and one beyond f32 is infinite"
)]
pub(super) fn single(number: f64) -> f32 {
    number as f32
}

/// The two halves of a word.
#[allow(clippy::cast_possible_truncation, reason = "either half is what is left of it")]
pub(super) fn halves(word: u64) -> [u32; 2] {
    [word as u32, (word >> 32) as u32]
}

fn note(size: usize) {
    UNFIT.set(UNFIT.get().or(Some(size)));
}

/// What a lowering makes, or the first size in it that kernels cannot be told.
pub(super) fn checked<T>(lower: impl FnOnce() -> T) -> Result<T, usize> {
    UNFIT.set(None);
    let lowered = lower();
    UNFIT.take().map_or(Ok(lowered), Err)
}

/// A grid that no device takes: blocks along an axis, and how many there may be.
pub(super) fn too_many_blocks(items: &[Item]) -> Option<(u32, u32)> {
    let launches = items.iter().filter_map(|item| match item {
        Item::Launch(launch) => Some(launch),
        Item::Copy(_) | Item::Fill(_) => None,
    });
    launches
        .flat_map(|Launch { grid, .. }| grid.blocks.into_iter().zip(MOST_BLOCKS))
        .find(|(blocks, most)| blocks > most)
}

/// Most blocks of a grid along each axis, of every architecture from sm_80 on.
pub(super) const MOST_BLOCKS: [u32; 3] = [0x7fff_ffff, 0xffff, 0xffff];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_told() {
        let most = u32::MAX as usize;
        assert_eq!(checked(|| (word(most), signed(0x7fff_ffff))), Ok((u32::MAX, i32::MAX)));
        assert_eq!(checked(|| [7, most + 1, most + 2].map(word)), Err(most + 1));
        assert_eq!(checked(|| signed(0x8000_0000)), Err(0x8000_0000));
        assert_eq!(checked(|| few(256)), Err(256));
        assert_eq!(checked(|| word(7)), Ok(7), "what was noted before is forgotten");
    }
}
