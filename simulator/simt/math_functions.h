// SPDX-License-Identifier: MIT OR Apache-2.0
// Float intrinsics. The GPU's approximate forms are computed as exactly as the host can, so a
// kernel's own error is what a test measures; the GPU's `ex2.approx` and friends add up to 2 ulp
// that this cannot show.
#pragma once
#include "types.h"

static inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
static inline float __fadd_rn(float a, float b) { return a + b; }
static inline float __fsub_rn(float a, float b) { return a - b; }
static inline float __fmul_rn(float a, float b) { return a * b; }
static inline float __fdiv_rn(float a, float b) { return a / b; }
static inline float __fsqrt_rn(float a) { return std::sqrt(a); }
static inline float __frcp_rn(float a) { return 1.0f / a; }
static inline float __fdividef(float a, float b) { return a / b; }
static inline float __frsqrt_rn(float a) { return 1.0f / std::sqrt(a); }
static inline float rcp(float a) { return 1.0f / a; }
static inline double __dmul_rn(double a, double b) { return a * b; }
static inline float __saturatef(float a) {
  return a < 0.0f ? 0.0f : a > 1.0f ? 1.0f : a == a ? a : 0.0f;
}
static inline float __float2float_rn(float a) { return a; }
static inline int __float2int_rn(float a) { return static_cast<int>(std::nearbyint(a)); }
static inline int __float2int_rd(float a) { return static_cast<int>(std::floor(a)); }
static inline unsigned __float2uint_rn(float a) { return static_cast<unsigned>(std::nearbyint(a)); }
static inline float __int2float_rn(int a) { return static_cast<float>(a); }
static inline float __uint2float_rn(unsigned a) { return static_cast<float>(a); }

// The host's C library may declare some of these names itself, so the kernel's spelling is
// redirected.
namespace simt {
static inline float exp_float(float a) { return std::exp(a); }
static inline float log_float(float a) { return std::log(a); }
static inline float log2_float(float a) { return std::log2(a); }
static inline float pow_float(float a, float b) { return std::pow(a, b); }
static inline float sin_float(float a) { return std::sin(a); }
static inline float cos_float(float a) { return std::cos(a); }
static inline float rsqrt_float(float a) { return 1.0f / std::sqrt(a); }
}  // namespace simt
#define rsqrtf ::simt::rsqrt_float
#define __expf ::simt::exp_float
#define __logf ::simt::log_float
#define __log2f ::simt::log2_float
#define __powf ::simt::pow_float
#define __sinf ::simt::sin_float
#define __cosf ::simt::cos_float
