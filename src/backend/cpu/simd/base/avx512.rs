// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sixteen lanes in one AVX-512 register.
#![cfg(target_arch = "x86_64")]

use super::avx2::Avx2;
use super::draws::{Group, KeepSchedule};
use super::isa::{Isa, Kernel};
use super::vector::{Vector, ROOT_HALF};
use crate::philox::multipliers;
use std::arch::x86_64::*;

/// Sixteen lanes.
#[derive(Clone, Copy)]
pub(super) struct Avx512(__m512);

/// A method that is one intrinsic on whole registers.
macro_rules! one_instruction {
    ($($name:ident($($operand:ident),*) = $intrinsic:ident;)+) => {$(
        #[inline(always)]
        fn $name(self, $($operand: Self),*) -> Self {
            // SAFETY: values of this type exist only where the machine has AVX-512.
            Avx512(unsafe { $intrinsic(self.0, $($operand.0),*) })
        }
    )+};
}

impl Vector for Avx512 {
    type Mask = __mmask16;

    const LANES: usize = 16;
    /// 24 of 32 registers hold the tile; two more hold the panel's row.
    const TILE_ROWS: usize = 12;
    const LISTS_ZEROS: bool = Isa::Avx512.lists_zeros();

    one_instruction! {
        add(other) = _mm512_add_ps;
        sub(other) = _mm512_sub_ps;
        mul(other) = _mm512_mul_ps;
        div(other) = _mm512_div_ps;
        max(other) = _mm512_max_ps;
        min(other) = _mm512_min_ps;
        mul_add(factor, addend) = _mm512_fmadd_ps;
        sqrt() = _mm512_sqrt_ps;
        abs() = _mm512_abs_ps;
        scale_by_power(exponent) = _mm512_scalef_ps;
    }

    #[inline(always)]
    unsafe fn enter<K: Kernel>(kernel: K) -> K::Output {
        // SAFETY: the caller's.
        unsafe { run(kernel) }
    }

    #[inline(always)]
    fn splat(value: f32) -> Self {
        // SAFETY: this type is named only where the machine has AVX-512.
        Avx512(unsafe { _mm512_set1_ps(value) })
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller's.
        Avx512(unsafe { _mm512_loadu_ps(from) })
    }

    #[inline(always)]
    unsafe fn load_first(from: *const f32, count: usize) -> Self {
        // SAFETY: the caller's; masked lanes are not read.
        Avx512(unsafe { _mm512_maskz_loadu_ps(first(count), from) })
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller's.
        unsafe { _mm512_storeu_ps(to, self.0) }
    }

    #[inline(always)]
    unsafe fn store_first(self, to: *mut f32, count: usize) {
        // SAFETY: the caller's; masked lanes are not written.
        unsafe { _mm512_mask_storeu_ps(to, first(count), self.0) }
    }

    #[inline(always)]
    unsafe fn stream(self, to: *mut f32) {
        // SAFETY: the caller's, alignment included.
        unsafe { _mm512_stream_ps(to, self.0) }
    }

    #[inline(always)]
    fn fence() {
        Avx2::fence();
    }

    #[inline(always)]
    fn copy_sign(self, sign: Self) -> Self {
        // SAFETY: values of this type exist only where the machine has AVX-512.
        unsafe {
            let sign_bit = _mm512_set1_ps(-0.0);
            let sign = _mm512_and_ps(sign_bit, sign.0);
            Avx512(_mm512_or_ps(_mm512_andnot_ps(sign_bit, self.0), sign))
        }
    }

    #[inline(always)]
    fn round(self) -> Self {
        const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
        // SAFETY: values of this type exist only where the machine has AVX-512.
        Avx512(unsafe { _mm512_roundscale_ps::<NEAREST>(self.0) })
    }

    #[inline(always)]
    fn split(self) -> (Self, Self) {
        // SAFETY: values of this type exist only where the machine has AVX-512.
        unsafe {
            let bits = _mm512_castps_si512(self.0);
            let shifted = _mm512_sub_epi32(bits, _mm512_set1_epi32(ROOT_HALF as i32));
            let exponent = _mm512_srai_epi32::<23>(shifted);
            let mantissa = _mm512_sub_epi32(bits, _mm512_slli_epi32::<23>(exponent));
            (Avx512(_mm512_castsi512_ps(mantissa)), Avx512(_mm512_cvtepi32_ps(exponent)))
        }
    }

    #[inline(always)]
    fn greater(self, other: Self) -> Self::Mask {
        // SAFETY: values of this type exist only where the machine has AVX-512.
        unsafe { _mm512_cmp_ps_mask::<_CMP_GT_OQ>(self.0, other.0) }
    }

    #[inline(always)]
    fn differs(self, other: Self) -> Self::Mask {
        // SAFETY: values of this type exist only where the machine has AVX-512.
        unsafe { _mm512_cmp_ps_mask::<_CMP_NEQ_UQ>(self.0, other.0) }
    }

    #[inline(always)]
    fn same_bits(self, other: Self) -> Self::Mask {
        // SAFETY: values of this type exist only where the machine has AVX-512.
        unsafe {
            let [own, other] = [self.0, other.0].map(|value| _mm512_castps_si512(value));
            _mm512_cmpeq_epi32_mask(own, other)
        }
    }

    #[inline(always)]
    fn mask(bits: u32) -> Self::Mask {
        bits as __mmask16
    }

    #[inline(always)]
    fn select(mask: Self::Mask, yes: Self, no: Self) -> Self {
        // SAFETY: values of this type exist only where the machine has AVX-512.
        Avx512(unsafe { _mm512_mask_blend_ps(mask, no.0, yes.0) })
    }

    #[inline(always)]
    fn prefetch(line: *const f32) {
        Avx2::prefetch(line);
    }

    #[inline(always)]
    fn prefetch_later(line: *const f32) {
        Avx2::prefetch_later(line);
    }

    #[inline(always)]
    unsafe fn transpose_8x8(from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize) {
        // SAFETY: the caller's; a machine with AVX-512 has AVX2.
        unsafe { Avx2::transpose_8x8(from, from_stride, to, to_stride) }
    }

    #[inline(always)]
    fn non_zero_bits(self) -> u32 {
        u32::from(self.differs(Self::splat(0.0)))
    }

    #[inline(always)]
    fn compress(self, bits: u32) -> Self {
        // SAFETY: values of this type exist only where the machine has AVX-512.
        Avx512(unsafe { _mm512_maskz_compress_ps(bits as __mmask16, self.0) })
    }

    #[inline(always)]
    unsafe fn load_quad(from: *const f32) -> Self {
        // SAFETY: the caller's.
        Avx512(unsafe { load_quad(from) })
    }

    #[inline(always)]
    fn quad_lane<const INDEX: usize>(self) -> Self {
        // SAFETY: values of this type exist only where the machine has AVX-512.
        Avx512(unsafe {
            match INDEX {
                0 => _mm512_permute_ps::<0x00>(self.0),
                1 => _mm512_permute_ps::<0x55>(self.0),
                2 => _mm512_permute_ps::<0xaa>(self.0),
                _ => _mm512_permute_ps::<0xff>(self.0),
            }
        })
    }

    #[inline(always)]
    fn keep_bits(schedule: &KeepSchedule, groups: &[Group; 4]) -> [u32; 4] {
        // SAFETY: this type is named only where the machine has AVX-512.
        unsafe {
            let [a, b, c, d] = groups.map(Group::packed);
            keep_bits(schedule, a, b, c, d)
        }
    }
}

/// As [`Vector::load_quad`]. Written out, since LLVM makes one load per lane of the intrinsic.
#[target_feature(enable = "avx512f")]
#[inline]
unsafe fn load_quad(from: *const f32) -> __m512 {
    let quad: __m512;
    // SAFETY: the caller's: one load of four values.
    unsafe {
        std::arch::asm!(
            "vbroadcastf32x4 {quad}, xmmword ptr [{from}]",
            quad = lateout(zmm_reg) quad,
            from = in(reg) from,
            options(pure, readonly, nostack, preserves_flags),
        );
    }
    quad
}

/// The mask of the first `count` lanes.
#[inline(always)]
fn first(count: usize) -> __mmask16 {
    ((1u32 << count) - 1) as __mmask16
}

/// Lane `4 * q + g` computes block `q` of group `g`. After a transposition within each 128-bit
/// quarter, quarter `q` of vector `g` holds that block's four words, so the vector is the group's
/// 32 lanes of 16 bits in element order.
///
/// Groups come in registers: in memory, they would be written in small parts and read as vectors, which
/// has to wait until all earlier stores are done.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
#[inline]
fn keep_bits(schedule: &KeepSchedule, a: u64, b: u64, c: u64, d: u64) -> [u32; 4] {
    let (ab, cd) = (_mm_set_epi64x(b as i64, a as i64), _mm_set_epi64x(d as i64, c as i64));
    let (ab, cd) = (_mm_castsi128_ps(ab), _mm_castsi128_ps(cd));
    let firsts = _mm_castps_si128(_mm_shuffle_ps::<0x88>(ab, cd));
    let samples = _mm_castps_si128(_mm_shuffle_ps::<0xdd>(ab, cd));
    let blocks = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
    let counter = [
        _mm512_add_epi32(_mm512_broadcast_i32x4(firsts), blocks),
        _mm512_broadcast_i32x4(samples),
        _mm512_set1_epi32(schedule.step as i32),
        _mm512_set1_epi32(schedule.site as i32),
    ];
    let [w0, w1, w2, w3] = philox(schedule, counter);
    let (low01, high01) = (_mm512_unpacklo_epi32(w0, w1), _mm512_unpackhi_epi32(w0, w1));
    let (low23, high23) = (_mm512_unpacklo_epi32(w2, w3), _mm512_unpackhi_epi32(w2, w3));
    let drop15 = _mm512_set1_epi16(schedule.drop15 as i16);
    let bits = |lanes: __m512i| {
        let lanes15 = _mm512_and_si512(lanes, _mm512_set1_epi16(0x7fff));
        _mm512_cmpge_epu16_mask(lanes15, drop15)
    };
    [
        bits(_mm512_unpacklo_epi64(low01, low23)),
        bits(_mm512_unpackhi_epi64(low01, low23)),
        bits(_mm512_unpacklo_epi64(high01, high23)),
        bits(_mm512_unpackhi_epi64(high01, high23)),
    ]
}

/// Philox of 16 counters, one per 32-bit lane.
///
/// The multiplier takes the low halves of 64-bit lanes and ignores the high ones, so even and odd
/// counters run apart, with garbage above, and meet again at the end.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
#[inline]
fn philox(schedule: &KeepSchedule, counter: [__m512i; 4]) -> [__m512i; 4] {
    let [even_factor, odd_factor] = multipliers().map(|word| _mm512_set1_epi64(i64::from(word)));
    let mut even = counter;
    let mut odd = [0, 1, 2, 3].map(|word: usize| _mm512_srli_epi64::<32>(counter[word]));
    for keys in &schedule.round_keys {
        let [key0, key1] = keys.map(|key| _mm512_set1_epi32(key as i32));
        for words in [&mut even, &mut odd] {
            let first = _mm512_mul_epu32(words[0], even_factor);
            let second = _mm512_mul_epu32(words[2], odd_factor);
            // The three-way exclusive or of truth table 0x96.
            let xor = _mm512_ternarylogic_epi32::<0x96>;
            *words = [
                xor(_mm512_srli_epi64::<32>(second), words[1], key0),
                second,
                xor(_mm512_srli_epi64::<32>(first), words[3], key1),
                first,
            ];
        }
    }
    [0, 1, 2, 3].map(|word: usize| {
        _mm512_mask_blend_epi32(0xaaaa, even[word], _mm512_slli_epi64::<32>(odd[word]))
    })
}

// Inlined into each other, the tiles of all sizes would share one allocation of registers.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,bmi1,popcnt")]
#[inline(never)]
unsafe fn run<K: Kernel>(kernel: K) -> K::Output {
    // SAFETY: the caller's.
    unsafe { kernel.run::<Avx512>() }
}
