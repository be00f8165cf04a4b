// SPDX-License-Identifier: MIT OR Apache-2.0
// The end of a classifier of images and the beginning of its gradient in one launch, a block for each sample:
//   y = relu(batch norm of x + residual), pooled = means of y under windows, scores = pooled * weight^T + bias, softmax
//   cross-entropy; then d_scores, d_pooled = d_scores * weight, and dy, shares of d_pooled where y is not zero, with the sums of
//   batch norm's gradient.
// Nothing but pooled, d_scores and dy is stored; y is worked out a second time instead. The equations of the loss are in
// lib/cross_entropy.cuh.
#include "abi_images.h"
#include "lib/columns.cuh"
#include "lib/cross_entropy.cuh"
#include "lib/math.cuh"
#include "lib/moments.cuh"

constexpr u32 kThreads = KILN_BLOCK_THREADS;

// A factor as the precision has it, from a value as it is stored: tf32 ignores 13 bits.
template <bool cuts> KILN_DEVICE float head_factor(float value) {
  return cuts ? __uint_as_float(__float_as_uint(value) & 0xffffe000u) : value;
}
template <class T> KILN_DEVICE float stored(float value) { return to_f32(from_f32<T>(value)); }

// What a thread knows of its channels, the same under all windows.
template <class T> struct HeadColumns {
  static constexpr int kStep = kVector<T>;
  const KilnBatchNormParams& p;
  u32 column;
  Chunk<kStep> mean, factor, beta;

  __device__ __forceinline__ explicit HeadColumns(const KilnBatchNormParams& p)
      : p(p), column(threadIdx.x % p.groups.width * kStep), mean(numbers(p.mean, 0.0f)), factor(numbers(p.variance, 0.0f)), beta(numbers(p.beta, 0.0f)) {
    const auto gamma = numbers(p.gamma, 1.0f);
#pragma unroll
    for (int i = 0; i < kStep; ++i) factor.v[i] = gamma.v[i] * scale_of(factor.v[i], p.eps);
  }
  __device__ __forceinline__ Chunk<kStep> load(const void* from, u32 row) const {
    return load_chunk<kStep>(static_cast<const T*>(from) + static_cast<size_t>(row) * p.groups.columns + column);
  }
  // y as it would be stored.
  __device__ __forceinline__ Chunk<kStep> activated(Chunk<kStep> x, u32 row) const {
#pragma unroll
    for (int i = 0; i < kStep; ++i) x.v[i] = (x.v[i] - mean.v[i]) * factor.v[i] + beta.v[i];
    if (p.residual != nullptr) {
      const auto residual = load(p.residual, row);
#pragma unroll
      for (int i = 0; i < kStep; ++i) x.v[i] += residual.v[i];
    }
#pragma unroll
    for (float& value : x.v) value = stored<T>(Relu{}.f(value));
    return x;
  }

 private:
  __device__ __forceinline__ Chunk<kStep> numbers(const float* from, float otherwise) const {
    Chunk<kStep> chunk;
#pragma unroll
    for (int i = 0; i < kStep; ++i) chunk.v[i] = from != nullptr ? from[column + i] : otherwise;
    return chunk;
  }
};

// Calls visit(row) for the pixels under one of a sample's windows.
template <class Visit> KILN_DEVICE void each_pixel(const KilnHeadParams& p, u32 place, Visit visit) {
  const u32 across = p.places[1], width = across * p.window[1], line = place / across;
  const u32 first = (blockIdx.x * p.places[0] + line) * p.window[0] * width + (place - line * across) * p.window[1];
#pragma unroll 1
  for (u32 i = 0; i < p.window[0]; ++i) {
#pragma unroll 2
    for (u32 j = 0; j < p.window[1]; ++j) visit(first + i * width + j);
  }
}

// A row of scores for row_loss.
struct HeadRow {
  using Sum = ShortSum;
  float* row;
  int columns;
  template <class F> __device__ __forceinline__ void each(F f) const {
#pragma unroll 2
    for (int column = threadIdx.x % 32; column < columns; column += 32) f(column, row[column]);
  }
};

// By the first warp: the loss of the block's sample; puts the gradient of the scores in their place.
template <class T> KILN_DEVICE float sample_loss(const KilnHeadParams& p, float* scores, float divisor) {
  const HeadRow row{scores, static_cast<int>(p.loss.classes)};
  const RowLoss result = row_loss<Smoothing::Possible>(p.loss, row, blockIdx.x, loss_gradient_scale(p.loss, blockIdx.x, divisor));
  const bool ignored = result.label == p.loss.ignore_index;
  const size_t at = static_cast<size_t>(blockIdx.x) * p.loss.classes;
  row.each([&](int column, float score) {
    if (p.scores != nullptr) static_cast<T*>(p.scores)[at + column] = from_f32<T>(score);
    const float gradient = ignored ? 0.0f : result.template gradient<Smoothing::Possible>(p.loss, column, score);
    static_cast<T*>(p.d_scores)[at + column] = from_f32<T>(gradient);
    scores[column] = stored<T>(gradient);
  });
  return result.loss;
}

template <class T, bool cuts> KILN_DEVICE void classifier_head(const KilnHeadParams& p) {
  constexpr int kStep = kVector<T>;
  KILN_DYNAMIC_SHARED(float, shared);  // [features], then what threads found of their columns
  KILN_SHARED(float, scores, KILN_LINEAR_LOSS_CLASSES);
  const HeadColumns<T> columns(p.batch);
  const u32 teams = kThreads / p.batch.groups.width, team = threadIdx.x / p.batch.groups.width;
  const u32 places = p.places[0] * p.places[1], features = p.batch.groups.columns * places, classes = p.loss.classes;
  const float pixels = static_cast<float>(p.window[0] * p.window[1]);
  const T* const weight = static_cast<const T*>(p.weight);

  for (u32 place = team; place < places; place += teams) {
    Chunk<kStep> sum = {};
    each_pixel(p, place, [&](u32 row) {
      const auto y = columns.activated(columns.load(p.batch.x, row), row);
#pragma unroll
      for (int i = 0; i < kStep; ++i) sum.v[i] += y.v[i];
    });
#pragma unroll
    for (int i = 0; i < kStep; ++i) {
      const u32 feature = (columns.column + i) * places + place;
      const T mean = from_f32<T>(sum.v[i] / pixels);
      static_cast<T*>(p.pooled)[static_cast<size_t>(blockIdx.x) * features + feature] = mean;
      shared[feature] = head_factor<cuts>(to_f32(mean));
    }
  }
  const float divisor = loss_divisor<kThreads>(p.loss);
  __syncthreads();
  for (u32 row = threadIdx.x / 32; row < classes; row += kThreads / 32) {
    float sum = 0.0f;
#pragma unroll 4
    for (u32 feature = threadIdx.x % 32; feature < features; feature += 32) {
      sum += shared[feature] * head_factor<cuts>(to_f32(weight[static_cast<size_t>(row) * features + feature]));
    }
    sum = warp_sum(sum) + (p.bias != nullptr ? p.bias[row] : 0.0f);
    if (threadIdx.x % 32 == 0) scores[row] = stored<T>(sum);
  }
  __syncthreads();
  const float loss = threadIdx.x < 32 ? sample_loss<T>(p, scores, divisor) : 0.0f;
  __syncthreads();

  GradientSums<kStep> sums;
  for (u32 place = team; place < places; place += teams) {
    Chunk<kStep> dy = {};
    const T* from = weight + columns.column * places + place;
#pragma unroll 1
    for (u32 row = 0; row < classes; ++row) {
      const float d_score = head_factor<cuts>(scores[row]);
#pragma unroll
      for (int i = 0; i < kStep; ++i) dy.v[i] += d_score * head_factor<cuts>(to_f32(from[i * places]));
      from += features;
    }
#pragma unroll
    for (float& value : dy.v) value = stored<T>(value) * (p.batch.source_scale / pixels);
    each_pixel(p, place, [&](u32 row) {
      const auto x = columns.load(p.batch.x, row), y = columns.activated(x, row);
      Chunk<kStep> passed;
#pragma unroll
      for (int i = 0; i < kStep; ++i) {
        passed.v[i] = y.v[i] != 0.0f ? stored<T>(dy.v[i]) : 0.0f;
        sums.v[i] += passed.v[i];
        sums.v[kStep + i] += passed.v[i] * (x.v[i] - columns.mean.v[i]);
      }
      store_chunk<kStep>(static_cast<T*>(p.batch.y) + static_cast<size_t>(row) * p.batch.groups.columns + columns.column, passed);
    });
  }
  finish_loss<kThreads>(p.loss, loss, divisor);
  if (!merge_blocks<kThreads>(sums, p.batch.groups.width, threadIdx.x, p.batch.groups.partials, p.batch.groups.tickets, shared)) return;
  if (threadIdx.x >= p.batch.groups.width) return;
#pragma unroll
  for (int i = 0; i < kStep; ++i) {
    const u32 column = columns.column + i;
    const float gamma = p.batch.gamma != nullptr ? p.batch.gamma[column] : 1.0f;
    store_batch_sums(p.batch, column, sums.v[i], sums.v[kStep + i], scale_of(p.batch.variance[column], p.batch.eps), gamma);
  }
}

extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) classifier_head_f32(const __grid_constant__ KilnHeadParams p) {
  classifier_head<float, false>(p);
}
KILN_EXPORT(classifier_head_f32)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) classifier_head_tf32(const __grid_constant__ KilnHeadParams p) {
  classifier_head<float, true>(p);
}
KILN_EXPORT(classifier_head_tf32)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) classifier_head_bf16(const __grid_constant__ KilnHeadParams p) {
  classifier_head<Bf16, false>(p);
}
KILN_EXPORT(classifier_head_bf16)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) classifier_head_f16(const __grid_constant__ KilnHeadParams p) {
  classifier_head<F16, false>(p);
}
KILN_EXPORT(classifier_head_f16)
