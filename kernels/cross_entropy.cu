// SPDX-License-Identifier: MIT OR Apache-2.0
// Softmax cross-entropy: the loss and its gradient with respect to the scores, in one launch. One warp per row.
// The equations are in lib/cross_entropy.cuh.
#include "abi.h"
#include "lib/cross_entropy.cuh"
#include "lib/row.cuh"

// d_scores may be scores: a lane reads its columns of a row before it writes them.
template <class T, template <class> class Row, Smoothing mode>
KILN_DEVICE void cross_entropy(const KilnCrossEntropyParams& p) {
  const u32 row = blockIdx.x * KILN_ROWS_PER_BLOCK + threadIdx.x / 32;
  const float divisor = loss_divisor<KILN_BLOCK_THREADS>(p.loss);
  float loss = 0.0f;
  if (row < p.loss.rows) {
    const size_t first = static_cast<size_t>(row) * p.loss.classes;
    const Row<T> scores(static_cast<const T*>(p.scores) + first, static_cast<int>(p.loss.classes));
    const float scale = p.d_scores == nullptr ? 0.0f : loss_gradient_scale(p.loss, row, divisor);
    const RowLoss result = row_loss<mode>(p.loss, scores, row, scale);
    loss = result.loss;
    if (p.loss.reduction == KILN_REDUCTION_NONE && threadIdx.x % 32 == 0) p.loss.loss[row] = loss;
    if (p.d_scores != nullptr) {
      const bool ignored = result.label == p.loss.ignore_index;
      scores.write(static_cast<T*>(p.d_scores) + first, [&](int column, float score) {
        return ignored ? 0.0f : result.template gradient<mode>(p.loss, column, score);
      });
    }
  }
  finish_loss<KILN_BLOCK_THREADS>(p.loss, loss, divisor);
}

extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) cross_entropy_f32(const __grid_constant__ KilnCrossEntropyParams p) {
  cross_entropy<float, CachedRow, Smoothing::Off>(p);
}
KILN_EXPORT(cross_entropy_f32)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) cross_entropy_bf16(const __grid_constant__ KilnCrossEntropyParams p) {
  cross_entropy<Bf16, CachedRow, Smoothing::Off>(p);
}
KILN_EXPORT(cross_entropy_bf16)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) cross_entropy_f16(const __grid_constant__ KilnCrossEntropyParams p) {
  cross_entropy<F16, CachedRow, Smoothing::Off>(p);
}
KILN_EXPORT(cross_entropy_f16)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) cross_entropy_strided_f32(const __grid_constant__ KilnCrossEntropyParams p) {
  cross_entropy<float, StridedRow, Smoothing::Possible>(p);
}
KILN_EXPORT(cross_entropy_strided_f32)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) cross_entropy_strided_bf16(const __grid_constant__ KilnCrossEntropyParams p) {
  cross_entropy<Bf16, StridedRow, Smoothing::Possible>(p);
}
KILN_EXPORT(cross_entropy_strided_bf16)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) cross_entropy_strided_f16(const __grid_constant__ KilnCrossEntropyParams p) {
  cross_entropy<F16, StridedRow, Smoothing::Possible>(p);
}
KILN_EXPORT(cross_entropy_strided_f16)
