// SPDX-License-Identifier: MIT OR Apache-2.0
// Conversions between f32 and the 16-bit and tf32 formats, rounding as the GPU's cvt instructions
// do.
#pragma once
#include "bits.h"

// cvt.rn.bf16.f32: nearest, ties to even; every NaN becomes 0x7fff.
static inline unsigned short bf16_from_f32(float value) {
  if (value != value) return 0x7fff;
  const unsigned bits = __float_as_uint(value);
  return static_cast<unsigned short>((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}
static inline float f32_from_bf16(unsigned short half) {
  return __uint_as_float(static_cast<unsigned>(half) << 16);
}

// cvt.rn.f16.f32: nearest, ties to even, subnormals kept; overflow is infinity; every NaN becomes
// 0x7fff.
static inline unsigned short f16_from_f32(float value) {
  if (value != value) return 0x7fff;
  const unsigned bits = __float_as_uint(value), sign = bits >> 16 & 0x8000u,
                 magnitude = bits & 0x7fffffffu;
  if (magnitude >= 0x477ff000u)
    return static_cast<unsigned short>(sign | 0x7c00u);  // rounds past 65504
  if (magnitude < 0x38800000u) {                         // below 2^-14
    // Adding 0.5 leaves the value's multiple of 2^-24 in the low mantissa bits, rounded by the
    // host's own addition.
    const float shifted = __uint_as_float(magnitude) + 0.5f;
    return static_cast<unsigned short>(sign | (__float_as_uint(shifted) - 0x3f000000u));
  }
  const unsigned rebiased = magnitude - 0x38000000u;
  return static_cast<unsigned short>(sign | (rebiased + 0xfffu + (rebiased >> 13 & 1u)) >> 13);
}
static inline float f32_from_f16(unsigned short half) {
  const unsigned sign = static_cast<unsigned>(half & 0x8000u) << 16, rest = half & 0x7fffu;
  if (rest >= 0x7c00u) return __uint_as_float(sign | 0x7f800000u | (rest & 0x3ffu) << 13);
  const float magnitude = rest < 0x400u ? static_cast<float>(rest) * 0x1p-24f
                                        : __uint_as_float((rest << 13) + 0x38000000u);
  return __uint_as_float(sign | __float_as_uint(magnitude));
}

// cvt.rna.tf32.f32: ten mantissa bits, nearest, ties away from zero.
static inline unsigned tf32_from_f32(float value) {
  if (value != value) return 0x7fffffffu;
  const unsigned bits = __float_as_uint(value);
  if ((bits & 0x7f800000u) == 0x7f800000u) return bits;
  return (bits + 0x1000u) & 0xffffe000u;
}

static inline unsigned pack_bf16(float low, float high) {
  return static_cast<unsigned>(bf16_from_f32(low)) | static_cast<unsigned>(bf16_from_f32(high))
                                                         << 16;
}
static inline unsigned pack_f16(float low, float high) {
  return static_cast<unsigned>(f16_from_f32(low)) | static_cast<unsigned>(f16_from_f32(high)) << 16;
}
