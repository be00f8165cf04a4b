// SPDX-License-Identifier: MIT OR Apache-2.0
// What a multiprocessor multiplies at most, when nothing has to be fetched: multiply-adds in registers, as many under way
// as its pipelines take. No plan launches these; benches tell products as shares of them.
#include "abi.h"
#include "lib/gemm/fragment.cuh"

// Multiply-adds of a thread, or tiles of a warp, that do not wait for each other.
constexpr int kChains = 16, kTiles = 8;
// Passes over the chains in a round, so that counting rounds costs little.
constexpr int kPasses = 8;

// x: a word per thread, y: as many; count: rounds. Each chain does v = v * x + x, from its number on; y is their sum.
KILN_DEVICE void chains(const KilnCastParams& p) {
  const size_t at = blockIdx.x * KILN_BLOCK_THREADS + threadIdx.x;
  const float x = static_cast<const float*>(p.x)[at];
  float v[kChains];
#pragma unroll
  for (int chain = 0; chain < kChains; ++chain) v[chain] = static_cast<float>(chain);
#pragma unroll 1
  for (u32 round = 0; round < p.count; ++round) {
#pragma unroll
    for (int pass = 0; pass < kPasses; ++pass) {
#pragma unroll
      for (int chain = 0; chain < kChains; ++chain) v[chain] = __fmaf_rn(v[chain], x, x);
    }
  }
  float sum = 0.0f;
#pragma unroll
  for (int chain = 0; chain < kChains; ++chain) sum += v[chain];
  static_cast<float*>(p.y)[at] = sum;
}

// x: six words per thread, its four of the fragment of A and its two of B; y: a number per thread; count: rounds. Each of
// the warp's tiles adds A * B once per pass; y is the sum of what the thread holds of them.
template <class T> KILN_DEVICE void tiles(const KilnCastParams& p) {
  const size_t at = blockIdx.x * KILN_BLOCK_THREADS + threadIdx.x;
  const u32* x = static_cast<const u32*>(p.x) + at * 6;
  const u32 a[4] = {x[0], x[1], x[2], x[3]};
  const u32 b0 = x[4], b1 = x[5];
  float d[kTiles][4];
#pragma unroll
  for (int tile = 0; tile < kTiles; ++tile) {
#pragma unroll
    for (int i = 0; i < 4; ++i) d[tile][i] = 0.0f;
  }
#pragma unroll 1
  for (u32 round = 0; round < p.count; ++round) {
#pragma unroll
    for (int pass = 0; pass < kPasses; ++pass) {
#pragma unroll
      for (int tile = 0; tile < kTiles; ++tile) multiply_add(d[tile], a, b0, b1, T{});
    }
  }
  float sum = 0.0f;
#pragma unroll
  for (int tile = 0; tile < kTiles; ++tile) sum += d[tile][0] + d[tile][1] + d[tile][2] + d[tile][3];
  static_cast<float*>(p.y)[at] = sum;
}

extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) ceiling_f32(const __grid_constant__ KilnCastParams p) {
  chains(p);
}
KILN_EXPORT(ceiling_f32)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) ceiling_tf32(const __grid_constant__ KilnCastParams p) {
  tiles<float>(p);
}
KILN_EXPORT(ceiling_tf32)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) ceiling_bf16(const __grid_constant__ KilnCastParams p) {
  tiles<Bf16>(p);
}
KILN_EXPORT(ceiling_bf16)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) ceiling_f16(const __grid_constant__ KilnCastParams p) {
  tiles<F16>(p);
}
KILN_EXPORT(ceiling_f16)
