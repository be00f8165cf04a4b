// SPDX-License-Identifier: MIT OR Apache-2.0
// Sums along one extent of x [outer, reduced, inner], in f32. Two kernels: one for inner == 1, where a sum runs along
// consecutive elements, and one for the rest, where neighbouring threads own neighbouring columns.
#include "abi.h"
#include "lib/pack.cuh"
#include "lib/reduce.cuh"

KILN_DEVICE void store_sum(const KilnReduceParams& p, size_t at, float sum) {
  sum *= p.scale;
  p.y[at] = p.store == KILN_STORE_ACCUMULATE ? p.y[at] + sum : sum;
}

// One block per row: y[o] = sum over r of x[o, r]. Vectors where the row's start and length allow.
template <class T> KILN_DEVICE void sum_rows(const KilnReduceParams& p) {
  constexpr int kStep = kVector<T>;
  const T* row = static_cast<const T*>(p.x) + static_cast<size_t>(blockIdx.x) * p.reduced;
  float sum = 0.0f;
  if (p.reduced % kStep == 0) {
    for (u32 at = threadIdx.x * kStep; at < p.reduced; at += KILN_BLOCK_THREADS * kStep) {
      const auto chunk = load_chunk<kStep>(row + at);
#pragma unroll
      for (const float value : chunk.v) sum += value;
    }
  } else {
    for (u32 at = threadIdx.x; at < p.reduced; at += KILN_BLOCK_THREADS) sum += to_f32(row[at]);
  }
  sum = block_sum<KILN_BLOCK_THREADS>(sum);
  if (threadIdx.x == 0) store_sum(p, blockIdx.x, sum);
}

// Block (x, y, z): 32 chunks of columns of one outer index y, and the z-th part of the reduced extent. Its eight warps
// take every eighth row of that part. Ragged: inner is not a multiple of the elements in 16 bytes.
enum class Columns { Aligned, Ragged };

template <class T, Columns columns> struct ColumnSums {
  static constexpr int kStep = kVector<T>;
  static constexpr int kWarps = KILN_BLOCK_THREADS / 32;
  const KilnReduceParams& p;
  u32 first;  // column of the lane's chunk
  int count;  // columns of it that exist

  __device__ __forceinline__ explicit ColumnSums(const KilnReduceParams& p) : p(p) {
    first = (blockIdx.x * 32 + threadIdx.x % 32) * kStep;
    count = first < p.inner ? static_cast<int>(min(p.inner - first, static_cast<u32>(kStep))) : 0;
  }

  // Sums of this warp's rows.
  __device__ __forceinline__ Chunk<kStep> over_rows() const {
    const u32 part = (p.reduced + p.splits - 1) / p.splits;
    const u32 end = min(p.reduced, (blockIdx.z + 1) * part);
    const T* x = static_cast<const T*>(p.x) + static_cast<size_t>(blockIdx.y) * p.reduced * p.inner + first;
    Chunk<kStep> sum = {};
    for (u32 r = blockIdx.z * part + threadIdx.x / 32; r < end; r += kWarps) {
      const T* at = x + static_cast<size_t>(r) * p.inner;
      const auto chunk = columns == Columns::Aligned ? load_chunk<kStep>(at) : load_chunk_part<kStep>(at, count);
#pragma unroll
      for (int i = 0; i < kStep; ++i) sum.v[i] += chunk.v[i];
    }
    return sum;
  }

  // Sums over the block's warps, in the order of the warps; meaningful in the first warp.
  __device__ __forceinline__ Chunk<kStep> over_warps(const Chunk<kStep>& mine) const {
    KILN_SHARED(float, shared, KILN_BLOCK_THREADS * kStep);
#pragma unroll
    for (int i = 0; i < kStep; ++i) shared[i * KILN_BLOCK_THREADS + threadIdx.x] = mine.v[i];
    __syncthreads();
    Chunk<kStep> sum = {};
    for (u32 warp = 0; warp < kWarps; ++warp) {
#pragma unroll
      for (int i = 0; i < kStep; ++i) sum.v[i] += shared[i * KILN_BLOCK_THREADS + warp * 32 + threadIdx.x % 32];
    }
    return sum;
  }
};

template <class T, Columns columns> KILN_DEVICE void sum_middle(const KilnReduceParams& p) {
  const ColumnSums<T, columns> sums(p);
  constexpr int kStep = sums.kStep;
  Chunk<kStep> rows = {};
  if (sums.count > 0) rows = sums.over_rows();
  const auto sum = sums.over_warps(rows);
  const bool writes = threadIdx.x < 32 && sums.count > 0;
  const size_t at = static_cast<size_t>(blockIdx.y) * p.inner + sums.first;
  if (p.splits == 1) {
#pragma unroll
    for (int i = 0; i < kStep; ++i) {
      if (writes && i < sums.count) store_sum(p, at + i, sum.v[i]);
    }
    return;
  }
  const size_t stride = static_cast<size_t>(p.outer) * p.inner;
#pragma unroll
  for (int i = 0; i < kStep; ++i) {
    if (writes && i < sums.count) p.partials[blockIdx.z * stride + at + i] = sum.v[i];
  }
  if (!arrives_last(p.tickets + blockIdx.y * gridDim.x + blockIdx.x, p.splits)) return;
  for (int i = 0; writes && i < sums.count; ++i) {
    float total = 0.0f;
    for (u32 split = 0; split < p.splits; ++split) total += __ldcg(p.partials + split * stride + at + i);
    store_sum(p, at + i, total);
  }
}

extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) sum_rows_f32(const __grid_constant__ KilnReduceParams p) {
  sum_rows<float>(p);
}
KILN_EXPORT(sum_rows_f32)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) sum_rows_bf16(const __grid_constant__ KilnReduceParams p) {
  sum_rows<Bf16>(p);
}
KILN_EXPORT(sum_rows_bf16)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) sum_rows_f16(const __grid_constant__ KilnReduceParams p) {
  sum_rows<F16>(p);
}
KILN_EXPORT(sum_rows_f16)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) sum_middle_f32(const __grid_constant__ KilnReduceParams p) {
  sum_middle<float, Columns::Aligned>(p);
}
KILN_EXPORT(sum_middle_f32)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) sum_middle_bf16(const __grid_constant__ KilnReduceParams p) {
  sum_middle<Bf16, Columns::Aligned>(p);
}
KILN_EXPORT(sum_middle_bf16)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) sum_middle_f16(const __grid_constant__ KilnReduceParams p) {
  sum_middle<F16, Columns::Aligned>(p);
}
KILN_EXPORT(sum_middle_f16)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) sum_middle_ragged_f32(const __grid_constant__ KilnReduceParams p) {
  sum_middle<float, Columns::Ragged>(p);
}
KILN_EXPORT(sum_middle_ragged_f32)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) sum_middle_ragged_bf16(const __grid_constant__ KilnReduceParams p) {
  sum_middle<Bf16, Columns::Ragged>(p);
}
KILN_EXPORT(sum_middle_ragged_bf16)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) sum_middle_ragged_f16(const __grid_constant__ KilnReduceParams p) {
  sum_middle<F16, Columns::Ragged>(p);
}
KILN_EXPORT(sum_middle_ragged_f16)
