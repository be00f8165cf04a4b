// SPDX-License-Identifier: MIT OR Apache-2.0
// Data on the move: other formats, transposed.
#include "abi.h"
#include "lib/pack.cuh"

// One thread per eight elements.
template <class From, class To> KILN_DEVICE void cast(const KilnCastParams& p) {
  const size_t first = static_cast<size_t>(blockIdx.x * KILN_BLOCK_THREADS + threadIdx.x) * 8;
  if (first >= p.count) return;
  const int count = static_cast<int>(min(p.count - static_cast<u32>(first), 8u));
  const auto chunk = load_chunk_upto<8>(static_cast<const From*>(p.x) + first, count);
  store_chunk_upto<8>(static_cast<To*>(p.y) + first, chunk, count);
}

// Block: a tile of KILN_TRANSPOSE_TILE x KILN_TRANSPOSE_TILE, read and written along rows; z: the batch.
template <class Bits> KILN_DEVICE void transpose(const KilnTransposeParams& p) {
  constexpr u32 kTile = KILN_TRANSPOSE_TILE;
  constexpr u32 kPitch = kTile + 1;  // odd, so that a column of the tile touches every bank
  KILN_SHARED(Bits, tile, kTile * kPitch);
  const size_t offset = static_cast<size_t>(blockIdx.z) * p.rows * p.columns;
  const Bits* x = static_cast<const Bits*>(p.x) + offset;
  Bits* y = static_cast<Bits*>(p.y) + offset;
  const u32 column = blockIdx.x * kTile + threadIdx.x, row = blockIdx.y * kTile + threadIdx.x;
#pragma unroll
  for (u32 i = threadIdx.y; i < kTile; i += KILN_TRANSPOSE_ROWS) {
    const u32 from = blockIdx.y * kTile + i;
    if (from < p.rows && column < p.columns) tile[i * kPitch + threadIdx.x] = x[static_cast<size_t>(from) * p.columns + column];
  }
  __syncthreads();
#pragma unroll
  for (u32 i = threadIdx.y; i < kTile; i += KILN_TRANSPOSE_ROWS) {
    const u32 to = blockIdx.x * kTile + i;
    if (to < p.columns && row < p.rows) y[static_cast<size_t>(to) * p.rows + row] = tile[threadIdx.x * kPitch + i];
  }
}

extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) cast_f32_bf16(const __grid_constant__ KilnCastParams p) {
  cast<float, Bf16>(p);
}
KILN_EXPORT(cast_f32_bf16)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) cast_f32_f16(const __grid_constant__ KilnCastParams p) {
  cast<float, F16>(p);
}
KILN_EXPORT(cast_f32_f16)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) cast_bf16_f32(const __grid_constant__ KilnCastParams p) {
  cast<Bf16, float>(p);
}
KILN_EXPORT(cast_bf16_f32)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) cast_bf16_f16(const __grid_constant__ KilnCastParams p) {
  cast<Bf16, F16>(p);
}
KILN_EXPORT(cast_bf16_f16)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) cast_f16_f32(const __grid_constant__ KilnCastParams p) {
  cast<F16, float>(p);
}
KILN_EXPORT(cast_f16_f32)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) cast_f16_bf16(const __grid_constant__ KilnCastParams p) {
  cast<F16, Bf16>(p);
}
KILN_EXPORT(cast_f16_bf16)
extern "C" __global__ void __launch_bounds__(KILN_TRANSPOSE_TILE * KILN_TRANSPOSE_ROWS) transpose_16(const __grid_constant__ KilnTransposeParams p) {
  transpose<u16>(p);
}
KILN_EXPORT(transpose_16)
extern "C" __global__ void __launch_bounds__(KILN_TRANSPOSE_TILE * KILN_TRANSPOSE_ROWS) transpose_32(const __grid_constant__ KilnTransposeParams p) {
  transpose<u32>(p);
}
KILN_EXPORT(transpose_32)
