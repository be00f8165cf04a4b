// SPDX-License-Identifier: MIT OR Apache-2.0
// What happens to sums on their way out. A warp passes its sums through shared memory, 16 rows at a time, so that each
// lane gets eight consecutive outputs of a row: 16-byte accesses, and one Philox call decides all eight.
#pragma once
#include "core.cuh"
#include "lib/math.cuh"
#include "lib/philox.cuh"

// The outputs that a block owns: [row, row_end) x [column, column_end). Where an edge tile was shifted inside the matrix,
// rows and columns that another block owns are left to it.
struct Window {
  int row, column, row_end, column_end;
};

// A matrix of outputs or of something shaped like them.
template <class T> struct Target {
  T* data;
  int stride;
};

// Rows of sums pass in places that spare conflicts. Of a lane's row `place` and the passes' that are added to it the sum is right.
template <Order order> KILN_DEVICE constexpr int row_at(int place) {
  if (order == Order::Pairs) return (place & 7) * 2 + (place >> 3);
  return order == Order::Plain ? place : (place & 8) + (place & 3) * 2 + (place >> 2 & 1);
}

// Calls visit(row, column, chunk of eight f32) for every row of eight outputs in the tile at (row, column), inside or not.
template <class Shape, class Visit> KILN_DEVICE void each_chunk(const TileSums<Shape>& tile, u8* shared, Visit visit) {
  constexpr int kChunks = Shape::kWarpN / 8;  // per row
  constexpr int kPitch = Shape::kStagingPitch;
  constexpr int kRowsPerPass = 32 / kChunks;
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  float* const stage = reinterpret_cast<float*>(shared) + warp * 16 * kPitch;  // [16][kPitch]
  // 16-byte halves of chunks change places so that eight lanes reading their first halves touch every bank.
  constexpr bool kTurned = Shape::kOrder == Order::Turned;
  const int half_of_row = kChunks == 8 ? 0 : 1;
  const int put_row = kTurned ? lane % 4 : lane / 4, put_flip = half_of_row * (put_row & 1);
  const int put_half = kTurned ? lane >> 3 & 1 : lane >> 1 & 1;
  const int get_row = lane / kChunks, get_chunk = lane % kChunks;
  const int get_flip = kChunks == 8 ? get_chunk >> 2 : get_row & 1;
  float* const put = stage + put_row * kPitch + (kTurned ? (lane >> 4) * 8 + (lane >> 2 & 1) * 2 : (lane & 1) * 2);
  const float* const get = stage + get_row * kPitch + get_chunk * 8;
  static_assert(kRowsPerPass % 2 == 0 && (kChunks == 8 || kChunks == 4), "a lane's flip is the same in every pass");
  const int row = warp % Shape::kWarpsM * Shape::kWarpM + row_at<Shape::kOrder>(get_row);
  const int column = warp / Shape::kWarpsM * Shape::kWarpN + get_chunk * 8;

#pragma unroll 1
  for (int i = 0; i < Shape::kFragmentsM; ++i) {
    tile.row(i, [&](int j, const float (&v)[4]) {
      const int flip = kChunks == 8 ? j >> 2 : put_flip;
      if constexpr (kTurned) {
        float* const to = put + j % 2 * 8 * kPitch + (4 * (j / 2) + (put_half ^ flip)) * 4;
        *reinterpret_cast<float2*>(to) = make_float2(v[0], v[2]);
        *reinterpret_cast<float2*>(to + 4 * kPitch) = make_float2(v[1], v[3]);
      } else {
        float* const to = put + (2 * j + (put_half ^ flip)) * 4;
        *reinterpret_cast<float2*>(to) = make_float2(v[0], v[1]);
        *reinterpret_cast<float2*>(to + 8 * kPitch) = make_float2(v[2], v[3]);
      }
    });
    __syncwarp();
#pragma unroll Visit::kUnroll
    for (int pass = 0; pass < 16 / kRowsPerPass; ++pass) {
      const float* const from = get + pass * kRowsPerPass * kPitch;
      const float4 low = *reinterpret_cast<const float4*>(from + get_flip * 4);
      const float4 high = *reinterpret_cast<const float4*>(from + (get_flip ^ 1) * 4);
      visit(row + i * 16 + row_at<Shape::kOrder>(pass * kRowsPerPass), column,
            Chunk<8>{{low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w}});
    }
    __syncwarp();
  }
}

// Where a chunk lies and how much of it exists.
struct Spot {
  int row, column;
  u32 at;     // index in the outputs, which are fewer than 2^31: one register less for the fullest tails
  int count;  // elements that exist; 8 unless guarded

  __device__ __forceinline__ Spot(int row, int column, size_t at, int count)
      : row(row), column(column), at(static_cast<u32>(at)), count(count) {}
};

// Reads and writes of whole chunks, or element by element where the bounds or the alignment of rows ask for it.
template <class T, Bounds bounds> struct Access {
  bool aligned;
  __device__ __forceinline__ Chunk<8> load(const T* from, int count) const {
    if (bounds == Bounds::Inside || (aligned && count == 8)) return load_chunk<8>(from);
    return load_chunk_part<8>(from, count);
  }
  __device__ __forceinline__ void store(T* to, const Chunk<8>& chunk, int count) const {
    if (bounds == Bounds::Inside || (aligned && count == 8)) {
      store_chunk<8>(to, chunk);
    } else {
      store_chunk_part<8>(to, chunk, count);
    }
  }
};

// Binds a tail to a tile: finds each chunk's place and passes on those that the block owns.
template <Bounds bounds, class Tail> struct Visitor {
  static constexpr int kUnroll = Tail::kUnroll;
  const Tail& tail;
  int row, column;  // the tile's corner
  Window window;
  int stride;

  __device__ __forceinline__ void operator()(int r, int c, const Chunk<8>& chunk) const {
    const int at_row = row + r, at_column = column + c;
    if (at_row < window.row || at_row >= window.row_end || at_column < window.column || at_column >= window.column_end) return;
    const int count = bounds == Bounds::Inside ? 8 : min(8, window.column_end - at_column);
    tail.finish(Spot{at_row, at_column, static_cast<size_t>(at_row) * stride + at_column, count}, chunk);
  }
};
