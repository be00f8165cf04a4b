// SPDX-License-Identifier: MIT OR Apache-2.0
// The main loop of a matrix product: a ring of stages filled by cp.async, fragments double-buffered in registers.
#pragma once
#include "fragment.cuh"
#include "lib/reduce.cuh"
#include "load.cuh"

// Sums of one warp: lane l holds of fragment (i, j) the elements (16i + l/4 (+ 8), 8j + 2(l%4) (+ 1)), or others of the same
// 16 rows in another order. Turned, fragment (i, 2j + a) has the sums of rows 16i + 8a .. + 8 and columns 16j .. + 16.
template <class Shape> struct Sums {
  float v[Shape::kFragmentsM][Shape::kFragmentsN][4];
};

// The part of k that a split works on.
struct Range {
  int begin, end;
};
template <class T> KILN_DEVICE Range split_range(int k, int splits, int split) {
  const int depth = ceil_div(ceil_div(k, kDepth<T>), splits) * kDepth<T>;
  return Range{min(k, split * depth), min(k, (split + 1) * depth)};
}

template <class T, class Tile, Along along_a, Along along_b, Bounds bounds, class LoaderA = Loader<T, Tile::kM, along_a, bounds>,
          class LoaderB = Loader<T, Tile::kN, along_b, bounds>>
class Product {
  using SharedA = SharedTile<T, Tile::kM, along_a>;
  using SharedB = SharedTile<T, Tile::kN, along_b>;
  static constexpr u32 kStageBytes = SharedA::kBytes + SharedB::kBytes;
  static constexpr int kM = Tile::kFragmentsM, kN = Tile::kFragmentsN;
  // Of f32 operands that do not run along k the first of mma.sync comes by wider loads: the one with more of a warp's tile.
  static constexpr bool kPairsA = sizeof(T) == 4 && along_a == Along::Outer, kPairsB = sizeof(T) == 4 && along_b == Along::Outer;
  static constexpr bool kTurned = kPairsB && !(kPairsA && Tile::kWarpM >= Tile::kWarpN);
  static constexpr Order kOrder = kTurned ? Order::Turned : kPairsA ? Order::Pairs : Order::Plain;

 public:
  using Element = T;
  using Shape = Ordered<Tile, kOrder>;
  static constexpr Bounds kBounds = bounds;

  // (row, column): the tile's corner; the operands' extents are m and n.
  __device__ __forceinline__ Product(u8* shared, const Operand<T>& a, const Operand<T>& b, int row, int column, int m, int n,
                                     Range k)
      : from_a_(a, row, k.begin, m, k.end),
        from_b_(b, column, k.begin, n, k.end),
        to_a_(shared, warp() % Tile::kWarpsM * Tile::kWarpM),
        to_b_(shared + SharedA::kBytes, warp() / Tile::kWarpsM * Tile::kWarpN),
        tiles_(ceil_div(k.end - k.begin, kDepth<T>)) {}

  // The same with loaders that stand where the tile and its part of k begin.
  __device__ __forceinline__ Product(u8* shared, const LoaderA& a, const LoaderB& b, Range k)
      : from_a_(a),
        from_b_(b),
        to_a_(shared, warp() % Tile::kWarpsM * Tile::kWarpM),
        to_b_(shared + SharedA::kBytes, warp() / Tile::kWarpsM * Tile::kWarpN),
        tiles_(ceil_div(k.end - k.begin, kDepth<T>)) {}

  __device__ __forceinline__ static int warp() { return static_cast<int>(threadIdx.x) / 32; }

  // Afterwards the shared memory is free for other uses.
  __device__ __forceinline__ Sums<Shape> run(u8* shared) {
    Sums<Shape> sums = {};
    if (tiles_ > 0) {
      start(shared);
#pragma unroll 1
      for (int left = tiles_ - 1; left > 0; --left) step<Position::Middle>(shared, sums, left);
      step<Position::Last>(shared, sums, 0);
    }
    cp_async_wait<0>();
    __syncthreads();
    return sums;
  }

 private:
  enum class Position { Middle, Last };

  __device__ __forceinline__ void start(u8* shared) {
    from_a_.first(shared);
    from_b_.first(shared + SharedA::kBytes);
    cp_async_commit();
#pragma unroll
    for (int stage = 1; stage < kStages - 1; ++stage) fill(shared + stage * kStageBytes, stage < tiles_);
    read_ = 0;
    write_ = (kStages - 1) * kStageBytes;
    cp_async_wait<kStages - 2>();
    __syncthreads();
    load(0, 0);
  }

  // One group of copies per stage, be it empty, so that the count of groups tells which stage has landed.
  __device__ __forceinline__ void fill(u8* stage, bool exists) {
    if (exists) {
      from_a_.next(stage);
      from_b_.next(stage + SharedA::kBytes);
    }
    cp_async_commit();
  }

  // Multiplies one stage, after which `left` are left. While the tensor cores work on a step, the next one's fragments are on their way.
  template <Position position> __device__ __forceinline__ void step(u8* shared, Sums<Shape>& sums, int left) {
    load(read_, 1);
    if (position == Position::Middle) {
      // The stage written here was last read before the barrier of the step before.
      fill(shared + write_, left >= kStages - 1);
      write_ = following(write_);
    }
    multiply(sums, 0);
    if (position == Position::Middle) {
      cp_async_wait<kStages - 2>();
      __syncthreads();
      read_ = following(read_);
      load(read_, 0);
    }
    multiply(sums, 1);
  }

  __device__ __forceinline__ static u32 following(u32 stage) {
    return stage == (kStages - 1) * kStageBytes ? 0 : stage + kStageBytes;
  }

  __device__ __forceinline__ void load(u32 stage, int step) {
#pragma unroll
    for (int i = 0; i < kM; ++i) to_a_.load(a_[step][i], stage, i, step);
#pragma unroll
    for (int j = 0; j < kN / 2; ++j) to_b_.load(b_[step][j], stage, j, step);
  }

  // Back and forth, so that neighbouring instructions share an operand.
  __device__ __forceinline__ void multiply(Sums<Shape>& sums, int step) {
    constexpr int kOuter = kTurned ? kN / 2 : kM, kInner = kTurned ? 2 * kM : kN;
#pragma unroll
    for (int i = 0; i < kOuter; ++i) {
#pragma unroll
      for (int turn = 0; turn < kInner; ++turn) {
        const int j = i % 2 == 0 ? turn : kInner - 1 - turn;
        if constexpr (kTurned) {
          const u32(&a)[4] = a_[step][j / 2];
          multiply_add(sums.v[j / 2][2 * i + j % 2], b_[step][i], a[j % 2 * 2], a[j % 2 * 2 + 1], T{});
        } else {
          const u32(&b)[4] = b_[step][j / 2];
          multiply_add(sums.v[i][j], a_[step][i], b[j % 2 * 2], b[j % 2 * 2 + 1], T{});
        }
      }
    }
  }

  LoaderA from_a_;
  LoaderB from_b_;
  Fragments<T, Tile::kM, along_a, kTurned ? Side::B : Side::A> to_a_;
  Fragments<T, Tile::kN, along_b, kTurned ? Side::A : Side::B> to_b_;
  u32 a_[kSteps][kM][4], b_[kSteps][kN / 2][4];
  int tiles_;
  u32 read_, write_;  // byte offsets of stages
};

// A tile's sums fragment row by fragment row: if k was split, one part of them until the parts are joined.
template <class Shape> struct TileSums {
  mutable Sums<Shape> sums;  // in registers; changed by joining
  const float4* parts;       // [splits][fragments][threads], at this thread; null if k was not split
  int splits;

  static constexpr int kFragments = Shape::kFragmentsM * Shape::kFragmentsN;
  static constexpr int kArea = kFragments * Shape::kThreads;  // float4 per split
  static constexpr int kTogether = kFragments < 8 ? kFragments : 8;  // fragments whose loads are on their way together

  __device__ __forceinline__ float (&fragment(int f) const)[4] { return sums.v[f / Shape::kFragmentsN][f % Shape::kFragmentsN]; }

  // Calls put(j, v) for the fragments of row i. Registers have no index, hence the search; all threads agree on it.
  template <class Put> __device__ __forceinline__ void row(int i, Put put) const {
    find<0>(i, put);
  }

  template <int known, class Put> __device__ __forceinline__ void find(int i, Put put) const {
    if constexpr (known + 1 < Shape::kFragmentsM) {
      if (i != known) return find<known + 1>(i, put);
    }
#pragma unroll
    for (int j = 0; j < Shape::kFragmentsN; ++j) put(j, sums.v[known][j]);
  }
};

// True in the block that goes on with the tile: the only one, or the last to store its part of `tile`. That one adds the
// parts in the order of the splits, whichever came last.
template <class Shape>
KILN_DEVICE bool joins_splits(const TileSums<Shape>& tile, u32* ticket, u8* shared, u32 part = blockIdx.z) {
  if (tile.splits == 1) return true;
  float4* const mine = const_cast<float4*>(tile.parts) + part * tile.kArea;
#pragma unroll
  for (int f = 0; f < tile.kFragments; ++f) {
    float(&v)[4] = tile.fragment(f);
    mine[f * Shape::kThreads] = make_float4(v[0], v[1], v[2], v[3]);
    v[0] = v[1] = v[2] = v[3] = 0.0f;
  }
  if (!arrives_last(ticket, tile.splits, reinterpret_cast<u32*>(shared + Shape::kStagingBytes))) return false;
#pragma unroll
  for (int first = 0; first < tile.kFragments; first += tile.kTogether) {
#pragma unroll 1
    for (int split = 0; split < tile.splits; ++split) {
#pragma unroll
      for (int f = first; f < first + tile.kTogether; ++f) {
        const float4 other = __ldcg(tile.parts + split * tile.kArea + f * Shape::kThreads);
        float(&v)[4] = tile.fragment(f);
        v[0] += other.x;
        v[1] += other.y;
        v[2] += other.z;
        v[3] += other.w;
      }
    }
  }
  return true;
}
template <class Shape>
KILN_DEVICE TileSums<Shape> tile_sums(const Sums<Shape>& sums, const KilnSplitK& split, size_t first, size_t tile) {
  const size_t area = static_cast<size_t>(split.splits) * Shape::kM * Shape::kN;
  const float4* const parts = reinterpret_cast<const float4*>(split.partials + first + tile * area);
  return TileSums<Shape>{sums, parts + threadIdx.x, split.splits};
}
