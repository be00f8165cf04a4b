// SPDX-License-Identifier: MIT OR Apache-2.0
// Sine and cosine of any number within 2 ulp. The compiler's own keep a table of products in memory for large angles.
#pragma once
#include "device.cuh"

// An angle as quarters of a turn and what is left, from -pi / 4 to pi / 4.
struct Angle {
  int quarters;
  float left;
};

// Up to 2^13 quarters: pi / 2 in parts short enough for exact products.
KILN_DEVICE Angle near_angle(float x) {
  const float turned = rintf(x * 0.63661977f);
  float left = __fmaf_rn(turned, -1.5703125f, x);
  left = __fmaf_rn(turned, -4.837512969970703e-4f, left);
  left = __fmaf_rn(turned, -7.549533620476723e-8f, left);
  left = __fmaf_rn(turned, -2.5633440682570896e-12f, left);
  return Angle{static_cast<int>(turned), left};
}

// 32 bits of 2 / pi, from bit 32 * word - 32 behind the point on.
KILN_DEVICE u32 two_over_pi(int word) {
  switch (word) {
    case 0: return 0u;
    case 1: return 0xa2f9836eu;
    case 2: return 0x4e441529u;
    case 3: return 0xfc2757d1u;
    case 4: return 0xf534ddc0u;
    case 5: return 0xdb629599u;
    case 6: return 0x3c439041u;
    default: return 0xfe5163abu;
  }
}

// Any finite number (Payne & Hanek 1983): only those bits of 2 / pi are multiplied that matter to a fraction of a turn.
KILN_DEVICE Angle far_angle(float x) {
  const u32 bits = __float_as_uint(x);
  const int exponent = static_cast<int>((bits >> 23) & 0xffu) - 127 - 23;  // of the mantissa's last bit
  const u32 mantissa = (bits & 0x7fffffu) | 0x800000u;
  // The bits of 2 / pi from that of value 2^(1 - exponent) on: higher ones give multiples of four quarters.
  const int first = exponent + 32 - 2;
  const int word = first / 32, shift = first % 32;
  const u32 w0 = two_over_pi(word), w1 = two_over_pi(word + 1), w2 = two_over_pi(word + 2), w3 = two_over_pi(word + 3);
  const u32 a = shift == 0 ? w0 : (w0 << shift) | (w1 >> (32 - shift));
  const u32 b = shift == 0 ? w1 : (w1 << shift) | (w2 >> (32 - shift));
  const u32 c = shift == 0 ? w2 : (w2 << shift) | (w3 >> (32 - shift));
  // The product's upper 64 bits: two of quarters, then the fraction.
  const u64 low = static_cast<u64>(mantissa) * c, middle = static_cast<u64>(mantissa) * b;
  u64 product = (static_cast<u64>(mantissa * a) << 32) + middle + (low >> 32);
  int quarters = static_cast<int>(product >> 62);
  long long fraction = static_cast<long long>(product << 2);
  if (fraction < 0) ++quarters;  // to the nearest quarter: the fraction as a signed number is what is left
  const float left = static_cast<float>(fraction) * 8.5153039502163877e-20f;  // pi / 2 / 2^64
  const bool negative = (bits >> 31) != 0;
  return negative ? Angle{-quarters, -left} : Angle{quarters, left};
}

// The sine of x and some quarters of a turn; NaN for infinities and NaN.
KILN_DEVICE float sine(float x, int quarters) {
  const float size = fabsf(x);
  if (!(size < infinity())) return x - x;
  const Angle angle = size < 12800.0f ? near_angle(x) : far_angle(x);
  const float r = angle.left, square = r * r;
  const int turn = angle.quarters + quarters;
  float value;
  if (turn & 1) {
    value = __fmaf_rn(2.443315711809948e-5f, square, -1.388731625493765e-3f);
    value = __fmaf_rn(value, square, 4.166664568298827e-2f);
    value = __fmaf_rn(value * square, square, __fmaf_rn(square, -0.5f, 1.0f));
  } else {
    value = __fmaf_rn(-1.9515295891e-4f, square, 8.3321608736e-3f);
    value = __fmaf_rn(value, square, -1.6666654611e-1f);
    value = __fmaf_rn(value * square, r, r);
  }
  return turn & 2 ? -value : value;
}
