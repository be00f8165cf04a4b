// SPDX-License-Identifier: MIT OR Apache-2.0
// Copies of operand tiles from global to shared memory. Two ways with one interface: `first` fetches the first tile
// along k, `next` each later one.
#pragma once
#include "tile.cuh"

// Whether every tile lies inside its matrices with rows aligned to 16 bytes, or must be guarded element by element.
enum class Bounds { Inside, Guarded };

template <class T, int Extent, Along along, Bounds bounds> class Loader;

// cp.async of 16 bytes with one pointer and no predicate in the loop. What remains of k after whole tiles is fetched
// first, so that every later tile is whole; chunks beyond it are filled with zeros.
template <class T, int Extent, Along along> class Loader<T, Extent, along, Bounds::Inside> {
  using Shared = SharedTile<T, Extent, along>;
  static constexpr int kRowsPerPass = KILN_GEMM_THREADS / Shared::kChunks;
  static constexpr int kPasses = Shared::kRows / kRowsPerPass;
  static_assert(KILN_GEMM_THREADS % Shared::kChunks == 0 && Shared::kRows % kRowsPerPass == 0, "threads cover whole rows");
  static_assert(kPasses == 1 || kRowsPerPass % (along == Along::Outer && sizeof(T) == 4 ? 4 : 8) == 0,
                "every pass has the same permutation");

 public:
  // The tile begins at (outer, k) of the operand.
  __device__ __forceinline__ Loader(const Operand<T>& operand, int outer, int k, int /*outer_end*/, int k_end) {
    row_ = static_cast<int>(threadIdx.x) / Shared::kChunks;
    chunk_ = static_cast<int>(threadIdx.x) % Shared::kChunks;
    const size_t stride = static_cast<size_t>(operand.stride) * sizeof(T);
    const int row = row_ + (along == Along::K ? outer : k), column = along == Along::K ? k : outer;
    from_ = reinterpret_cast<const u8*>(operand.data + column) + row * stride + chunk_ * 16;
    pass_stride_ = static_cast<u32>(kRowsPerPass * stride);
    k_stride_ = along == Along::K ? sizeof(T) : static_cast<u32>(stride);
    to_ = Shared::offset(row_, chunk_);
    left_ = k_end - k;
  }

  __device__ __forceinline__ void first(u8* stage) {
    const int depth = left_ - (ceil_div(left_, kDepth<T>) - 1) * kDepth<T>;
#pragma unroll
    for (int pass = 0; pass < kPasses; ++pass) {
      const int k = along == Along::K ? chunk_ * kVector<T> : row_ + pass * kRowsPerPass;
      cp_async_16(stage + to_ + pass * kRowsPerPass * Shared::kRowBytes, from_ + static_cast<u32>(pass) * pass_stride_, k < depth ? 16 : 0);
    }
    from_ += static_cast<u32>(depth) * k_stride_;
  }
  __device__ __forceinline__ void next(u8* stage) {
#pragma unroll
    for (int pass = 0; pass < kPasses; ++pass) {
      cp_async_16(stage + to_ + pass * kRowsPerPass * Shared::kRowBytes, from_ + static_cast<u32>(pass) * pass_stride_);
    }
    from_ += static_cast<u32>(kDepth<T>) * k_stride_;
  }

 private:
  const u8* from_;  // this thread's first chunk of the next tile
  u32 pass_stride_, k_stride_;  // bytes; 32 bits, since registers are what bounds the tile
  u32 to_;
  int row_, chunk_, left_;
};

// Any size and alignment: elements outside the matrix become zeros. Rows that are not aligned are fetched element by
// element, without cp.async.
template <class T, int Extent, Along along> class Loader<T, Extent, along, Bounds::Guarded> {
  using Shared = SharedTile<T, Extent, along>;
  static constexpr int kPasses = Shared::kRows * Shared::kChunks / KILN_GEMM_THREADS;

 public:
  __device__ __forceinline__ Loader(const Operand<T>& operand, int outer, int k, int outer_end, int k_end)
      : operand_(operand), outer_(outer), k_(k), outer_end_(outer_end), k_end_(k_end) {
    aligned_ = operand.stride % kVector<T> == 0 && reinterpret_cast<size_t>(operand.data) % 16 == 0;
  }

  __device__ __forceinline__ void first(u8* stage) { next(stage); }
  __device__ __forceinline__ void next(u8* stage) {
#pragma unroll
    for (int pass = 0; pass < kPasses; ++pass) {
      const int index = static_cast<int>(threadIdx.x) + pass * KILN_GEMM_THREADS;
      const int row = index / Shared::kChunks, chunk = index % Shared::kChunks;
      copy(stage + Shared::offset(row, chunk), row, chunk * kVector<T>);
    }
    k_ += kDepth<T>;
  }

 private:
  __device__ __forceinline__ void copy(u8* shared, int tile_row, int tile_column) const {
    const int row = tile_row + (along == Along::K ? outer_ : k_), column = tile_column + (along == Along::K ? k_ : outer_);
    const int rows = along == Along::K ? outer_end_ : k_end_, columns = along == Along::K ? k_end_ : outer_end_;
    const int count = row < rows ? max(0, min(columns - column, kVector<T>)) : 0;
    const T* from = count > 0 ? operand_.data + static_cast<size_t>(row) * operand_.stride + column : operand_.data;
    if (aligned_) {
      cp_async_16(shared, from, count * static_cast<int>(sizeof(T)));
    } else {
      const Chunk<kVector<T>> chunk = load_chunk_part<kVector<T>>(from, count);
      *reinterpret_cast<uint4*>(shared) = repack(chunk.v, T{});
    }
  }

  Operand<T> operand_;
  int outer_, k_, outer_end_, k_end_;
  bool aligned_;
};
