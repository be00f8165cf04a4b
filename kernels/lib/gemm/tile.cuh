// SPDX-License-Identifier: MIT OR Apache-2.0
// Sizes of the tiles of a matrix product on tensor cores, and how operand tiles lie in shared memory.
#pragma once
#include "abi.h"
#include "lib/device.cuh"
#include "lib/pack.cuh"

// Which of 16 x 8 sums a lane holds, with g = lane / 4 and t = lane % 4.
enum class Order {
  Plain,   // rows g, g + 8, columns 2t, 2t + 1, as mma.sync names them
  Pairs,   // rows 2g, 2g + 1 of a, which come by loads of two: f32 that runs along m
  Turned,  // the product of b^T and a^T with b's columns in such pairs: of 8 x 16 sums rows 2t, 2t + 1, columns 2g, 2g + 1
};

// A block computes M x N outputs, each of its warps WarpM x WarpN.
template <int M, int N, int WarpM, int WarpN> struct Tile {
  static constexpr Order kOrder = Order::Plain;
  static constexpr int kM = M, kN = N, kWarpM = WarpM, kWarpN = WarpN;
  static constexpr int kWarpsM = M / WarpM, kWarpsN = N / WarpN;
  static constexpr int kThreads = kWarpsM * kWarpsN * 32;
  static constexpr int kFragmentsM = WarpM / 16, kFragmentsN = WarpN / 8;  // mma tiles per warp
  // Where warps pass sums on to their tails: 16 rows each, padded by 8 banks for conflict-free stores.
  static constexpr int kStagingPitch = WarpN + 8;  // floats
  static constexpr int kStagingBytes = kThreads / 32 * 16 * kStagingPitch * 4;
  static_assert(kThreads == KILN_GEMM_THREADS, "the host launches KILN_GEMM_THREADS threads");

  // First of the eight columns of the tile that this lane finishes.
  __device__ __forceinline__ static int column() {
    const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
    return warp / kWarpsM * WarpN + lane % (WarpN / 8) * 8;
  }
  // Its number among the lanes that finish these columns.
  __device__ __forceinline__ static int team() {
    const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
    return warp % kWarpsM * (256 / WarpN) + lane / (WarpN / 8);
  }
};
template <class Base, Order order> struct Ordered : Base {
  static constexpr Order kOrder = order;
};
using Tile128 = Tile<128, 128, 64, 64>;
using Tile128x64 = Tile<128, 64, 64, 32>;
using Tile64x128 = Tile<64, 128, 32, 64>;
using Tile64 = Tile<64, 64, 32, 32>;

// 86, 89 and 12x have 100 KB of shared memory per multiprocessor: with a stage less, two blocks of the large tile fit.
#if defined(__CUDA_ARCH__) && (__CUDA_ARCH__ == 860 || __CUDA_ARCH__ == 890 || __CUDA_ARCH__ >= 1200)
constexpr int kStages = KILN_GEMM_STAGES_SMALL;
#else
constexpr int kStages = KILN_GEMM_STAGES;
#endif

// Each stage holds this many elements along k: two steps of mma, since a step is 32 bytes deep for every type.
template <class T> constexpr int kDepth = KILN_GEMM_DEPTH_BYTES / static_cast<int>(sizeof(T));
constexpr int kSteps = KILN_GEMM_DEPTH_BYTES / 32;
static_assert(kSteps == 2, "fragments are double-buffered by the parity of the step");

// Along what consecutive elements of an operand lie: its k extent, or its other one (m of a, n of b).
enum class Along { K, Outer };

// An operand's part of one stage: Extent rows of 64 bytes along k, or kDepth rows along the outer extent. Chunks of 16
// bytes are permuted within rows so that ldmatrix, cp.async and the scalar loads of tf32 never meet a bank conflict.
template <class T, int Extent, Along along> struct SharedTile {
  static constexpr int kBytes = Extent * KILN_GEMM_DEPTH_BYTES;
  static constexpr int kRows = along == Along::K ? Extent : kDepth<T>;
  static constexpr int kRowBytes = kBytes / kRows;
  static constexpr int kChunks = kRowBytes / 16;  // per row

  __device__ __forceinline__ static constexpr u32 offset(int row, int chunk) {
    return row * kRowBytes + ((chunk ^ permutation(row)) << 4);
  }

 private:
  __device__ __forceinline__ static constexpr int permutation(int row) {
    if (along == Along::K) return (row >> 1) & 3;
    return sizeof(T) == 4 ? (row & 3) << 1 : row & 7;
  }
};

// An operand in global memory: row-major with this many elements between rows.
template <class T> struct Operand {
  const T* data;
  int stride;
};
