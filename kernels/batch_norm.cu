// SPDX-License-Identifier: MIT OR Apache-2.0
// Batch norm of images that lie channels-last, with what stands around it in residual networks: a skip connection, ReLU and
// dropout behind it, the mask of both before its gradient. Statistics are in normalize.cu.
#include "abi_images.h"
#include "lib/columns.cuh"
#include "lib/divide.cuh"
#include "lib/math.cuh"
#include "lib/moments.cuh"
#include "lib/philox.cuh"

// Selects among the elements that begin at `element`, a multiple of their number.
KILN_DEVICE void select_kept_of(Chunk<8>& chunk, const KeepBits& keep, u32) { select_kept(chunk, keep); }
KILN_DEVICE void select_kept_of(Chunk<4>& chunk, const KeepBits& keep, u32 element) {
  const bool second = element % kMaskBlock != 0;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const u32 word = second ? keep.words[2 + i] : keep.words[i];
    chunk.v[2 * i] = __uint_as_float(__float_as_uint(chunk.v[2 * i]) & prmt(word, 0, 0x9999));
    chunk.v[2 * i + 1] = __uint_as_float(__float_as_uint(chunk.v[2 * i + 1]) & prmt(word, 0, 0xbbbb));
  }
}

template <class T> KILN_DEVICE void batch_apply(const KilnBatchNormParams& p) {
  const ColumnWalk<T> walk(p.groups);
  constexpr int kStep = walk.kStep;
  const auto mean = walk.numbers(p.mean, 0.0f), gamma = walk.numbers(p.gamma, 1.0f), beta = walk.numbers(p.beta, 0.0f);
  auto factor = walk.numbers(p.variance, 1.0f);
#pragma unroll
  for (int i = 0; i < kStep; ++i) factor.v[i] = gamma.v[i] * scale_of(factor.v[i], p.eps);
  for (u32 row = walk.row; row < walk.end; row += walk.step) {
    auto chunk = walk.load(p.x, row);
#pragma unroll
    for (int i = 0; i < kStep; ++i) chunk.v[i] = (chunk.v[i] - mean.v[i]) * factor.v[i] + beta.v[i];
    if (p.residual != nullptr) {
      const auto residual = walk.load(p.residual, row);
#pragma unroll
      for (int i = 0; i < kStep; ++i) chunk.v[i] += residual.v[i];
    }
    if (p.relu) {
#pragma unroll
      for (float& value : chunk.v) value = Relu{}.f(value);
    }
    if (p.dropout) {
      const Quotient place = divide(row, p.places);
      const u32 element = (p.dropout == 1 ? place.remainder * p.groups.columns : 0) + walk.column;
#pragma unroll
      for (float& value : chunk.v) value *= p.mask.scale;
      const auto keep = keep_bits(p.mask, p.scalars->pass, p.scalars->sample_offset + place.quotient, element / kMaskBlock);
      select_kept_of(chunk, keep, element);
    }
    walk.store(p.y, row, chunk);
  }
}

// dy where the source is not zero.
template <class T> KILN_DEVICE auto masked(const KilnBatchNormParams& p, const ColumnWalk<T>& walk, u32 row) {
  auto dy = walk.load(p.dy, row);
  if (p.source == nullptr) return dy;
  const auto source = walk.load(p.source, row);
#pragma unroll
  for (int i = 0; i < walk.kStep; ++i) dy.v[i] = source.v[i] != 0.0f ? dy.v[i] * p.source_scale : 0.0f;
  return dy;
}

template <class T> KILN_DEVICE void batch_sums(const KilnBatchNormParams& p) {
  const ColumnWalk<T> walk(p.groups);
  constexpr int kStep = walk.kStep;
  const auto mean = walk.numbers(p.mean, 0.0f);
  GradientSums<kStep> sums;
  for (u32 row = walk.row; row < walk.end; row += walk.step) {
    const auto x = walk.load(p.x, row), dy = masked(p, walk, row);
#pragma unroll
    for (int i = 0; i < kStep; ++i) {
      sums.v[i] += dy.v[i];
      sums.v[kStep + i] += dy.v[i] * (x.v[i] - mean.v[i]);
    }
    if (p.y != nullptr) walk.store(p.y, row, dy);
  }
  if (!merge_columns(sums, p.groups)) return;
  const auto gamma = walk.numbers(p.gamma, 1.0f), variance = walk.numbers(p.variance, 1.0f);
#pragma unroll
  for (int i = 0; i < kStep; ++i) {
    if (i >= walk.count) continue;
    store_batch_sums(p, walk.column + i, sums.v[i], sums.v[kStep + i], scale_of(variance.v[i], p.eps), gamma.v[i]);
  }
}

template <class T> KILN_DEVICE void batch_gradient(const KilnBatchNormParams& p) {
  const ColumnWalk<T> walk(p.groups);
  constexpr int kStep = walk.kStep;
  const float share = 1.0f / static_cast<float>(p.groups.rows);
  const auto mean = walk.numbers(p.mean, 0.0f), gamma = walk.numbers(p.gamma, 1.0f);
  auto factor = walk.numbers(p.variance, 1.0f), slope = walk.numbers(p.d_variance, 0.0f), shift = walk.numbers(p.d_mean, 0.0f);
#pragma unroll
  for (int i = 0; i < kStep; ++i) {
    factor.v[i] = gamma.v[i] * scale_of(factor.v[i], p.eps);
    slope.v[i] *= 2.0f * share;
    shift.v[i] *= share;
  }
  for (u32 row = walk.row; row < walk.end; row += walk.step) {
    auto dy = masked(p, walk, row);
    const auto x = walk.load(p.x, row);
#pragma unroll
    for (int i = 0; i < kStep; ++i) dy.v[i] = dy.v[i] * factor.v[i] + ((x.v[i] - mean.v[i]) * slope.v[i] + shift.v[i]);
    walk.store(p.y, row, dy);
  }
}

extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) batch_apply_f32(const __grid_constant__ KilnBatchNormParams p) {
  batch_apply<float>(p);
}
KILN_EXPORT(batch_apply_f32)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) batch_apply_bf16(const __grid_constant__ KilnBatchNormParams p) {
  batch_apply<Bf16>(p);
}
KILN_EXPORT(batch_apply_bf16)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) batch_apply_f16(const __grid_constant__ KilnBatchNormParams p) {
  batch_apply<F16>(p);
}
KILN_EXPORT(batch_apply_f16)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) batch_sums_f32(const __grid_constant__ KilnBatchNormParams p) {
  batch_sums<float>(p);
}
KILN_EXPORT(batch_sums_f32)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) batch_sums_bf16(const __grid_constant__ KilnBatchNormParams p) {
  batch_sums<Bf16>(p);
}
KILN_EXPORT(batch_sums_bf16)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) batch_sums_f16(const __grid_constant__ KilnBatchNormParams p) {
  batch_sums<F16>(p);
}
KILN_EXPORT(batch_sums_f16)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) batch_gradient_f32(const __grid_constant__ KilnBatchNormParams p) {
  batch_gradient<float>(p);
}
KILN_EXPORT(batch_gradient_f32)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) batch_gradient_bf16(const __grid_constant__ KilnBatchNormParams p) {
  batch_gradient<Bf16>(p);
}
KILN_EXPORT(batch_gradient_bf16)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) batch_gradient_f16(const __grid_constant__ KilnBatchNormParams p) {
  batch_gradient<F16>(p);
}
KILN_EXPORT(batch_gradient_f16)
