// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the kernels need of a vector of f32 lanes.

use super::draws::{Group, KeepSchedule};
use super::isa::Kernel;
use super::Stores;

/// A vector of f32 lanes in some instruction set.
///
/// The arithmetic is safe to call because the trait is private to this module and its types are
/// named only in kernels, which are entered after the instruction set has been checked.
pub(crate) trait Vector: Copy {
    /// One truth value per lane.
    type Mask: Copy;

    /// Lanes per vector; divides 16.
    const LANES: usize;
    /// Rows of a register tile two vectors wide: as many as the registers hold.
    const TILE_ROWS: usize;

    /// [`Isa::lists_zeros`](super::Isa::lists_zeros) of the instruction set.
    const LISTS_ZEROS: bool;

    /// Runs a kernel as a function of its own, compiled for this instruction set.
    ///
    /// # Safety
    /// As [`Kernel::run`].
    unsafe fn enter<K: Kernel>(kernel: K) -> K::Output;

    fn splat(value: f32) -> Self;

    /// # Safety
    /// `from` is valid for reading all lanes.
    unsafe fn load(from: *const f32) -> Self;
    /// Loads the first `count` lanes and leaves the others 0.
    /// # Safety
    /// `from` is valid for reading `count` <= `LANES` values.
    unsafe fn load_first(from: *const f32, count: usize) -> Self;
    /// # Safety
    /// `to` is valid for writing all lanes.
    unsafe fn store(self, to: *mut f32);
    /// # Safety
    /// `to` is valid for writing `count` <= `LANES` values.
    unsafe fn store_first(self, to: *mut f32, count: usize);
    /// Stores past the caches, if the instruction set can. Ends with [`Vector::fence`].
    /// # Safety
    /// `to` is valid for writing all lanes and aligned to their size.
    unsafe fn stream(self, to: *mut f32);
    /// Orders streamed stores before everything that follows.
    fn fence();

    fn add(self, other: Self) -> Self;
    fn sub(self, other: Self) -> Self;
    fn mul(self, other: Self) -> Self;
    fn div(self, other: Self) -> Self;
    /// `self * factor + addend`, fused where the instruction set can.
    fn mul_add(self, factor: Self, addend: Self) -> Self;
    /// `self > other ? self : other`: `other` where one is NaN.
    fn max(self, other: Self) -> Self;
    /// `self < other ? self : other`: `other` where one is NaN.
    fn min(self, other: Self) -> Self;
    fn sqrt(self) -> Self;
    fn abs(self) -> Self;
    /// The magnitude of `self` with the sign of `sign`.
    fn copy_sign(self, sign: Self) -> Self;
    /// To the nearest integer, ties to even, for magnitudes below 2^22.
    fn round(self) -> Self;
    /// `self * 2^exponent` for an integral exponent within +-252.
    fn scale_by_power(self, exponent: Self) -> Self;
    /// A mantissa from sqrt(1/2) to sqrt(2) and an integral exponent of a positive normal number,
    /// whose product with the power of 2 it is.
    fn split(self) -> (Self, Self);

    /// `self > other`; false where one is NaN.
    fn greater(self, other: Self) -> Self::Mask;
    /// `self != other`; true where one is NaN.
    fn differs(self, other: Self) -> Self::Mask;
    /// Whether the bits are the same, whatever they stand for.
    fn same_bits(self, other: Self) -> Self::Mask;
    /// Lane `i` is true if bit `i` is set.
    fn mask(bits: u32) -> Self::Mask;
    /// `yes` where the mask is true, else `no`.
    fn select(mask: Self::Mask, yes: Self, no: Self) -> Self;

    /// Hints that a cache line will be needed soon, in the nearest cache.
    fn prefetch(line: *const f32);
    /// Hints that a cache line will be needed later, in the second cache.
    fn prefetch_later(line: *const f32);

    /// Transposes an 8 by 8 block between matrices of the given row strides.
    /// # Safety
    /// `from` and `to` are valid for 8 rows of 8 values at their strides, and do not overlap.
    unsafe fn transpose_8x8(from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize);

    /// Bit `i` is set if lane `i` is not 0; NaN is not.
    fn non_zero_bits(self) -> u32;
    /// The lanes whose bits are set come first, in order; anything may follow them.
    fn compress(self, bits: u32) -> Self;

    /// Loads four values, over and over again.
    /// # Safety
    /// `from` is valid for reading four values.
    unsafe fn load_quad(from: *const f32) -> Self;
    /// Value `INDEX` of [`Vector::load_quad`] in all lanes.
    fn quad_lane<const INDEX: usize>(self) -> Self;

    /// The keep bits of four groups of 32 elements; bit `i` is the group's element `i`.
    fn keep_bits(schedule: &KeepSchedule, groups: &[Group; 4]) -> [u32; 4];

    /// Lanes in order, for the rare loop that needs them one by one; 16 leaves room for any vector.
    #[inline(always)]
    fn lanes(self) -> [f32; 16] {
        let mut lanes = [0.0; 16];
        // SAFETY: the array holds at least `LANES` values.
        unsafe { self.store(lanes.as_mut_ptr()) };
        lanes
    }
}

/// The bits of sqrt(1/2), where [`Vector::split`] puts the end of its mantissas.
pub(super) const ROOT_HALF: u32 = std::f32::consts::FRAC_1_SQRT_2.to_bits();

/// Calls `each(offset, lanes)` for consecutive vectors of `count` values; only the last may be short.
macro_rules! for_each_vector {
    ($vector:ty, $count:expr, |$offset:ident, $lanes:ident| $body:block) => {{
        let count: usize = $count;
        let mut $offset = 0;
        while $offset + <$vector>::LANES <= count {
            let $lanes = <$vector>::LANES;
            $body
            $offset += $lanes;
        }
        if $offset < count {
            let $lanes = count - $offset;
            $body
        }
    }};
}
pub(crate) use for_each_vector;

/// A sum of vectors in two levels, lane by lane: in one chain, many small terms would lose their last
/// digits to the sum of those before.
pub(crate) struct LongSum<V> {
    /// The sum of the terms since `total` was added to.
    chain: V,
    total: V,
    /// Terms that `chain` has room for.
    room: usize,
}

impl<V: Vector> LongSum<V> {
    const CHAIN: usize = 64;

    #[inline(always)]
    pub(crate) fn new() -> Self {
        LongSum { chain: V::splat(0.0), total: V::splat(0.0), room: Self::CHAIN }
    }

    #[inline(always)]
    pub(crate) fn add(&mut self, term: V) {
        if self.room == 0 {
            *self = LongSum { total: self.total.add(self.chain), ..Self::new() };
        }
        self.chain = self.chain.add(term);
        self.room -= 1;
    }

    /// The sum of all lanes.
    #[inline(always)]
    pub(crate) fn sum(&self) -> f32 {
        self.total.add(self.chain).lanes().iter().sum()
    }
}

/// Loads `lanes` lanes: all with one plain load, fewer with a partial one.
///
/// # Safety
/// `from` is valid for reading `lanes` <= `LANES` values.
#[inline(always)]
pub(crate) unsafe fn load<V: Vector>(from: *const f32, lanes: usize) -> V {
    // SAFETY: the caller's.
    unsafe {
        if lanes == V::LANES {
            V::load(from)
        } else {
            V::load_first(from, lanes)
        }
    }
}

/// Stores `lanes` lanes: all with one plain store, fewer with a partial one.
///
/// # Safety
/// `to` is valid for writing `lanes` <= `LANES` values.
#[inline(always)]
pub(crate) unsafe fn store<V: Vector>(value: V, to: *mut f32, lanes: usize) {
    // SAFETY: the caller's.
    unsafe {
        if lanes == V::LANES {
            value.store(to)
        } else {
            value.store_first(to, lanes)
        }
    }
}

/// As [`store`], in the way that is asked for. Ends with [`Vector::fence`].
///
/// # Safety
/// `to` is valid for writing `lanes` <= `LANES` values.
#[inline(always)]
pub(crate) unsafe fn store_as<V: Vector>(stores: Stores, value: V, to: *mut f32, lanes: usize) {
    let is_whole = lanes == V::LANES && to.addr().is_multiple_of(V::LANES * size_of::<f32>());
    // SAFETY: the caller's; streamed stores are whole and aligned.
    unsafe {
        match stores {
            Stores::Streamed if is_whole => value.stream(to),
            _ => store(value, to, lanes),
        }
    }
}
