// SPDX-License-Identifier: MIT OR Apache-2.0
// What steps of recurrent layers share: who takes part in a step, the product that waits for the step before, and the
// masks of what is handed on.
#pragma once
#include "abi_recurrent.h"
#include "lib/gemm/find.cuh"
#include "lib/gemm/tail.cuh"

constexpr int kStepRows = KILN_RECURRENT_ROWS, kStepColumns = KILN_RECURRENT_COLUMNS;
constexpr u32 kNoStep = 0xffffffffu;

// Steps of a sample's sequence.
KILN_DEVICE u32 length_of(const KilnStep& step, u32 sample) {
  if (step.lengths == nullptr) return step.steps;
  return static_cast<u32>(min(max(step.lengths[sample], 0), static_cast<int>(step.steps)));
}
// Of a sample of this length that takes part: the step that the forward walk makes before this one, and the one after.
KILN_DEVICE u32 later_step(const KilnStep& step, u32 length) { return step.time + 1 < length ? step.time + 1 : kNoStep; }
KILN_DEVICE u32 earlier_step(const KilnStep& step) { return step.time - 1; }
KILN_DEVICE u32 step_before(const KilnStep& step, u32 length) {
  return step.reversed ? later_step(step, length) : earlier_step(step);
}
KILN_DEVICE u32 step_after(const KilnStep& step, u32 length) {
  return step.reversed ? earlier_step(step) : later_step(step, length);
}
static_assert(0u - 1 == kNoStep, "before the first step there is none");

// The number of a sample's step among those of all samples.
KILN_DEVICE size_t step_row(const KilnStep& step, u32 sample, u32 time) {
  return static_cast<size_t>(sample) * step.steps + time;
}

// A number of [samples, width], 0 where there are none.
KILN_DEVICE float or_zero(const float* numbers, size_t at) { return numbers == nullptr ? 0.0f : numbers[at]; }

// The rows of a block's samples, listed in shared memory; null for zeros.
template <class T> struct StepRows {
  const T* data;
  const T* const* rows;
  bool whole;

  __device__ __forceinline__ const T* at(int outer, int k) const {
    const T* const row = rows[outer];
    return row == nullptr ? nullptr : row + k;
  }
};

// Weights [blocks * units, k] as a tile whose columns are `width` units of each block.
template <class T> struct UnitRows {
  const T* data;
  int first, units, width, blocks, stride;
  bool whole;

  __device__ __forceinline__ const T* at(int outer, int k) const {
    const int block = outer / width, unit = first + outer % width;
    if (block >= blocks || unit >= units) return nullptr;
    return data + static_cast<size_t>(block * units + unit) * stride + k;
  }
};

// Products of a block: on tensor cores, and in full f32.
template <class T> struct StepOnTensorCores {
  using Element = T;
  using Shape = Tile<kStepRows, kStepColumns, 16, 32>;
  template <int Extent, Along along, Side, class Finder> using Loader = FoundLoader<T, Extent, along, Finder>;
  template <class A, Along along_b, class B>
  using Product = ::Product<T, Shape, Along::K, along_b, Bounds::Guarded, Loader<kStepRows, Along::K, Side::A, A>,
                            Loader<kStepColumns, along_b, Side::B, B>>;
};
struct StepInFullF32 {
  using Element = float;
  using Shape = FfmaTile<kStepRows, kStepColumns, 2>;
  template <int Extent, Along along, Side side, class Finder>
  using Loader = UprightFound<Extent, along, Shape::kThreads, side, Finder>;
  template <class A, Along along_b, class B>
  using Product = FfmaProduct<Shape, Along::K, along_b, Loader<kStepRows, Along::K, Side::A, A>,
                              Loader<kStepColumns, along_b, Side::B, B>>;
};
static_assert(StepInFullF32::Shape::kThreads == KILN_GEMM_THREADS, "the host launches KILN_GEMM_THREADS threads");

struct SumsVisitor {
  static constexpr int kUnroll = 1;
  float* sums;  // [kStepRows][kStepColumns]
  __device__ __forceinline__ void operator()(int row, int column, const Chunk<8>& sum) const {
    store_chunk<8>(sums + row * kStepColumns + column, sum);
  }
};

// The products of a block's rows and weights in `sums`, for one part of k. True in the block that goes on: the only one, or
// the last part's. `find_row(sample)` says where a sample's row is, null for zeros; weights are found for columns below
// `end`, of which the block's begin at `column`.
template <class Way, Along along_b, class Params, class B, class FindRow>
KILN_DEVICE bool step_product(const Params& p, const B& weights, int column, int end, float* sums, FindRow find_row) {
  using T = typename Way::Element;
  using A = StepRows<T>;
  using Product = typename Way::template Product<A, along_b, B>;
  using Shape = typename Product::Shape;
  KILN_DYNAMIC_SHARED(u8, shared);
  KILN_SHARED(const T*, rows, kStepRows);
  KILN_SHARED(u32, found, 1);
  if (threadIdx.x < kStepRows) {
    const u32 sample = blockIdx.x * kStepRows + threadIdx.x;
    const T* const row = sample < p.step.samples ? find_row(sample) : nullptr;
    const u32 votes = __ballot_sync(kWholeWarp, row != nullptr);
    rows[threadIdx.x] = row;
    if (threadIdx.x == 0) *found = votes;
  }
  __syncthreads();
  // Of zeros alone the product is known.
  const int k = *found != 0 ? static_cast<int>(p.k) : 0;
  const Range range = split_range<T>(k, p.split.splits, static_cast<int>(blockIdx.z));
  const A a{static_cast<const T*>(p.rows), rows, p.k % kVector<T> == 0};
  Product product(
      shared, typename Way::template Loader<kStepRows, Along::K, Side::A, A>(a, 0, kStepRows, range),
      typename Way::template Loader<kStepColumns, along_b, Side::B, B>(weights, column, end, range), range);
  const Sums<Shape> all = product.run(shared);

  const size_t index = blockIdx.y * gridDim.x + blockIdx.x;
  const TileSums<Shape> tile = tile_sums(all, p.split, 0, index);
  if (!joins_splits(tile, p.split.tickets + index, shared)) return false;
  each_chunk(tile, shared, SumsVisitor{sums});
  __syncthreads();
  return true;
}
static_assert(kStepRows == 32, "a warp lists the rows of a block");

// Calls visit(sample, unit, sums of the unit, `width` apart) for the units of a block that exist.
template <class Visit>
KILN_DEVICE void each_unit(const KilnStep& step, const float* sums, u32 first, u32 units, u32 width, Visit visit) {
  for (u32 i = threadIdx.x; i < kStepRows * width; i += KILN_GEMM_THREADS) {
    const u32 row = i / width, unit = i % width, sample = blockIdx.x * kStepRows + row;
    if (sample < step.samples && first + unit < units) visit(sample, first + unit, sums + row * kStepColumns + unit);
  }
}
