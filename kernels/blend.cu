// SPDX-License-Identifier: MIT OR Apache-2.0
// Weighted sums along one extent: what resampling, and means over uneven pieces, are. The terms of each place stand in a table,
// and are added in its order. One thread per element of the result, or per 16 bytes of them.
#include "abi_images.h"
#include "lib/divide.cuh"
#include "lib/pack.cuh"

template <class T, int N> KILN_DEVICE void blend(const KilnBlendParams& p) {
  const Quotient column = divide(blockIdx.x * KILN_BLOCK_THREADS + threadIdx.x, p.chunks);  // (row of y, chunk)
  const Quotient row = divide(column.quotient, p.places);
  if (row.quotient >= p.outer) return;
  const u32 inner = p.chunks.divisor * N, at = column.remainder * N;
  const T* const x = static_cast<const T*>(p.x) + static_cast<size_t>(row.quotient) * p.extent * inner + at;
  Chunk<N> sum = {};
  // Two loads are on their way together. Left alone, compilers take four, and on some architectures spill.
#pragma unroll 2
  for (u32 term = p.starts[row.remainder]; term < p.starts[row.remainder + 1]; ++term) {
    const T* const from = x + static_cast<size_t>(p.terms[term].from) * inner;
    Chunk<N> chunk;
    if constexpr (N == 1) {
      chunk = load_chunk_part<1>(from, 1);
    } else {
      chunk = load_chunk<N>(from);
    }
#pragma unroll
    for (int i = 0; i < N; ++i) sum.v[i] += p.terms[term].weight * chunk.v[i];
  }
  T* const y = static_cast<T*>(p.y) + static_cast<size_t>(column.quotient) * inner + at;
  if constexpr (N == 1) {
    store_chunk_part<1>(y, sum, 1);
  } else {
    store_chunk<N>(y, sum);
  }
}

extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) blend_f32(const __grid_constant__ KilnBlendParams p) {
  blend<float, kVector<float>>(p);
}
KILN_EXPORT(blend_f32)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) blend_ragged_f32(const __grid_constant__ KilnBlendParams p) {
  blend<float, 1>(p);
}
KILN_EXPORT(blend_ragged_f32)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) blend_bf16(const __grid_constant__ KilnBlendParams p) {
  blend<Bf16, kVector<Bf16>>(p);
}
KILN_EXPORT(blend_bf16)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) blend_ragged_bf16(const __grid_constant__ KilnBlendParams p) {
  blend<Bf16, 1>(p);
}
KILN_EXPORT(blend_ragged_bf16)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) blend_f16(const __grid_constant__ KilnBlendParams p) {
  blend<F16, kVector<F16>>(p);
}
KILN_EXPORT(blend_f16)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) blend_ragged_f16(const __grid_constant__ KilnBlendParams p) {
  blend<F16, 1>(p);
}
KILN_EXPORT(blend_ragged_f16)
