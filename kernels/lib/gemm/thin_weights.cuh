// SPDX-License-Identifier: MIT OR Apache-2.0
// Gradients of the weights of convolutions whose results see few channels each: a thread sums over its places in registers,
// eight columns by a run of taps and channels, and the gradient of the bias along.
#pragma once
#include "lib/moments.cuh"
#include "lib/reduce.cuh"
#include "thin.cuh"

constexpr int kThinHeld = KILN_THIN_HELD, kThinSums = kThinHeld + 1;

// What the block of a unit, columns and then a run of taps and channels, sums up.
struct ThinUnit {
  u32 width, columns;  // threads along the columns, and these
  u32 first_column, first;  // first of taps and channels

  __device__ __forceinline__ ThinUnit(const KilnConvWeightGradient& layer, u32 unit)
      : width(thin_width(layer.ld)), columns(8 * width) {
    const u32 runs = ceil_div(layer.n, kThinHeld), tile = unit / runs;
    first_column = tile * columns;
    first = (unit - tile * runs) * kThinHeld;
  }
};

// The line of a batch norm's gradient for a block's columns: [4][columns] of centre, factor of dy, slope and shift.
struct ThinLine {
  float* numbers;

  __device__ __forceinline__ void fill(const KilnConvWeightGradient& layer, const ThinUnit& unit) const {
    const KilnBatchLine& line = layer.line;
    const u32 column = unit.first_column + threadIdx.x;
    if (line.x == nullptr || threadIdx.x >= unit.columns || column >= static_cast<u32>(layer.ld)) return;
    const float share = 1.0f / static_cast<float>(layer.k), gamma = line.gamma != nullptr ? line.gamma[column] : 1.0f;
    numbers[threadIdx.x] = line.mean[column];
    numbers[unit.columns + threadIdx.x] = gamma * scale_of(line.variance[column], line.eps);
    numbers[2 * unit.columns + threadIdx.x] = 2.0f * share * line.d_variance[column];
    numbers[3 * unit.columns + threadIdx.x] = share * line.d_mean[column];
  }
  __device__ __forceinline__ void apply(Chunk<8>& dy, const Chunk<8>& x, const ThinUnit& unit, int count) const {
    const float* const own = numbers + threadIdx.x % unit.width * 8;
#pragma unroll
    for (int q = 0; q < 8; ++q) {
      if (q >= count) continue;
      const float slope = own[2 * unit.columns + q], shift = own[3 * unit.columns + q];
      dy.v[q] = dy.v[q] * own[unit.columns + q] + ((x.v[q] - own[q]) * slope + shift);
    }
  }
};

// Adds up the places of a thread: products with each of the taps, then dy itself.
template <class T, bool cuts>
KILN_DEVICE void add_places(const KilnConvWeightGradient& layer, const ThinUnit& unit, u32 part, const uint4* taps,
                            const ThinLine& line, Chunk<8> (&sums)[kThinSums]) {
  const KilnGather& gather = layer.gather;
  const int column = static_cast<int>(unit.first_column + threadIdx.x % unit.width * 8), count = min(8, layer.ld - column);
  if (count <= 0) return;
  const bool whole = count == 8 && layer.ld % kVector<T> == 0;
  const int lanes = KILN_GEMM_THREADS / static_cast<int>(unit.width), own = static_cast<int>(threadIdx.x / unit.width);
  const int places = ceil_div(layer.k, static_cast<int>(layer.splits)), begin = static_cast<int>(part) * places;
  const int end = min(layer.k, begin + places);
  with_sight(gather, layer.m, layer.ld, [&](auto seen) {
    const ThinSource<T, cuts, decltype(seen)::kSight> source(gather, layer.b, layer.m, column, count);
#pragma unroll 1
    for (int row = begin + own; row < end; row += lanes) {
      const size_t at = static_cast<size_t>(row) * layer.ld + column;
      const auto load = [&](const void* from) {
        const T* const own = static_cast<const T*>(from) + at;
        return whole ? load_chunk<8>(own) : load_chunk_part<8>(own, count);
      };
      Chunk<8> dy = load(layer.a);
      if (layer.line.x != nullptr) line.apply(dy, load(layer.line.x), unit, count);
      const uint4 place = gather_row(gather, row, layer.k);
#pragma unroll
      for (int h = 0; h < kThinHeld; ++h) {
        load_no_earlier();
        const uint4 tap = taps[h];
        const u32 depth = place.y + tap.x, height = place.z + tap.y, width = place.w + tap.z;
        if (depth >= gather.extents[0] || height >= gather.extents[1] || width >= gather.extents[2]) continue;
        const u32 pixel = place.x + ((depth * gather.extents[1] + height) * gather.extents[2] + width) * gather.position;
        const Chunk<8> x = source.factors(static_cast<int>(pixel), tap.w);
#pragma unroll
        for (int q = 0; q < 8; ++q) sums[h].v[q] += thin_factor<cuts>(dy.v[q]) * x.v[q];
      }
#pragma unroll
      for (int q = 0; q < 8; ++q) sums[kThinHeld].v[q] += dy.v[q];
    }
  });
}

// Puts what a thread holds of one column where it belongs.
KILN_DEVICE void finish_thin(const KilnConvWeightGradient& layer, const ThinUnit& unit, const float (&totals)[kThinSums]) {
  const bool accumulates = layer.store == KILN_STORE_ACCUMULATE;
  const u32 column = unit.first_column + threadIdx.x;
  if (column >= static_cast<u32>(layer.ld)) return;
#pragma unroll
  for (int h = 0; h < kThinHeld; ++h) {
    const u32 number = unit.first + h;
    if (number >= static_cast<u32>(layer.n)) continue;
    const Quotient tap = divide(number, layer.gather.channels);
    const u32 taps = taps_of(layer.gather), inputs = layer.gather.channels.divisor;
    float* const to = layer.d + (static_cast<size_t>(column) * inputs + tap.remainder) * taps + tap.quotient;
    *to = accumulates ? *to + totals[h] : totals[h];
  }
  if (layer.d_bias == nullptr || unit.first != 0) return;
  const float bias = totals[kThinHeld];
  layer.d_bias[column] = accumulates ? layer.d_bias[column] + bias : bias;
}

template <class T, bool cuts>
KILN_DEVICE void thin_gradient(const KilnConvWeightGradientParams& p, const KilnConvWeightGradient& layer, u32 number, u32 part,
                               u8* memory) {
  constexpr int kColumns = KILN_THIN_COLUMNS;
  const ThinUnit unit(layer, number);
  uint4* const taps = reinterpret_cast<uint4*>(memory);  // [kThinHeld]: how far from tap 0, and which channel
  float* const shared = reinterpret_cast<float*>(taps + kThinHeld);  // [lanes][columns]
  if (threadIdx.x < kThinHeld) {
    const u32 own = unit.first + threadIdx.x;
    const Quotient tap = divide(own, layer.gather.channels);
    const GatherTap at = gather_tap(layer.gather, tap.quotient);
    const u32 depth = static_cast<u32>(own < static_cast<u32>(layer.n) ? at.at[0] : kNowhere);
    taps[threadIdx.x] = make_uint4(depth, static_cast<u32>(at.at[1]), static_cast<u32>(at.at[2]), tap.remainder);
  }
  const ThinLine line{shared + 8 * KILN_GEMM_THREADS + 4};  // behind the slot of arrives_last
  line.fill(layer, unit);
  __syncthreads();
  Chunk<8> sums[kThinSums] = {};
  add_places<T, cuts>(layer, unit, part, taps, line, sums);

  const u32 lanes = KILN_GEMM_THREADS / unit.width;
  const bool holds = threadIdx.x < unit.columns;
  float totals[kThinSums] = {};
#pragma unroll
  for (int h = 0; h < kThinSums; ++h) {
    __syncthreads();
    store_chunk<8>(shared + 8 * threadIdx.x, sums[h]);
    __syncthreads();
    for (u32 lane = 0; holds && lane < lanes; ++lane) totals[h] += shared[lane * unit.columns + threadIdx.x];
  }
  if (layer.splits > 1) {
    const size_t of_unit = static_cast<size_t>(layer.splits) * kThinSums * kColumns;
    float* const parts = p.partials + layer.partials + number * of_unit + threadIdx.x;
#pragma unroll
    for (int h = 0; h < kThinSums; ++h) {
      if (holds) parts[(part * kThinSums + h) * kColumns] = totals[h];
    }
    u32* const slot = reinterpret_cast<u32*>(shared + 8 * KILN_GEMM_THREADS);
    if (!arrives_last(p.tickets + layer.ticket + number, layer.splits, slot)) return;
#pragma unroll
    for (float& total : totals) total = 0.0f;
#pragma unroll 1
    for (u32 other = 0; holds && other < layer.splits; ++other) {
#pragma unroll
      for (int h = 0; h < kThinSums; ++h) totals[h] += __ldcg(parts + (other * kThinSums + h) * kColumns);
    }
  }
  if (holds) finish_thin(layer, unit, totals);
}
