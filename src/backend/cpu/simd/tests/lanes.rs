// SPDX-License-Identifier: MIT OR Apache-2.0
//! How lanes move, the same way in every instruction set.

use super::super::base::{dispatch, Kernel, Vector};
use super::*;

/// At most as many lanes as a vector has.
const LANES: usize = 16;

/// Compresses the first lanes, for the lowest bits.
struct Compress<'a> {
    values: &'a [f32],
    bits: u32,
}

impl Kernel for Compress<'_> {
    /// The values where bits are set, and the first as many lanes, compressed.
    type Output = [Vec<f32>; 2];

    #[inline(always)]
    unsafe fn run<V: Vector>(self) -> [Vec<f32>; 2] {
        let bits = self.bits & (u32::MAX >> (32 - V::LANES));
        let kept = (0..V::LANES).filter(|lane| bits >> lane & 1 != 0).map(|lane| self.values[lane]);
        // SAFETY: there are as many values as lanes, or more.
        let compressed = unsafe { V::load(self.values.as_ptr()) }.compress(bits);
        [kept.collect(), compressed.lanes()[..bits.count_ones() as usize].to_vec()]
    }
}

#[test]
fn compressing_keeps_what_is_set_in_order() {
    let values = noise(LANES, 1);
    for isa in Isa::available() {
        for bits in (0..1 << LANES).step_by(37).chain([0xffff]) {
            // SAFETY: the kernel reads one vector of the values.
            let [kept, compressed] = unsafe { dispatch(isa, Compress { values: &values, bits }) };
            assert_eq!(compressed, kept, "{isa}, bits {bits:#x}");
        }
    }
}
