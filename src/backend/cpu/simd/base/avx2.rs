// SPDX-License-Identifier: MIT OR Apache-2.0
//! Eight lanes in one AVX2 register.
#![cfg(target_arch = "x86_64")]

use super::draws::{Group, KeepSchedule};
use super::isa::{Isa, Kernel};
use super::vector::{Vector, ROOT_HALF};
use crate::philox::multipliers;
use std::arch::x86_64::*;

/// Eight lanes.
#[derive(Clone, Copy)]
pub(super) struct Avx2(__m256);

/// A method that is one intrinsic on whole registers.
macro_rules! one_instruction {
    ($($name:ident($($operand:ident),*) = $intrinsic:ident;)+) => {$(
        #[inline(always)]
        fn $name(self, $($operand: Self),*) -> Self {
            // SAFETY: values of this type exist only where the machine has AVX2.
            Avx2(unsafe { $intrinsic(self.0, $($operand.0),*) })
        }
    )+};
}

impl Vector for Avx2 {
    /// All bits of a true lane are set.
    type Mask = __m256;

    const LANES: usize = 8;
    /// 12 of 16 registers hold the tile; three more hold the panel's row and a broadcast.
    const TILE_ROWS: usize = 6;
    const LISTS_ZEROS: bool = Isa::Avx2.lists_zeros();

    one_instruction! {
        add(other) = _mm256_add_ps;
        sub(other) = _mm256_sub_ps;
        mul(other) = _mm256_mul_ps;
        div(other) = _mm256_div_ps;
        max(other) = _mm256_max_ps;
        min(other) = _mm256_min_ps;
        mul_add(factor, addend) = _mm256_fmadd_ps;
        sqrt() = _mm256_sqrt_ps;
    }

    #[inline(always)]
    unsafe fn enter<K: Kernel>(kernel: K) -> K::Output {
        // SAFETY: the caller's.
        unsafe { run(kernel) }
    }

    #[inline(always)]
    fn splat(value: f32) -> Self {
        // SAFETY: this type is named only where the machine has AVX2.
        Avx2(unsafe { _mm256_set1_ps(value) })
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller's.
        Avx2(unsafe { _mm256_loadu_ps(from) })
    }

    #[inline(always)]
    unsafe fn load_first(from: *const f32, count: usize) -> Self {
        // SAFETY: the caller's; masked lanes are not read.
        Avx2(unsafe { _mm256_maskload_ps(from, first(count)) })
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller's.
        unsafe { _mm256_storeu_ps(to, self.0) }
    }

    #[inline(always)]
    unsafe fn store_first(self, to: *mut f32, count: usize) {
        // SAFETY: the caller's; masked lanes are not written.
        unsafe { _mm256_maskstore_ps(to, first(count), self.0) }
    }

    #[inline(always)]
    unsafe fn stream(self, to: *mut f32) {
        // SAFETY: the caller's, alignment included.
        unsafe { _mm256_stream_ps(to, self.0) }
    }

    #[inline(always)]
    fn fence() {
        // SAFETY: SSE is part of x86-64.
        unsafe { _mm_sfence() }
    }

    #[inline(always)]
    fn abs(self) -> Self {
        // SAFETY: values of this type exist only where the machine has AVX2.
        Avx2(unsafe { _mm256_andnot_ps(_mm256_set1_ps(-0.0), self.0) })
    }

    #[inline(always)]
    fn copy_sign(self, sign: Self) -> Self {
        // SAFETY: values of this type exist only where the machine has AVX2.
        unsafe {
            let sign_bit = _mm256_set1_ps(-0.0);
            let sign = _mm256_and_ps(sign_bit, sign.0);
            Avx2(_mm256_or_ps(_mm256_andnot_ps(sign_bit, self.0), sign))
        }
    }

    #[inline(always)]
    fn round(self) -> Self {
        const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
        // SAFETY: values of this type exist only where the machine has AVX2.
        Avx2(unsafe { _mm256_round_ps::<NEAREST>(self.0) })
    }

    #[inline(always)]
    fn scale_by_power(self, exponent: Self) -> Self {
        // Two factors, so that each is a normal number even where the result is not.
        // SAFETY: values of this type exist only where the machine has AVX2.
        unsafe {
            let exponent = _mm256_cvtps_epi32(exponent.0);
            let half = _mm256_srai_epi32::<1>(exponent);
            let scaled = _mm256_mul_ps(self.0, power(half));
            Avx2(_mm256_mul_ps(scaled, power(_mm256_sub_epi32(exponent, half))))
        }
    }

    #[inline(always)]
    fn split(self) -> (Self, Self) {
        // SAFETY: values of this type exist only where the machine has AVX2.
        unsafe {
            let bits = _mm256_castps_si256(self.0);
            let shifted = _mm256_sub_epi32(bits, _mm256_set1_epi32(ROOT_HALF as i32));
            let exponent = _mm256_srai_epi32::<23>(shifted);
            let mantissa = _mm256_sub_epi32(bits, _mm256_slli_epi32::<23>(exponent));
            (Avx2(_mm256_castsi256_ps(mantissa)), Avx2(_mm256_cvtepi32_ps(exponent)))
        }
    }

    #[inline(always)]
    fn greater(self, other: Self) -> Self::Mask {
        // SAFETY: values of this type exist only where the machine has AVX2.
        unsafe { _mm256_cmp_ps::<_CMP_GT_OQ>(self.0, other.0) }
    }

    #[inline(always)]
    fn differs(self, other: Self) -> Self::Mask {
        // SAFETY: values of this type exist only where the machine has AVX2.
        unsafe { _mm256_cmp_ps::<_CMP_NEQ_UQ>(self.0, other.0) }
    }

    #[inline(always)]
    fn same_bits(self, other: Self) -> Self::Mask {
        // SAFETY: values of this type exist only where the machine has AVX2.
        unsafe {
            let [own, other] = [self.0, other.0].map(|value| _mm256_castps_si256(value));
            _mm256_castsi256_ps(_mm256_cmpeq_epi32(own, other))
        }
    }

    #[inline(always)]
    fn mask(bits: u32) -> Self::Mask {
        // SAFETY: this type is named only where the machine has AVX2.
        unsafe {
            let lane_bits = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
            let set = _mm256_and_si256(_mm256_set1_epi32(bits as i32), lane_bits);
            _mm256_castsi256_ps(_mm256_cmpeq_epi32(set, lane_bits))
        }
    }

    #[inline(always)]
    fn select(mask: Self::Mask, yes: Self, no: Self) -> Self {
        // SAFETY: values of this type exist only where the machine has AVX2.
        Avx2(unsafe { _mm256_blendv_ps(no.0, yes.0, mask) })
    }

    #[inline(always)]
    fn prefetch(line: *const f32) {
        // SAFETY: a prefetch does not access memory, so any address will do.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.cast()) }
    }

    #[inline(always)]
    fn prefetch_later(line: *const f32) {
        // SAFETY: a prefetch does not access memory, so any address will do.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(line.cast()) }
    }

    #[inline(always)]
    unsafe fn transpose_8x8(from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize) {
        // SAFETY: the caller's.
        unsafe { transpose_8x8(from, from_stride, to, to_stride) }
    }

    #[inline(always)]
    fn non_zero_bits(self) -> u32 {
        // SAFETY: values of this type exist only where the machine has AVX2.
        unsafe { _mm256_movemask_ps(self.differs(Self::splat(0.0))) as u32 }
    }

    #[inline(always)]
    fn compress(self, bits: u32) -> Self {
        // SAFETY: values of this type exist only where the machine has AVX2.
        Avx2(unsafe { permute(self.0, &COMPRESSED[(bits & 0xff) as usize]) })
    }

    #[inline(always)]
    unsafe fn load_quad(from: *const f32) -> Self {
        // SAFETY: the caller's.
        Avx2(unsafe { _mm256_broadcast_ps(&_mm_loadu_ps(from)) })
    }

    #[inline(always)]
    fn quad_lane<const INDEX: usize>(self) -> Self {
        // SAFETY: values of this type exist only where the machine has AVX2.
        Avx2(unsafe {
            match INDEX {
                0 => _mm256_permute_ps::<0x00>(self.0),
                1 => _mm256_permute_ps::<0x55>(self.0),
                2 => _mm256_permute_ps::<0xaa>(self.0),
                _ => _mm256_permute_ps::<0xff>(self.0),
            }
        })
    }

    #[inline(always)]
    fn keep_bits(schedule: &KeepSchedule, groups: &[Group; 4]) -> [u32; 4] {
        let [a, b, c, d] = *groups;
        // SAFETY: this type is named only where the machine has AVX2.
        let (low, high) = unsafe { (keep_bits(schedule, a, b), keep_bits(schedule, c, d)) };
        [low[0], low[1], high[0], high[1]]
    }
}

/// For every mask the lanes that are set, in order, then zeros.
static COMPRESSED: [[u32; 8]; 256] = {
    let mut table = [[0; 8]; 256];
    let mut bits = 0;
    while bits < 256 {
        let (mut lane, mut count) = (0, 0);
        while lane < 8 {
            if bits >> lane & 1 != 0 {
                table[bits][count] = lane;
                count += 1;
            }
            lane += 1;
        }
        bits += 1;
    }
    table
};

/// Lane `lanes[i]` becomes lane `i`.
#[target_feature(enable = "avx2,fma")]
#[inline]
fn permute(values: __m256, lanes: &[u32; 8]) -> __m256 {
    // SAFETY: the array holds eight lanes.
    let lanes = unsafe { _mm256_loadu_si256(lanes.as_ptr().cast()) };
    _mm256_permutevar8x32_ps(values, lanes)
}

/// The mask of the first `count` lanes.
#[target_feature(enable = "avx2,fma")]
#[inline]
fn first(count: usize) -> __m256i {
    let lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    _mm256_cmpgt_epi32(_mm256_set1_epi32(count as i32), lanes)
}

/// 2^exponent for normal results.
#[target_feature(enable = "avx2,fma")]
#[inline]
fn power(exponent: __m256i) -> __m256 {
    let biased = _mm256_add_epi32(exponent, _mm256_set1_epi32(127));
    _mm256_castsi256_ps(_mm256_slli_epi32::<23>(biased))
}

/// # Safety
/// As [`Vector::transpose_8x8`].
#[target_feature(enable = "avx2,fma")]
#[inline]
unsafe fn transpose_8x8(from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize) {
    // Row `r` and row `r + 4` share a register from the start: loads can do what otherwise needs
    // the one shuffle port that crosses lanes.
    let half = |row: usize, column: usize| {
        // SAFETY: the caller's: rows below 8, columns below 8.
        unsafe { _mm_loadu_ps(from.add(row * from_stride + column)) }
    };
    for column in [0, 4] {
        let [r0, r1, r2, r3] = [0, 1, 2, 3]
            .map(|row: usize| _mm256_set_m128(half(row + 4, column), half(row, column)));
        let (low01, high01) = (_mm256_unpacklo_ps(r0, r1), _mm256_unpackhi_ps(r0, r1));
        let (low23, high23) = (_mm256_unpacklo_ps(r2, r3), _mm256_unpackhi_ps(r2, r3));
        let columns = [
            _mm256_shuffle_ps::<0x44>(low01, low23),
            _mm256_shuffle_ps::<0xee>(low01, low23),
            _mm256_shuffle_ps::<0x44>(high01, high23),
            _mm256_shuffle_ps::<0xee>(high01, high23),
        ];
        for (index, values) in columns.into_iter().enumerate() {
            // SAFETY: the caller's: columns below 8 become rows below 8.
            unsafe { _mm256_storeu_ps(to.add((column + index) * to_stride), values) };
        }
    }
}

/// The keep bits of two groups, eight blocks.
///
/// Lane `4 * q + v` computes block `2 * q + v` of the first group for `v` below 2, block
/// `2 * q + v - 2` of the second for the others. After a transposition within each 128-bit half,
/// half `q` of vector `v` holds that block's words, and packing bytes puts the blocks in order.
#[target_feature(enable = "avx2,fma")]
#[inline]
fn keep_bits(schedule: &KeepSchedule, a: Group, b: Group) -> [u32; 2] {
    let spread = |a: u32, b: u32| {
        let (a, b) = (a as i32, b as i32);
        _mm256_setr_epi32(a, a, b, b, a, a, b, b)
    };
    let blocks = _mm256_setr_epi32(0, 1, 0, 1, 2, 3, 2, 3);
    let counter = [
        _mm256_add_epi32(spread(a.block, b.block), blocks),
        spread(a.sample, b.sample),
        _mm256_set1_epi32(schedule.step as i32),
        _mm256_set1_epi32(schedule.site as i32),
    ];
    let [w0, w1, w2, w3] = philox(schedule, counter);
    let (low01, high01) = (_mm256_unpacklo_epi32(w0, w1), _mm256_unpackhi_epi32(w0, w1));
    let (low23, high23) = (_mm256_unpacklo_epi32(w2, w3), _mm256_unpackhi_epi32(w2, w3));
    // Signed compare: all values fit 15 bits, and `drop15 - 1` is -1 where everything is kept.
    let below = _mm256_set1_epi16(schedule.drop15.wrapping_sub(1) as i16);
    let kept = |lanes: __m256i| {
        _mm256_cmpgt_epi16(_mm256_and_si256(lanes, _mm256_set1_epi16(0x7fff)), below)
    };
    let bits = |even: __m256i, odd: __m256i| {
        _mm256_movemask_epi8(_mm256_packs_epi16(kept(even), kept(odd))) as u32
    };
    [
        bits(_mm256_unpacklo_epi64(low01, low23), _mm256_unpackhi_epi64(low01, low23)),
        bits(_mm256_unpacklo_epi64(high01, high23), _mm256_unpackhi_epi64(high01, high23)),
    ]
}

/// Philox of eight counters, one per 32-bit lane.
///
/// The multiplier takes the low halves of 64-bit lanes and ignores the high ones, so even and odd
/// counters run apart, with garbage above, and meet again at the end.
#[target_feature(enable = "avx2,fma")]
#[inline]
fn philox(schedule: &KeepSchedule, counter: [__m256i; 4]) -> [__m256i; 4] {
    let [even_factor, odd_factor] = multipliers().map(|word| _mm256_set1_epi64x(i64::from(word)));
    let mut even = counter;
    let mut odd = [0, 1, 2, 3].map(|word: usize| _mm256_srli_epi64::<32>(counter[word]));
    for keys in &schedule.round_keys {
        let [key0, key1] = keys.map(|key| _mm256_set1_epi32(key as i32));
        for words in [&mut even, &mut odd] {
            let first = _mm256_mul_epu32(words[0], even_factor);
            let second = _mm256_mul_epu32(words[2], odd_factor);
            let high = |product| _mm256_srli_epi64::<32>(product);
            *words = [
                _mm256_xor_si256(_mm256_xor_si256(high(second), words[1]), key0),
                second,
                _mm256_xor_si256(_mm256_xor_si256(high(first), words[3]), key1),
                first,
            ];
        }
    }
    [0, 1, 2, 3].map(|word: usize| {
        _mm256_blend_epi32::<0xaa>(even[word], _mm256_slli_epi64::<32>(odd[word]))
    })
}

// Inlined into each other, the tiles of all sizes would share one allocation of registers.
#[target_feature(enable = "avx2,fma,bmi1,popcnt")]
#[inline(never)]
unsafe fn run<K: Kernel>(kernel: K) -> K::Output {
    // SAFETY: the caller's.
    unsafe { kernel.run::<Avx2>() }
}
