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

// What the threads of a block found of the same columns, merged by halves; meaningful at the first `width` places. Threads
// whose places differ by a multiple of `width` have the same columns. `shared`: Found::kNumbers * Threads floats.
// Found: numbers `v` of f32 and merge(another).
template <int Threads, class Found> KILN_DEVICE void merge_teams(Found& mine, u32 width, u32 place, float* shared) {
  __syncthreads();
#pragma unroll
  for (int i = 0; i < Found::kNumbers; ++i) shared[i * Threads + place] = mine.v[i];
#pragma unroll 1
  for (u32 half = Threads / 2; half >= width; half /= 2) {
    __syncthreads();
    if (place >= half) continue;
    Found other;
#pragma unroll
    for (int i = 0; i < Found::kNumbers; ++i) other.v[i] = shared[i * Threads + half + place];
    mine.merge(other);
#pragma unroll
    for (int i = 0; i < Found::kNumbers; ++i) shared[i * Threads + place] = mine.v[i];
  }
}

// Which of those that found something of the same columns a block is, and where they meet.
struct Part {
  u32 number, count;
  float* numbers;  // [count][Found::kNumbers][width]
  u32* ticket;
};

// Merges what blocks found, each at its first `width` places. True, for all threads, in the block that holds it there.
template <int Threads, class Found>
KILN_DEVICE bool merge_parts(Found& mine, u32 width, u32 place, const Part& part, float* shared) {
  if (part.count == 1) return true;
  float* const all = part.numbers + place % width;
  if (place < width) {
    float* const own = all + static_cast<size_t>(part.number) * Found::kNumbers * width;
#pragma unroll
    for (int i = 0; i < Found::kNumbers; ++i) own[i * width] = mine.v[i];
  }
  if (!arrives_last(part.ticket, part.count)) return false;
  mine = Found{};
  for (u32 other_part = place / width; other_part < part.count; other_part += Threads / width) {
    const float* const from = all + static_cast<size_t>(other_part) * Found::kNumbers * width;
    Found other;
#pragma unroll
    for (int i = 0; i < Found::kNumbers; ++i) other.v[i] = __ldcg(from + i * width);
    mine.merge(other);
  }
  merge_teams<Threads>(mine, width, place, shared);
  return true;
}

// Merges what all threads found of the same columns. True in the threads that hold it: the first `width` of one block.
template <class Found> KILN_DEVICE bool merge_columns(Found& mine, const KilnGroups& groups) {
  KILN_SHARED(float, shared, Found::kNumbers * KILN_BLOCK_THREADS);
  const u32 width = groups.width;
  merge_teams<KILN_BLOCK_THREADS>(mine, width, threadIdx.x, shared);
  float* const numbers = groups.partials + static_cast<size_t>(blockIdx.x) * groups.splits * Found::kNumbers * width;
  const Part part{blockIdx.y, groups.splits, numbers, groups.tickets + blockIdx.x};
  return merge_parts<KILN_BLOCK_THREADS>(mine, width, threadIdx.x, part, shared) && threadIdx.x < width;
}

// The same of all blocks along the grid's rows, for those of each of its columns: by KILN_PARTS_TOGETHER, and the last of each
// such group with those of the others. partials: [grid.y, grid.x + groups, Found::kNumbers, width], tickets: [grid.y, groups + 1].
template <int Threads, class Found>
KILN_DEVICE bool merge_blocks(Found& mine, u32 width, u32 place, float* partials, u32* tickets, float* shared) {
  constexpr u32 kTogether = KILN_PARTS_TOGETHER;
  const u32 blocks = gridDim.x, groups = (blocks + kTogether - 1) / kTogether, numbers = Found::kNumbers * width;
  const u32 group = blockIdx.x / kTogether, first = group * kTogether;
  float* const parts = partials + static_cast<size_t>(blockIdx.y) * (blocks + groups) * numbers;
  u32* const own = tickets + blockIdx.y * (groups + 1);
  const Part of_group{blockIdx.x - first, min(kTogether, blocks - first), parts + static_cast<size_t>(first) * numbers, own + group};
  const Part of_all{group, groups, parts + static_cast<size_t>(blocks) * numbers, own + groups};
  merge_teams<Threads>(mine, width, place, shared);
  return merge_parts<Threads>(mine, width, place, of_group, shared) && merge_parts<Threads>(mine, width, place, of_all, shared);
}
