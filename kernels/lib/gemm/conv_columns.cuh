// SPDX-License-Identifier: MIT OR Apache-2.0
// Tails of convolutions that also sum up what batch norm needs of the columns: no pass over the results is left for that. A
// thread sums over its rows; then blocks meet by KILN_PARTS_TOGETHER, and the last of each such group with the others.
#pragma once
#include "conv_tails.cuh"
#include "lib/columns.cuh"
#include "lib/moments.cuh"

// Elements as they are stored.
template <class T> KILN_DEVICE Chunk<8> rounded(Chunk<8> chunk) {
#pragma unroll
  for (float& value : chunk.v) value = to_f32(from_f32<T>(value));
  return chunk;
}

// Bias, and the statistics of what is stored.
template <class T> struct ConvStatisticsTail {
  using Element = T;
  using Found = Moments<8>;
  static constexpr int kUnroll = 1;
  const KilnConvParams& p;
  T* d;
  Access<T, Bounds::Guarded> access;
  Chunk<8> bias;
  mutable Found found;

  __device__ __forceinline__ ConvStatisticsTail(const KilnConvParams& params, bool aligned, int column, int count)
      : p(params), d(static_cast<T*>(params.d)), access{aligned}, bias{} {
    if (p.bias != nullptr && count > 0) bias = load_chunk_part<8>(p.bias + column, count);
  }
  __device__ __forceinline__ void finish(const Spot& spot, Chunk<8> sum) const {
#pragma unroll
    for (int i = 0; i < 8; ++i) sum.v[i] += bias.v[i];
    sum = rounded<T>(sum);
    access.store(d + spot.at, sum, spot.count);
    found.add(sum);
  }
  __device__ __forceinline__ void store(u32 column, int count) const {
    const KilnColumnSums& to = p.columns;
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const float variance = found.v[8 + i] / static_cast<float>(p.m);
      if (i < count) store_statistics(to.mean, to.variance, to.running, column + i, found.v[i], variance);
    }
  }
};

// What comes past, the mask, and the sums of what is stored and of its products with the centred x.
template <class T> struct ConvInputGradientSumsTail {
  using Element = T;
  using Found = GradientSums<8>;
  static constexpr int kUnroll = 1;
  const ConvInputGradientTail<T> plain;
  Chunk<8> mean;
  mutable Found found;

  __device__ __forceinline__ ConvInputGradientSumsTail(const KilnConvParams& params, bool aligned, int column, int count)
      : plain(params, aligned, column, count), mean{} {
    if (count > 0) mean = load_chunk_part<8>(params.mean + column, count);
  }
  __device__ __forceinline__ void finish(const Spot& spot, const Chunk<8>& sum) const {
    const Chunk<8> dy = rounded<T>(plain.gradient(spot, sum));
    plain.access.store(plain.d + spot.at, dy, spot.count);
    const Chunk<8> x = plain.access.load(static_cast<const T*>(plain.p.columns.x) + spot.at, spot.count);
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      found.v[i] += dy.v[i];
      found.v[8 + i] += dy.v[i] * (x.v[i] - mean.v[i]);
    }
  }
  __device__ __forceinline__ void store(u32 column, int count) const {
    const KilnConvParams& p = plain.p;
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      if (i >= count) continue;
      const float scale = scale_of(p.variance[column + i], p.eps), gamma = p.gamma != nullptr ? p.gamma[column + i] : 1.0f;
      store_batch_sums(p.columns, column + i, found.v[i], found.v[8 + i], scale, gamma);
    }
  }
};

template <class Tail> constexpr bool kSumsColumns = false;
template <class T> constexpr bool kSumsColumns<ConvStatisticsTail<T>> = true;
template <class T> constexpr bool kSumsColumns<ConvInputGradientSumsTail<T>> = true;

// Called by all threads of the blocks that finish their tiles, one for each of the grid's rows and columns. A thread at a
// place has eight columns from `column` on, `count` of which exist, as have those at this place modulo `width`. `shared`:
// Found::kNumbers * KILN_GEMM_THREADS floats.
template <class Tail>
KILN_DEVICE void finish_columns(const Tail& tail, const KilnColumnSums& to, u32 width, u32 place, int column, int count, float* shared) {
  if (!merge_blocks<KILN_GEMM_THREADS>(tail.found, width, place, to.partials, to.tickets, shared)) return;
  if (place < width) tail.store(static_cast<u32>(column), count);
}
