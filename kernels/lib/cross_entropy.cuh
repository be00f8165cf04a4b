// SPDX-License-Identifier: MIT OR Apache-2.0
// Cross-entropy of one row of scores by one warp, and the block's and grid's part of it; shared by cross_entropy.cu and
// linear_cross_entropy.cu.
//
// With label t, class weights w, smoothing s, C classes and p = softmax(z):
//   loss = (1 - s) w_t (log sum exp z - z_t) + s / C sum_c w_c (log sum exp z - z_c)
//   dz_j = ((1 - s) w_t + s / C sum_c w_c) p_j - (1 - s) w_t [j = t] - s / C w_j
// KILN_REDUCTION_MEAN divides both by the sum of w_t over the rows that are not ignored, and is NaN if that is 0.
#pragma once
#include "abi.h"
#include "device.cuh"
#include "reduce.cuh"

KILN_DEVICE float class_weight(const KilnCrossEntropyLoss& p, int label) {
  return p.class_weights == nullptr ? 1.0f : p.class_weights[label];
}
KILN_DEVICE bool names_class(const KilnCrossEntropyLoss& p, int label) {
  return static_cast<u32>(label) < p.classes;
}

// What a mean divides by. All threads of a block call it; unless the host knows it, each block sums all labels, in the
// same order.
template <int Threads> KILN_DEVICE float loss_divisor(const KilnCrossEntropyLoss& p) {
  if (p.reduction != KILN_REDUCTION_MEAN) return 1.0f;
  if (p.divisor != nullptr) return *p.divisor;
  float sum = 0.0f;
  for (u32 row = threadIdx.x; row < p.rows; row += Threads) {
    const int label = p.labels[row];
    if (label != p.ignore_index && names_class(p, label)) sum += class_weight(p, label);
  }
  sum = block_sum<Threads>(sum);
  // Smoothing adds to rows whose labels have no weight: divided by 0 they would be infinite.
  return sum == 0.0f ? not_a_number() : sum;
}

// Whether the code for label smoothing is there at all: it walks along the class weights, too.
enum class Smoothing { Off, Possible };

// The loss of one row, and what its gradient is made of.
struct RowLoss {
  float loss;
  float maximum, inverse_sum;      // p_j = exp(z_j - maximum) * inverse_sum
  float slope, target, smoothing;  // dz_j = slope * p_j - target * [j = label] - smoothing * w_j
  int label;

  template <Smoothing mode>
  __device__ __forceinline__ float gradient(const KilnCrossEntropyLoss& p, int column, float score) const {
    float value = slope * (expf(score - maximum) * inverse_sum);
    if (column == label) value -= target;
    if (mode == Smoothing::Possible && smoothing != 0.0f) value -= smoothing * class_weight(p, column);
    return value;
  }
};

// One warp; `scores` has each(f) over the row's columns, a lane seeing its own, and Sum for adding up as many.
// `scale` multiplies the gradient.
template <Smoothing mode, class Row>
KILN_DEVICE RowLoss row_loss(const KilnCrossEntropyLoss& p, const Row& scores, u32 row, float scale) {
  RowLoss result{0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, p.labels[row]};
  if (result.label == p.ignore_index) return result;

  float maximum = -infinity();
  scores.each([&](int, float score) { maximum = fmaxf(maximum, score); });
  maximum = warp_max(maximum);
  typename Row::Sum exponentials;
  float at_label = 0.0f;
  scores.each([&](int column, float score) {
    exponentials.add(expf(score - maximum));
    if (column == result.label) at_label = score;
  });
  const float sum = warp_sum(exponentials.value);
  at_label = warp_sum(at_label);

  // Subtracted in two steps: added to a large maximum, the logarithm would lose its digits.
  const float log_sum = logf(sum);
  const float share = mode == Smoothing::Possible ? p.smoothing / static_cast<float>(p.classes) : 0.0f;
  const bool known = names_class(p, result.label);
  const float weight = known ? class_weight(p, result.label) * (1.0f - p.smoothing) : not_a_number();
  typename Row::Sum weights, weighted_scores;
  if (mode == Smoothing::Possible && p.smoothing != 0.0f) {
    scores.each([&](int column, float score) {
      const float w = class_weight(p, column);
      weights.add(w);
      weighted_scores.add(w * (log_sum + (maximum - score)));
    });
    weights.value = warp_sum(weights.value);
    weighted_scores.value = warp_sum(weighted_scores.value);
  }
  result.loss = weight * (log_sum + (maximum - at_label)) + share * weighted_scores.value;
  result.maximum = maximum;
  result.inverse_sum = 1.0f / sum;
  result.slope = (weight + share * weights.value) * scale;
  result.target = weight * scale;
  result.smoothing = share * scale;
  return result;
}

// The factor of a row's gradient. A part of a batch without weight has a share of 0 and takes no part in the whole.
KILN_DEVICE float loss_gradient_scale(const KilnCrossEntropyLoss& p, u32 row, float divisor) {
  float scale = 1.0f;
  if (p.dloss != nullptr) {
    scale = p.dloss[p.reduction == KILN_REDUCTION_NONE ? row : 0];
  } else if (p.scalars != nullptr) {
    scale = p.scalars->share;
    if (p.loss_scale != nullptr) scale *= *p.loss_scale;
  }
  return scale == 0.0f ? 0.0f : scale / divisor;
}

// All threads of a block call it with the sum of their warp's losses; the last block of the grid writes the loss.
template <int Threads> KILN_DEVICE void finish_loss(const KilnCrossEntropyLoss& p, float warp_losses, float divisor) {
  if (p.reduction == KILN_REDUCTION_NONE) return;
  const float sum = block_sum<Threads>(threadIdx.x % 32 == 0 ? warp_losses : 0.0f);
  if (threadIdx.x == 0) p.partials[blockIdx.x] = sum;
  if (!arrives_last(p.tickets, gridDim.x)) return;
  float total = 0.0f;
  for (u32 block = threadIdx.x; block < gridDim.x; block += Threads) total += __ldcg(p.partials + block);
  total = block_sum<Threads>(total);
  if (threadIdx.x == 0) *p.loss = total / divisor;
}
