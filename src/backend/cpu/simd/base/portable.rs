// SPDX-License-Identifier: MIT OR Apache-2.0
//! Eight lanes in plain Rust, which the compiler turns into SSE2 or NEON.

use super::draws::{Group, KeepSchedule};
use super::isa::{Isa, Kernel};
use super::vector::{Vector, ROOT_HALF};
use crate::philox::multipliers;

/// Eight lanes.
#[derive(Clone, Copy)]
pub(super) struct Portable([f32; 8]);

/// A vector whose every lane is an expression of the same lane of the operands.
macro_rules! lanewise {
    ($($name:ident = $operand:expr),+ => $result:expr) => {{
        let mut lanes = [0.0f32; 8];
        for lane in 0..8 {
            $(let $name = $operand.0[lane];)+
            lanes[lane] = $result;
        }
        Portable(lanes)
    }};
}

impl Vector for Portable {
    type Mask = [bool; 8];

    const LANES: usize = 8;
    /// Two vectors of eight lanes are four registers of 128 bits. Of the 32 that aarch64 has, six rows
    /// of sums take 24, the columns four and the rows' values three; SSE2 has half as many.
    const TILE_ROWS: usize = if cfg!(target_arch = "aarch64") { 6 } else { 2 };
    /// Lane by lane it costs more than the zeros.
    const LISTS_ZEROS: bool = Isa::Portable.lists_zeros();

    #[inline(always)]
    unsafe fn enter<K: Kernel>(kernel: K) -> K::Output {
        // SAFETY: the caller's; every machine has this instruction set.
        unsafe { run(kernel) }
    }

    #[inline(always)]
    fn splat(value: f32) -> Self {
        Portable([value; 8])
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller's; the read has no alignment to keep.
        Portable(unsafe { from.cast::<[f32; 8]>().read_unaligned() })
    }

    #[inline(always)]
    unsafe fn load_first(from: *const f32, count: usize) -> Self {
        let mut lanes = [0.0; 8];
        // SAFETY: the caller's for the source; `count` is at most 8.
        unsafe { std::ptr::copy_nonoverlapping(from, lanes.as_mut_ptr(), count) };
        Portable(lanes)
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller's; the write has no alignment to keep.
        unsafe { to.cast::<[f32; 8]>().write_unaligned(self.0) }
    }

    #[inline(always)]
    unsafe fn store_first(self, to: *mut f32, count: usize) {
        // SAFETY: the caller's for the destination; `count` is at most 8.
        unsafe { std::ptr::copy_nonoverlapping(self.0.as_ptr(), to, count) }
    }

    #[inline(always)]
    unsafe fn stream(self, to: *mut f32) {
        // SAFETY: the caller's.
        unsafe { self.store(to) }
    }

    #[inline(always)]
    fn fence() {}

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        lanewise!(a = self, b = other => a + b)
    }

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        lanewise!(a = self, b = other => a - b)
    }

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        lanewise!(a = self, b = other => a * b)
    }

    #[inline(always)]
    fn div(self, other: Self) -> Self {
        lanewise!(a = self, b = other => a / b)
    }

    #[inline(always)]
    fn max(self, other: Self) -> Self {
        lanewise!(a = self, b = other => if a > b { a } else { b })
    }

    #[inline(always)]
    fn min(self, other: Self) -> Self {
        lanewise!(a = self, b = other => if a < b { a } else { b })
    }

    #[inline(always)]
    fn copy_sign(self, sign: Self) -> Self {
        lanewise!(a = self, b = sign => a.copysign(b))
    }

    #[inline(always)]
    fn mul_add(self, factor: Self, addend: Self) -> Self {
        // Without an FMA instruction in the target, `f32::mul_add` is a slow library call.
        if cfg!(target_arch = "aarch64") {
            lanewise!(a = self, b = factor, c = addend => a.mul_add(b, c))
        } else {
            lanewise!(a = self, b = factor, c = addend => a * b + c)
        }
    }

    #[inline(always)]
    fn sqrt(self) -> Self {
        lanewise!(a = self => a.sqrt())
    }

    #[inline(always)]
    fn abs(self) -> Self {
        lanewise!(a = self => a.abs())
    }

    #[inline(always)]
    fn round(self) -> Self {
        // Above 2^23 a float has no fraction bits, so adding rounds, in the default mode to even.
        const INTEGERS: f32 = 1.5 * 8_388_608.0;
        lanewise!(a = self => (a + INTEGERS) - INTEGERS)
    }

    #[inline(always)]
    fn scale_by_power(self, exponent: Self) -> Self {
        // Two factors, so that each is a normal number even where the result is not.
        let power = |exponent: i32| f32::from_bits(((exponent + 127) << 23) as u32);
        lanewise!(a = self, e = exponent => {
            let e = e as i32;
            a * power(e >> 1) * power(e - (e >> 1))
        })
    }

    #[inline(always)]
    fn split(self) -> (Self, Self) {
        let shifted = |x: f32| x.to_bits().wrapping_sub(ROOT_HALF) as i32 >> 23;
        let exponent = lanewise!(a = self => shifted(a) as f32);
        let mantissa = lanewise!(a = self => {
            f32::from_bits(a.to_bits().wrapping_sub((shifted(a) << 23) as u32))
        });
        (mantissa, exponent)
    }

    #[inline(always)]
    fn greater(self, other: Self) -> Self::Mask {
        let mut mask = [false; 8];
        for lane in 0..8 {
            mask[lane] = self.0[lane] > other.0[lane];
        }
        mask
    }

    #[inline(always)]
    fn differs(self, other: Self) -> Self::Mask {
        let mut mask = [false; 8];
        for lane in 0..8 {
            mask[lane] = self.0[lane] != other.0[lane];
        }
        mask
    }

    #[inline(always)]
    fn same_bits(self, other: Self) -> Self::Mask {
        std::array::from_fn(|lane| self.0[lane].to_bits() == other.0[lane].to_bits())
    }

    #[inline(always)]
    fn mask(bits: u32) -> Self::Mask {
        let mut mask = [false; 8];
        for (lane, value) in mask.iter_mut().enumerate() {
            *value = bits >> lane & 1 != 0;
        }
        mask
    }

    #[inline(always)]
    fn select(mask: Self::Mask, yes: Self, no: Self) -> Self {
        let mut lanes = [0.0; 8];
        for lane in 0..8 {
            lanes[lane] = if mask[lane] { yes.0[lane] } else { no.0[lane] };
        }
        Portable(lanes)
    }

    #[inline(always)]
    fn prefetch(_line: *const f32) {}

    #[inline(always)]
    fn prefetch_later(_line: *const f32) {}

    #[inline(always)]
    unsafe fn transpose_8x8(from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize) {
        for row in 0..8 {
            for column in 0..8 {
                // SAFETY: the caller's: both are 8 by 8 blocks at these strides.
                unsafe {
                    *to.add(column * to_stride + row) = *from.add(row * from_stride + column);
                }
            }
        }
    }

    #[inline(always)]
    fn non_zero_bits(self) -> u32 {
        (0..8).fold(0, |bits, lane| bits | u32::from(self.0[lane] != 0.0) << lane)
    }

    #[inline(always)]
    fn compress(self, bits: u32) -> Self {
        let mut first = [0.0; 8];
        let set = (0..8).filter(|lane| bits >> lane & 1 != 0);
        for (to, lane) in first.iter_mut().zip(set) {
            *to = self.0[lane];
        }
        Portable(first)
    }

    #[inline(always)]
    unsafe fn load_quad(from: *const f32) -> Self {
        // SAFETY: the caller's.
        Portable(std::array::from_fn(|lane| unsafe { *from.add(lane % 4) }))
    }

    #[inline(always)]
    fn quad_lane<const INDEX: usize>(self) -> Self {
        Self::splat(self.0[INDEX])
    }

    #[inline(always)]
    fn keep_bits(schedule: &KeepSchedule, groups: &[Group; 4]) -> [u32; 4] {
        let mut words = [[0; BLOCKS]; 4];
        for block in 0..BLOCKS {
            let group = groups[block / 4];
            words[0][block] = group.block.wrapping_add(block as u32 % 4);
            words[1][block] = group.sample;
        }
        words[2] = [schedule.step; BLOCKS];
        words[3] = [schedule.site; BLOCKS];
        for keys in &schedule.round_keys {
            philox_round(&mut words, keys);
        }
        let mut bits = [0; 4];
        for (word, blocks) in words.iter().enumerate() {
            for (block, value) in blocks.iter().enumerate() {
                let low = u32::from(value & 0x7fff >= u32::from(schedule.drop15));
                let high = u32::from(value >> 16 & 0x7fff >= u32::from(schedule.drop15));
                bits[block / 4] |= (low | high << 1) << (8 * (block % 4) + 2 * word);
            }
        }
        bits
    }
}

/// Philox blocks in four groups.
const BLOCKS: usize = 16;

#[inline(always)]
fn philox_round(words: &mut [[u32; BLOCKS]; 4], keys: &[u32; 2]) {
    let [even_factor, odd_factor] = multipliers().map(u64::from);
    for block in 0..BLOCKS {
        let even = even_factor * u64::from(words[0][block]);
        let odd = odd_factor * u64::from(words[2][block]);
        words[0][block] = (odd >> 32) as u32 ^ words[1][block] ^ keys[0];
        words[1][block] = odd as u32;
        words[2][block] = (even >> 32) as u32 ^ words[3][block] ^ keys[1];
        words[3][block] = even as u32;
    }
}

#[inline(never)]
unsafe fn run<K: Kernel>(kernel: K) -> K::Output {
    // SAFETY: the caller's; every machine has this instruction set.
    unsafe { kernel.run::<Portable>() }
}
