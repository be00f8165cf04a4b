// SPDX-License-Identifier: MIT OR Apache-2.0
// Ways to walk a matrix whose columns are groups, and to add up what its threads found. `width` threads of a block lie
// along the columns, a chunk of 16 bytes each; the teams of such threads share the rows of the block's part.
#pragma once
#include "abi_images.h"
#include "pack.cuh"
#include "reduce.cuh"

template <class T> struct ColumnWalk {
  static constexpr int kStep = kVector<T>;
  u32 column;          // of the thread's chunk
  int count;           // columns of it that exist; 0 or fewer for none
  bool whole;          // whether every chunk is 16 bytes, aligned
  u32 row, step, end;  // the thread's rows
  u32 columns;

  __device__ __forceinline__ explicit ColumnWalk(const KilnGroups& groups) {
    columns = groups.columns;
    column = (blockIdx.x * groups.width + threadIdx.x % groups.width) * kStep;
    count = column < columns ? static_cast<int>(min(columns - column, static_cast<u32>(kStep))) : 0;
    whole = columns % kStep == 0;
    step = KILN_BLOCK_THREADS / groups.width;
    const u32 part = (groups.rows + groups.splits - 1) / groups.splits;
    row = blockIdx.y * part + threadIdx.x / groups.width;
    end = count > 0 ? min(groups.rows, (blockIdx.y + 1) * part) : 0;
  }

  __device__ __forceinline__ size_t offset(u32 row) const { return static_cast<size_t>(row) * columns + column; }
  __device__ __forceinline__ Chunk<kStep> load(const void* from, u32 row) const {
    const T* const at = static_cast<const T*>(from) + offset(row);
    return whole ? load_chunk<kStep>(at) : load_chunk_part<kStep>(at, count);
  }
  __device__ __forceinline__ void store(void* to, u32 row, const Chunk<kStep>& chunk) const {
    T* const at = static_cast<T*>(to) + offset(row);
    if (whole) {
      store_chunk<kStep>(at, chunk);
    } else {
      store_chunk_part<kStep>(at, chunk, count);
    }
  }
  // Numbers of the thread's columns; `otherwise` where there are none.
  __device__ __forceinline__ Chunk<kStep> numbers(const float* from, float otherwise) const {
    Chunk<kStep> chunk;
#pragma unroll
    for (float& value : chunk.v) value = otherwise;
    return from != nullptr && count > 0 ? load_chunk_upto<kStep>(from + column, count) : chunk;
  }
};

// What a centred element is multiplied by.
KILN_DEVICE float scale_of(float variance, float eps) { return 1.0f / sqrtf(variance + eps); }

// Sums of dy, and of dy * (x - mean).
template <int N> struct GradientSums {
  static constexpr int kNumbers = 2 * N;
  float v[kNumbers] = {};

  __device__ __forceinline__ void merge(const GradientSums& other) {
#pragma unroll
    for (int i = 0; i < kNumbers; ++i) v[i] += other.v[i];
  }
};

// What the threads of a block found of the same columns, merged by halves; meaningful in the first `width` threads.
// Found: numbers `v` of f32 and merge(another).
template <class Found> KILN_DEVICE void merge_teams(Found& mine, u32 width) {
  KILN_SHARED(float, shared, Found::kNumbers * KILN_BLOCK_THREADS);
  __syncthreads();
#pragma unroll
  for (int i = 0; i < Found::kNumbers; ++i) shared[i * KILN_BLOCK_THREADS + threadIdx.x] = mine.v[i];
#pragma unroll 1
  for (u32 half = KILN_BLOCK_THREADS / 2; half >= width; half /= 2) {
    __syncthreads();
    if (threadIdx.x >= half) continue;
    Found other;
#pragma unroll
    for (int i = 0; i < Found::kNumbers; ++i) other.v[i] = shared[i * KILN_BLOCK_THREADS + half + threadIdx.x];
    mine.merge(other);
#pragma unroll
    for (int i = 0; i < Found::kNumbers; ++i) shared[i * KILN_BLOCK_THREADS + threadIdx.x] = mine.v[i];
  }
}

// Merges what all threads found of the same columns. True in the threads that hold it: the first `width` of one block.
template <class Found> KILN_DEVICE bool merge_columns(Found& mine, const KilnGroups& groups) {
  const u32 width = groups.width, lane = threadIdx.x % width;
  merge_teams(mine, width);
  if (groups.splits == 1) return threadIdx.x < width;
  float* const all = groups.partials + static_cast<size_t>(blockIdx.x) * groups.splits * Found::kNumbers * width + lane;
  if (threadIdx.x < width) {
    float* const own = all + static_cast<size_t>(blockIdx.y) * Found::kNumbers * width;
#pragma unroll
    for (int i = 0; i < Found::kNumbers; ++i) own[i * width] = mine.v[i];
  }
  if (!arrives_last(groups.tickets + blockIdx.x, groups.splits)) return false;
  mine = Found{};
  for (u32 split = threadIdx.x / width; split < groups.splits; split += KILN_BLOCK_THREADS / width) {
    const float* const from = all + static_cast<size_t>(split) * Found::kNumbers * width;
    Found other;
#pragma unroll
    for (int i = 0; i < Found::kNumbers; ++i) other.v[i] = __ldcg(from + i * width);
    mine.merge(other);
  }
  merge_teams(mine, width);
  return threadIdx.x < width;
}
