// SPDX-License-Identifier: MIT OR Apache-2.0
// The negative log-likelihood of logarithms that others computed, and its gradient. One warp per row. With label t, class
// weights w, smoothing s, C classes and logarithms l:
//   loss = -(1 - s) w_t l_t - s / C sum_c w_c l_c
//   dl_j = -w_j ((1 - s) [j = t] + s / C)
// KILN_REDUCTION_MEAN divides as in lib/cross_entropy.cuh.
#include "abi.h"
#include "lib/cross_entropy.cuh"
#include "lib/pack.cuh"

template <class T> KILN_DEVICE float row_likelihood(const KilnCrossEntropyLoss& p, const T* row, int label) {
  if (label == p.ignore_index) return 0.0f;
  float loss = not_a_number();
  if (names_class(p, label)) loss = -(1.0f - p.smoothing) * class_weight(p, label) * to_f32(row[label]);
  // Without smoothing no other class counts, not even one whose logarithm is infinite.
  if (p.smoothing == 0.0f) return loss;
  LongSum sum;
  for (int column = threadIdx.x % 32; column < static_cast<int>(p.classes); column += 32) {
    sum.add(class_weight(p, column) * to_f32(row[column]));
  }
  return loss - p.smoothing / static_cast<float>(p.classes) * warp_sum(sum.value);
}

template <class T> KILN_DEVICE void nll(const KilnCrossEntropyParams& p) {
  const u32 row = blockIdx.x * KILN_ROWS_PER_BLOCK + threadIdx.x / 32;
  const float divisor = loss_divisor<KILN_BLOCK_THREADS>(p.loss);
  float loss = 0.0f;
  if (row < p.loss.rows) {
    const T* scores = static_cast<const T*>(p.scores) + static_cast<size_t>(row) * p.loss.classes;
    loss = row_likelihood(p.loss, scores, p.loss.labels[row]);
    if (p.loss.reduction == KILN_REDUCTION_NONE && threadIdx.x % 32 == 0) p.loss.loss[row] = loss;
  }
  finish_loss<KILN_BLOCK_THREADS>(p.loss, loss, divisor);
}

KILN_DEVICE void nll_gradient(const KilnCrossEntropyParams& p) {
  const u32 row = blockIdx.x * KILN_ROWS_PER_BLOCK + threadIdx.x / 32;
  const float divisor = loss_divisor<KILN_BLOCK_THREADS>(p.loss);
  if (row >= p.loss.rows) return;
  float* out = static_cast<float*>(p.d_scores) + static_cast<size_t>(row) * p.loss.classes;
  const int label = p.loss.labels[row];
  const bool ignored = label == p.loss.ignore_index;
  const float scale = names_class(p.loss, label) ? loss_gradient_scale(p.loss, row, divisor) : not_a_number();
  const float share = p.loss.smoothing / static_cast<float>(p.loss.classes);
  for (int column = threadIdx.x % 32; column < static_cast<int>(p.loss.classes); column += 32) {
    const float chosen = column == label ? 1.0f - p.loss.smoothing : 0.0f;
    out[column] = ignored ? 0.0f : -class_weight(p.loss, column) * (chosen + share) * scale;
  }
}

extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) nll_f32(const __grid_constant__ KilnCrossEntropyParams p) {
  nll<float>(p);
}
KILN_EXPORT(nll_f32)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) nll_bf16(const __grid_constant__ KilnCrossEntropyParams p) {
  nll<Bf16>(p);
}
KILN_EXPORT(nll_bf16)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) nll_f16(const __grid_constant__ KilnCrossEntropyParams p) {
  nll<F16>(p);
}
KILN_EXPORT(nll_f16)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) nll_gradient_f32(const __grid_constant__ KilnCrossEntropyParams p) {
  nll_gradient(p);
}
KILN_EXPORT(nll_gradient_f32)
