// SPDX-License-Identifier: MIT OR Apache-2.0
//! How lanes move and are added up, the same way in every instruction set.

use super::super::base::{dispatch, Kernel, Vector};
use super::*;

/// 16 vectors of at most 16 lanes.
const VALUES: usize = 16 * 16;

/// Compresses the first lanes and expands them again, for the lowest bits.
struct ThereAndBack<'a> {
    values: &'a [f32],
    bits: u32,
}

impl Kernel for ThereAndBack<'_> {
    /// The values where bits are set, the lanes compressed, and expanded again.
    type Output = [Vec<f32>; 3];

    #[inline(always)]
    unsafe fn run<V: Vector>(self) -> [Vec<f32>; 3] {
        let bits = self.bits & (u32::MAX >> (32 - V::LANES));
        let set = |lane: &usize| bits >> lane & 1 != 0;
        let kept = (0..V::LANES).map(|lane| if set(&lane) { self.values[lane] } else { 0.0 });
        // SAFETY: there are more values than lanes.
        let compressed = unsafe { V::load(self.values.as_ptr()) }.compress(bits);
        let expanded = compressed.expand(bits);
        let count = bits.count_ones() as usize;
        [
            kept.collect(),
            compressed.lanes()[..count].to_vec(),
            expanded.lanes()[..V::LANES].to_vec(),
        ]
    }
}

#[test]
fn expanding_undoes_compressing() {
    let values = noise(VALUES, 1);
    for isa in Isa::available() {
        for bits in (0..1 << 16).step_by(37).chain([0xffff]) {
            // SAFETY: the kernel reads one vector of the values.
            let [kept, compressed, expanded] =
                unsafe { dispatch(isa, ThereAndBack { values: &values, bits }) };
            assert_eq!(expanded, kept, "{isa}, bits {bits:#x}");
            let in_order: Vec<f32> = kept.into_iter().filter(|&value| value != 0.0).collect();
            assert_eq!(compressed, in_order, "{isa}, bits {bits:#x}");
        }
    }
}

/// Adds up the lanes of as many vectors as there are lanes.
struct SumEach<'a>(&'a [f32]);

impl Kernel for SumEach<'_> {
    /// The sums.
    type Output = Vec<f32>;

    #[inline(always)]
    unsafe fn run<V: Vector>(self) -> Vec<f32> {
        // SAFETY: there are 16 vectors of 16 lanes.
        unsafe { V::sum_each(self.0.as_ptr()) }.lanes()[..V::LANES].to_vec()
    }
}

#[test]
fn each_vector_has_its_own_sum() {
    let values = noise(VALUES, 2);
    for isa in Isa::available() {
        // SAFETY: there are 16 vectors of 16 lanes.
        let sums = unsafe { dispatch(isa, SumEach(&values)) };
        let lanes = sums.len();
        let want: Vec<f64> = values
            .chunks(lanes)
            .take(lanes)
            .map(|vector| vector.iter().map(|&lane| f64::from(lane)).sum())
            .collect();
        assert_close(&sums, &want, rounding(lanes));
    }
}

#[test]
fn a_sum_does_not_depend_on_its_place() {
    for isa in Isa::available() {
        let lanes = if isa == Isa::Avx512 { 16 } else { 8 };
        let values = noise(lanes, 3).repeat(VALUES / lanes);
        // SAFETY: there are 16 vectors of 16 lanes.
        let sums = unsafe { dispatch(isa, SumEach(&values)) };
        assert!(sums.iter().all(|sum| sum.to_bits() == sums[0].to_bits()), "{isa}: {sums:?}");
    }
}
