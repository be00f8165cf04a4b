// SPDX-License-Identifier: MIT OR Apache-2.0
//! Masks on demand: the keep decisions of any dropout site, at any step, without running anything.

use crate::philox::{drop15, keep, scale_of, MaskKey};

/// The mask function of one dropout site.
///
/// ```
/// use kiln::mask::Mask;
///
/// let mask = Mask::new(7, "dropout1#0", 0.5);
/// let kept = (0..10_000).filter(|&element| mask.keeps(0, 3, element)).count();
/// assert!((4750..5250).contains(&kept));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mask {
    seed: u64,
    site: u32,
    drop15: u16,
}

impl Mask {
    /// The mask of a site, named by the layer's path and which of its calls it is
    /// (`"dropout1#0"`), in a network with this seed.
    pub fn new(seed: u64, site: &str, p: f32) -> Self {
        Mask { seed, site: site_of(site), drop15: drop15(p) }
    }

    /// Whether an element is kept in pass `step` of the sample with this index in the global batch.
    /// Where channels are dropped, their numbers are those of the elements.
    pub fn keeps(&self, step: u32, sample: u32, element: u32) -> bool {
        let Mask { seed, site, drop15 } = *self;
        keep(&MaskKey { seed, site, step, drop15 }, sample, element)
    }

    /// The mask of one step of a sequence, for what is drawn anew in each step inside a recurrent layer:
    /// zoneout, and dropout of updates. Steps count from the first, whichever way a layer goes.
    ///
    /// ```
    /// use kiln::mask::Mask;
    ///
    /// let zoneout = Mask::new(7, "lstm.zoneout#0", 0.5);
    /// let kept = |step| (0..64).map(|unit| zoneout.at_step(step).keeps(0, 3, unit)).collect::<Vec<_>>();
    /// assert_ne!(kept(1), kept(2));
    /// ```
    pub fn at_step(self, step: u32) -> Self {
        Mask { site: site_of_step(self.site, step), ..self }
    }

    /// What kept elements are multiplied by.
    pub fn scale(&self) -> f32 {
        scale_of(self.drop15) as f32
    }
}

/// The site of one step's mask: another for each step, since the factor is odd.
pub(crate) fn site_of_step(site: u32, step: u32) -> u32 {
    site.wrapping_add(step.wrapping_mul(0x9e37_79b9))
}

/// The number of a site or parameter name: 32-bit FNV-1a of its bytes.
pub fn site_of(name: &str) -> u32 {
    name.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}
