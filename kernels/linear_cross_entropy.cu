// SPDX-License-Identifier: MIT OR Apache-2.0
// The last layer of a classifier with its loss: scores = x weight^T + bias, softmax cross-entropy and the gradient with
// respect to the scores, for few classes. A block holds the scores of its rows in shared memory; they are never stored
// unless asked for, but rounded as if they were. The equations of the loss are in lib/cross_entropy.cuh.
#include "abi.h"
#include "lib/cross_entropy.cuh"
#include "lib/gemm/ffma.cuh"
#include "lib/gemm/tail.cuh"

using LossTile = Tile<KILN_LINEAR_LOSS_ROWS, KILN_LINEAR_LOSS_CLASSES, 16, 32>;
using FfmaLossTile = FfmaTile<KILN_LINEAR_LOSS_ROWS, KILN_LINEAR_LOSS_CLASSES, 2>;
static_assert(FfmaLossTile::kThreads == KILN_GEMM_THREADS, "the host launches KILN_GEMM_THREADS threads");

template <class T> using TensorCores = Product<T, LossTile, Along::K, Along::K, Bounds::Guarded>;
using FullPrecision = FfmaProduct<FfmaLossTile, Along::K, Along::K>;

// Scores of a block's rows in shared memory, behind the area in which warps stage their sums.
constexpr int kScoresAt = LossTile::kStagingBytes;
static_assert(kScoresAt + LossTile::kM * LossTile::kN * 4 <= KILN_GEMM_STAGES_SMALL * (LossTile::kM + LossTile::kN) * KILN_GEMM_DEPTH_BYTES,
              "the scores fit where the operands were");

template <class T> struct ScoresVisitor {
  static constexpr int kUnroll = 1;
  float* scores;  // [rows][KILN_LINEAR_LOSS_CLASSES]
  Chunk<8> bias;
  __device__ __forceinline__ void operator()(int row, int column, const Chunk<8>& sum) const {
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      scores[row * KILN_LINEAR_LOSS_CLASSES + column + i] = to_f32(from_f32<T>(sum.v[i] + bias.v[i]));
    }
  }
};

// A row of scores for row_loss.
struct SharedRow {
  using Sum = ShortSum;
  const float* row;
  int columns;
  template <class F> __device__ __forceinline__ void each(F f) const {
#pragma unroll 2
    for (int column = threadIdx.x % 32; column < columns; column += 32) f(column, row[column]);
  }
};

// Loss and gradient of the rows of one warp; returns the sum of the losses.
template <class T>
KILN_DEVICE float warp_rows(const KilnLinearCrossEntropyParams& p, const float* scores, float divisor) {
  const u32 rows = p.rows_per_block / (KILN_GEMM_THREADS / 32);
  const u32 first = threadIdx.x / 32 * rows;
  float losses = 0.0f;
  for (u32 i = first; i < first + rows; ++i) {
    const u32 row = blockIdx.x * p.rows_per_block + i;
    if (row >= p.loss.rows) break;
    const SharedRow mine{scores + i * KILN_LINEAR_LOSS_CLASSES, static_cast<int>(p.loss.classes)};
    const float scale = p.d_scores == nullptr ? 0.0f : loss_gradient_scale(p.loss, row, divisor);
    const RowLoss result = row_loss<Smoothing::Possible>(p.loss, mine, row, scale);
    losses += result.loss;
    if (p.loss.reduction == KILN_REDUCTION_NONE && threadIdx.x % 32 == 0) p.loss.loss[row] = result.loss;
    const bool ignored = result.label == p.loss.ignore_index;
    const size_t at = static_cast<size_t>(row) * p.loss.classes;
    mine.each([&](int column, float score) {
      if (p.scores != nullptr) static_cast<T*>(p.scores)[at + column] = from_f32<T>(score);
      if (p.d_scores == nullptr) return;
      const float gradient = ignored ? 0.0f : result.template gradient<Smoothing::Possible>(p.loss, column, score);
      static_cast<T*>(p.d_scores)[at + column] = from_f32<T>(gradient);
    });
  }
  return losses;
}

template <class T, class Method> KILN_DEVICE void linear_cross_entropy(const KilnLinearCrossEntropyParams& p) {
  using Shape = typename Method::Shape;
  KILN_DYNAMIC_SHARED(u8, shared);
  // Few rows leave most of the product unused, which costs less than idle multiprocessors: warps take their rows in turn.
  const int first = static_cast<int>(blockIdx.x * p.rows_per_block), classes = static_cast<int>(p.loss.classes);
  const int rows = static_cast<int>(min(p.loss.rows, (blockIdx.x + 1) * p.rows_per_block));
  const int features = static_cast<int>(p.features);
  const Operand<T> x{static_cast<const T*>(p.x), features}, weight{static_cast<const T*>(p.weight), features};
  Method product(shared, x, weight, first, 0, rows, classes, Range{0, features});
  const Sums<Shape> sums = product.run(shared);

  float* const scores = reinterpret_cast<float*>(shared + kScoresAt);
  ScoresVisitor<T> visitor{scores, {}};
  const int column = Shape::column();
  if (p.bias != nullptr) visitor.bias = load_chunk_part<8>(p.bias + column, classes - column);
  each_chunk(TileSums<Shape>{sums, nullptr, 1}, shared, visitor);
  const float divisor = loss_divisor<KILN_GEMM_THREADS>(p.loss);
  __syncthreads();
  const float losses = warp_rows<T>(p, scores, divisor);
  finish_loss<KILN_GEMM_THREADS>(p.loss, losses, divisor);
}

extern "C" __global__ void __launch_bounds__(KILN_GEMM_THREADS) linear_cross_entropy_bf16(const __grid_constant__ KilnLinearCrossEntropyParams p) {
  linear_cross_entropy<Bf16, TensorCores<Bf16>>(p);
}
KILN_EXPORT(linear_cross_entropy_bf16)
extern "C" __global__ void __launch_bounds__(KILN_GEMM_THREADS) linear_cross_entropy_f16(const __grid_constant__ KilnLinearCrossEntropyParams p) {
  linear_cross_entropy<F16, TensorCores<F16>>(p);
}
KILN_EXPORT(linear_cross_entropy_f16)
extern "C" __global__ void __launch_bounds__(KILN_GEMM_THREADS) linear_cross_entropy_f32(const __grid_constant__ KilnLinearCrossEntropyParams p) {
  linear_cross_entropy<float, FullPrecision>(p);
}
KILN_EXPORT(linear_cross_entropy_f32)
extern "C" __global__ void __launch_bounds__(KILN_GEMM_THREADS) linear_cross_entropy_tf32(const __grid_constant__ KilnLinearCrossEntropyParams p) {
  linear_cross_entropy<float, TensorCores<float>>(p);
}
KILN_EXPORT(linear_cross_entropy_tf32)
