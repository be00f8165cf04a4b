// SPDX-License-Identifier: MIT OR Apache-2.0
// A product in full f32, by FFMA: one thread sums Rows x 8 outputs. Here operands are copied four bytes at a time, which
// takes any size and alignment and lets a copy put rows that run along k upright; ffma_whole.cuh has the fast way.
#pragma once
#include "core.cuh"
#include "tail.cuh"

template <int M, int N, int Rows> struct FfmaTile {
  static constexpr Order kOrder = Order::Plain;
  static constexpr int kM = M, kN = N;
  static constexpr int kThreads = M / Rows * (N / 8);
  static constexpr int kFragmentsM = Rows, kFragmentsN = 2;  // a row of eight sums is two fragments of four
  static constexpr int kStagingBytes = 0;                 // sums go to their tails in registers

  __device__ __forceinline__ static int row() { return static_cast<int>(threadIdx.x) / (N / 8) * Rows; }
  __device__ __forceinline__ static int column() { return static_cast<int>(threadIdx.x) % (N / 8) * 8; }
  __device__ __forceinline__ static int team() { return static_cast<int>(threadIdx.x) / (N / 8); }
};
using FfmaTile128 = FfmaTile<128, 128, 8>;
using FfmaTile128x64 = FfmaTile<128, 64, 8>;
using FfmaTile64x128 = FfmaTile<64, 128, 8>;
using FfmaTile64 = FfmaTile<64, 64, 4>;
static_assert(FfmaTile128::kThreads == 256 && FfmaTile128x64::kThreads == 128 && FfmaTile64x128::kThreads == 128 && FfmaTile64::kThreads == 128,
              "the host launches this many");

// One operand's part of a stage, upright: [depth][Extent + pad]. The pad makes 8 k x 4 outer stores conflict-free.
template <int Extent, Side side> struct Upright {
  static constexpr int kPitch = Extent + KILN_GEMM_F32_PAD;
  static constexpr int kTogether = 1;  // elements along k that are read at once

  // Where column n of b lies in a row of a stage: halves of 8 columns change places every 32, so that threads that read 8
  // columns each meet no bank conflict. Rows of a stay in place: the threads of a warp read the same few.
  __device__ __forceinline__ static int position(int n) { return side == Side::A ? n : n ^ ((n >> 5 & 1) << 2); }

  // The Count elements from `first`, a multiple of Count, at k.
  template <int Count> __device__ __forceinline__ static void read(float (*to)[Count], const float* part, int first, int k) {
    const float* const from = part + k * kPitch;
    if constexpr (Count == 2) {
      const float2 two = *reinterpret_cast<const float2*>(from + first);
      to[0][0] = two.x;
      to[0][1] = two.y;
    } else {
#pragma unroll
      for (int i = 0; i < Count; i += 4) {
        const int at = side == Side::A ? first + i : position(first) ^ i;
        const float4 four = *reinterpret_cast<const float4*>(from + at);
        to[0][i] = four.x;
        to[0][i + 1] = four.y;
        to[0][i + 2] = four.z;
        to[0][i + 3] = four.w;
      }
    }
  }
};

// Fills such parts.
template <int Extent, Along along, int Threads, Side side> class UprightLoader {
  static constexpr int kDepth = KILN_GEMM_F32_DEPTH;
  static constexpr int kInner = along == Along::K ? 8 : 32;    // consecutive elements per copy of a warp
  static constexpr int kOuter = Threads / kInner;              // rows of global memory per copy of the block
  static_assert(kInner <= 32 && (along == Along::Outer || (kOuter <= 32 && kOuter % 16 == 0)), "copies keep to one side of a flip");
  static constexpr int kColumns = along == Along::K ? kDepth : Extent, kRows = along == Along::K ? Extent : kDepth;

 public:
  using Part = Upright<Extent, side>;

  // The tile begins at (outer, k) of the operand.
  __device__ __forceinline__ UprightLoader(const Operand<float>& operand, int outer, int k, int outer_end, int k_end) {
    const int inner = static_cast<int>(threadIdx.x) % kInner, row = static_cast<int>(threadIdx.x) / kInner;
    const size_t stride = operand.stride;
    from_ = operand.data + (along == Along::K ? (outer + row) * stride + k + inner : (k + row) * stride + outer + inner);
    stride_ = static_cast<u32>(operand.stride);
    outer_left_ = outer_end - outer - (along == Along::K ? row : inner);
    k_left_ = k_end - k - (along == Along::K ? inner : row);
    to_ = (along == Along::K ? inner : row) * Part::kPitch;
    outer_ = along == Along::K ? row : inner;
  }

  // Elements outside the matrix become zeros; nothing is read for them.
  __device__ __forceinline__ void next(float* stage) {
#pragma unroll
    for (int row = 0; row < kRows; row += kOuter) {
#pragma unroll
      for (int column = 0; column < kColumns; column += kInner) {
        const int outer = along == Along::K ? row : column, k = along == Along::K ? column : row;
        // position(outer_ + outer), since outer_ < 32 and outer is a multiple of 16.
        float* const to = stage + to_ + k * Part::kPitch + outer + (outer_ ^ (Part::position(outer) ^ outer));
        const bool exists = outer < outer_left_ && k < k_left_;
        cp_async_4(to, from_ + static_cast<size_t>(row) * stride_ + column, exists ? 4 : 0);
      }
    }
    from_ += along == Along::K ? static_cast<size_t>(kDepth) : static_cast<size_t>(kDepth) * stride_;
    k_left_ -= kDepth;
  }

 private:
  const float* from_;  // this thread's first element of the next tile
  u32 stride_;
  int outer_left_, k_left_;  // what is left of the matrix from there
  int to_, outer_;           // where it goes in a stage
};

template <class Tile, Along along_a, Along along_b, class LoaderA = UprightLoader<Tile::kM, along_a, Tile::kThreads, Side::A>,
          class LoaderB = UprightLoader<Tile::kN, along_b, Tile::kThreads, Side::B>>
class FfmaProduct {
  using A = typename LoaderA::Part;
  using B = typename LoaderB::Part;
  static constexpr int kStage = KILN_GEMM_F32_DEPTH * (A::kPitch + B::kPitch);  // floats

 public:
  using Element = float;
  using Shape = Tile;
  static constexpr Bounds kBounds = Bounds::Guarded;

  __device__ __forceinline__ FfmaProduct(u8*, const Operand<float>& a, const Operand<float>& b, int row, int column, int m,
                                         int n, Range k)
      : from_a_(a, row, k.begin, m, k.end),
        from_b_(b, column, k.begin, n, k.end),
        tiles_(ceil_div(k.end - k.begin, KILN_GEMM_F32_DEPTH)) {}
  __device__ __forceinline__ FfmaProduct(u8*, const LoaderA& a, const LoaderB& b, Range k)
      : from_a_(a), from_b_(b), tiles_(ceil_div(k.end - k.begin, KILN_GEMM_F32_DEPTH)) {}

  // Two stages: a step is a thousand multiplications long, so one tile in flight hides the memory's latency.
  __device__ __forceinline__ Sums<Tile> run(u8* shared) {
    Sums<Tile> sums = {};
    float* const stages = reinterpret_cast<float*>(shared);
    if (tiles_ > 0) fill(stages);
#pragma unroll 1
    for (int tile = 0; tile < tiles_; ++tile) {
      cp_async_wait<0>();
      __syncthreads();
      if (tile + 1 < tiles_) fill(stages + (tile + 1) % KILN_GEMM_F32_STAGES * kStage);
      multiply(stages + tile % KILN_GEMM_F32_STAGES * kStage, sums);
    }
    __syncthreads();
    return sums;
  }

 private:
  __device__ __forceinline__ void fill(float* stage) {
    from_a_.next(stage);
    from_b_.next(stage + KILN_GEMM_F32_DEPTH * A::kPitch);
    cp_async_commit();
  }

  // What is read at once of b takes few registers, beside what a's reads bring: a row, or a column's elements along k.
  __device__ __forceinline__ static void multiply(const float* stage, Sums<Tile>& sums) {
    constexpr int kRows = Tile::kFragmentsM, kTogether = A::kTogether;
    const float* const b_part = stage + KILN_GEMM_F32_DEPTH * A::kPitch;
#pragma unroll
    for (int first = 0; first < KILN_GEMM_F32_DEPTH; first += kTogether) {
      float a[kTogether][kRows];
      A::read(a, stage, Tile::row(), first);
      if constexpr (B::kTogether == 1) {
#pragma unroll
        for (int k = 0; k < kTogether; ++k) {
          float b[1][8];
          B::read(b, b_part, Tile::column(), first + k);
#pragma unroll
          for (int i = 0; i < kRows; ++i) {
#pragma unroll
            for (int j = 0; j < 8; ++j) sums.v[i][j / 4][j % 4] += a[k][i] * b[0][j];
          }
        }
      } else {
        static_assert(B::kTogether == kTogether, "a column of b has as many elements");
#pragma unroll
        for (int j = 0; j < 8; ++j) {
          float b[kTogether];
          B::read_one(b, b_part, Tile::column(), j, first);
#pragma unroll
          for (int k = 0; k < kTogether; ++k) {
#pragma unroll
            for (int i = 0; i < kRows; ++i) sums.v[i][j / 4][j % 4] += a[k][i] * b[k];
          }
        }
      }
    }
  }

  LoaderA from_a_;
  LoaderB from_b_;
  int tiles_;
};

// A thread's sums already are rows of eight.
template <int M, int N, int Rows, class Visit>
KILN_DEVICE void each_chunk(const TileSums<FfmaTile<M, N, Rows>>& tile, u8*, Visit visit) {
  using Shape = FfmaTile<M, N, Rows>;
#pragma unroll 1
  for (int i = 0; i < Rows; ++i) {
    Chunk<8> chunk;
    tile.row(i, [&](int j, const float (&v)[4]) {
#pragma unroll
      for (int k = 0; k < 4; ++k) chunk.v[4 * j + k] = v[k];
    });
    visit(Shape::row() + i, Shape::column(), chunk);
  }
}
