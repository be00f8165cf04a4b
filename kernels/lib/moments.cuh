// SPDX-License-Identifier: MIT OR Apache-2.0
// What normalisation finds of the columns of a matrix, and what it makes of that: statistics, and sums of gradients.
#pragma once
#include "abi_images.h"
#include "pack.cuh"

// Count, means and sums of squares around them of some rows, for several columns (Welford 1962; merged as Chan et al.
// 1979): nothing cancels, however far from zero the elements are.
template <int N> struct Moments {
  static constexpr int kNumbers = 2 * N + 1;
  float v[kNumbers] = {};  // means, squares, count

  __device__ __forceinline__ void add(const Chunk<N>& x) {
    v[2 * N] += 1.0f;
    const float share = 1.0f / v[2 * N];
#pragma unroll
    for (int i = 0; i < N; ++i) {
      const float delta = x.v[i] - v[i];
      v[i] += delta * share;
      v[N + i] += delta * (x.v[i] - v[i]);
    }
  }
  __device__ __forceinline__ void merge(const Moments& other) {
    if (other.v[2 * N] == 0.0f) return;
    const float all = v[2 * N] + other.v[2 * N], share = other.v[2 * N] / all, spread = v[2 * N] * share;
#pragma unroll
    for (int i = 0; i < N; ++i) {
      const float delta = other.v[i] - v[i];
      v[i] += delta * share;
      v[N + i] += other.v[N + i] + delta * delta * spread;
    }
    v[2 * N] = all;
  }
};

KILN_DEVICE void move_along(float* state, u32 group, float kept, float taken) {
  if (state != nullptr) state[group] = kept * state[group] + taken;
}

// Puts away a column's statistics and moves the state that follows them.
KILN_DEVICE void store_statistics(float* means, float* variances, const KilnRunning& running, u32 column, float mean, float variance) {
  means[column] = mean;
  if (variances != nullptr) variances[column] = variance;
  move_along(running.mean, column, running.kept_mean, running.taken_mean * mean);
  move_along(running.variance, column, running.kept_variance, running.taken_variance * variance);
  if (running.count != nullptr && column == 0) *running.count += 1;
}

// What a centred element is multiplied by.
KILN_DEVICE float scale_of(float variance, float eps) { return 1.0f / sqrtf(variance + eps); }

// Sums of dy, and of dy * (x - mean).
template <int N> struct GradientSums {
  static constexpr int kNumbers = 2 * N;
  float v[kNumbers] = {};

  __device__ __forceinline__ void merge(const GradientSums& other) {
#pragma unroll
    for (int i = 0; i < kNumbers; ++i) v[i] += other.v[i];
  }
};

KILN_DEVICE void store_sum(float* sums, u32 column, float sum, KilnStore store) {
  if (sums != nullptr) sums[column] = store == KILN_STORE_ACCUMULATE ? sums[column] + sum : sum;
}

// The gradients of a column's weight, shift and statistics from both of its sums. Params: as KilnBatchNormParams names them.
template <class Params>
KILN_DEVICE void store_batch_sums(const Params& p, u32 column, float of_dy, float of_product, float scale, float gamma) {
  const float normal = of_product * scale;
  p.d_mean[column] = -of_dy * gamma * scale;
  p.d_variance[column] = -0.5f * normal * gamma * scale * scale;
  store_sum(p.d_gamma, column, normal, p.store);
  store_sum(p.d_beta, column, of_dy, p.store);
}
