// SPDX-License-Identifier: MIT OR Apache-2.0
// The fast way of products in full f32, taken by blocks whose tiles lie inside their matrices with rows that begin at 16
// bytes: copies of 16 bytes, and nothing is guarded. Every sum is made of the same products in the same order either way.
#pragma once
#include "ffma.cuh"

// One operand's part of a stage as rows that run along k: [Extent][depth], of which one read takes four elements.
template <int Extent> struct Lying {
  static constexpr int kPitch = Extent;  // of depth rows, as the host counts
  static constexpr int kTogether = 4;
  static constexpr int kDepth = KILN_GEMM_F32_DEPTH, kChunks = kDepth / 4;
  static_assert(kDepth == 16, "a row is half of all banks");

  // Rows that neighbouring threads read, eight apart, follow each other, and their chunks of 16 bytes change places, so
  // that eight threads touch every bank.
  __device__ __forceinline__ static int slot(int n) { return (n & 7) * (Extent / 8) + (n >> 3); }
  __device__ __forceinline__ static int offset(int n, int chunk) {
    return slot(n) * kDepth + ((chunk ^ (n >> 4 & 3)) << 2);
  }

  // Elements k .. k + 4 of the Count rows from `first`, a multiple of Count.
  template <int Count> __device__ __forceinline__ static void read(float (*to)[Count], const float* part, int first, int k) {
#pragma unroll
    for (int i = 0; i < Count; ++i) {
      float row[4];
      read_one(row, part, first, i, k);
#pragma unroll
      for (int j = 0; j < 4; ++j) to[j][i] = row[j];
    }
  }

  // The same of row i of those.
  __device__ __forceinline__ static void read_one(float (&to)[4], const float* part, int first, int i, int k) {
    const float4 four = *reinterpret_cast<const float4*>(part + offset(first, k / 4) + slot(i) * kDepth);
    to[0] = four.x;
    to[1] = four.y;
    to[2] = four.z;
    to[3] = four.w;
  }
};

// Fills parts of whole tiles, 16 bytes at a time.
template <int Extent, Along along, int Threads, Side side> class WholeLoader {
  static constexpr bool kLies = along == Along::K;
  static constexpr int kDepth = KILN_GEMM_F32_DEPTH;
  static constexpr int kChunks = (kLies ? kDepth : Extent) / 4;  // of a row of global memory
  static constexpr int kRowsPerPass = Threads / kChunks;
  static constexpr int kPasses = (kLies ? Extent : kDepth) / kRowsPerPass;
  static_assert(kPasses >= 1 && (!kLies || kRowsPerPass == 32 || kRowsPerPass == 64), "threads cover whole rows");

  template <Along, int> struct Layout { using Part = Upright<Extent, side>; };
  template <int unused> struct Layout<Along::K, unused> { using Part = Lying<Extent>; };

 public:
  using Part = typename Layout<along, 0>::Part;

  // Whether a tile at `outer` of `extent` may be copied so.
  __device__ __forceinline__ static bool fits(const Operand<float>& operand, int outer, int extent) {
    return outer + Extent <= extent && operand.stride % 4 == 0 && reinterpret_cast<size_t>(operand.data) % 16 == 0;
  }

  // The tile begins at (outer, k) of the operand.
  __device__ __forceinline__ WholeLoader(const Operand<float>& operand, int outer, int k, int /*outer_end*/, int /*k_end*/) {
    const int turn = static_cast<int>(threadIdx.x) / kChunks, chunk = static_cast<int>(threadIdx.x) % kChunks;
    // Rows that are copied together lie one behind the other in a stage.
    const int row = kLies ? (turn & 7) * 8 + turn / 8 : turn;
    const size_t stride = operand.stride;
    from_ = operand.data + (kLies ? (outer + row) * stride + k : (k + row) * stride + outer) + chunk * 4;
    stride_ = static_cast<u32>(operand.stride);
    if constexpr (kLies) {
      to_ = Part::offset(row, chunk);
    } else {
      to_ = row * Part::kPitch + Part::position(chunk * 4);
    }
  }

  __device__ __forceinline__ void next(float* stage) {
#pragma unroll
    for (int pass = 0; pass < kPasses; ++pass) {
      const int rows = first_row(pass);
      const int floats = kLies ? Lying<Extent>::slot(rows) * kDepth : rows * Upright<Extent, side>::kPitch;
      cp_async_16(stage + to_ + floats, from_ + static_cast<u32>(rows) * stride_);
    }
    from_ += kLies ? static_cast<u32>(kDepth) : static_cast<u32>(kDepth) * stride_;
  }

 private:
  // Passes are such rows apart that their chunks are permuted alike.
  __device__ __forceinline__ static constexpr int first_row(int pass) {
    if (!kLies) return pass * kRowsPerPass;
    return kRowsPerPass == 32 ? pass % 2 * 4 + pass / 2 * 64 : pass * 64;
  }

  const float* from_;  // this thread's first chunk of the next tile
  u32 stride_;
  int to_;
};

// Either way, whichever a block's tile and part of k allow.
template <class Tile, Along along_a, Along along_b> class F32Product {
  using LoaderA = WholeLoader<Tile::kM, along_a, Tile::kThreads, Side::A>;
  using LoaderB = WholeLoader<Tile::kN, along_b, Tile::kThreads, Side::B>;
  using Fast = FfmaProduct<Tile, along_a, along_b, LoaderA, LoaderB>;
  using Guarded = FfmaProduct<Tile, along_a, along_b>;
  // 256 threads have 128 registers each: reading four elements along k spills 16 (nn) and 32 bytes (nt) there, by nvcc 13.5
  // for sm_120.
  static constexpr bool kHasFast = Tile::kThreads <= 128 || (along_a == Along::Outer && along_b == Along::Outer);

 public:
  using Element = float;
  using Shape = Tile;
  static constexpr Bounds kBounds = Bounds::Guarded;

  __device__ __forceinline__ F32Product(u8*, const Operand<float>& a, const Operand<float>& b, int row, int column, int m, int n,
                                        Range k)
      : a_(a), b_(b), row_(row), column_(column), m_(m), n_(n), k_(k) {}

  __device__ __forceinline__ Sums<Tile> run(u8* shared) {
    if constexpr (kHasFast) {
      const bool whole = (k_.end - k_.begin) % KILN_GEMM_F32_DEPTH == 0;
      if (whole && LoaderA::fits(a_, row_, m_) && LoaderB::fits(b_, column_, n_)) {
        return Fast(shared, a_, b_, row_, column_, m_, n_, k_).run(shared);
      }
    }
    return Guarded(shared, a_, b_, row_, column_, m_, n_, k_).run(shared);
  }

 private:
  Operand<float> a_, b_;
  int row_, column_, m_, n_;
  Range k_;
};
