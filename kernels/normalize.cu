// SPDX-License-Identifier: MIT OR Apache-2.0
// Normalisation over the columns of a matrix (batch norm of images that lie channels-last) or over its rows (layer,
// group and instance norm): statistics, the straight line that normalises, and the gradients of both.
#include "abi_images.h"
#include "lib/columns.cuh"
#include "lib/divide.cuh"
#include "lib/moments.cuh"

template <class T> KILN_DEVICE void statistics_columns(const KilnNormalizeParams& p) {
  const ColumnWalk<T> walk(p.groups);
  constexpr int kStep = walk.kStep;
  Moments<kStep> moments;
  for (u32 row = walk.row; row < walk.end; row += walk.step) moments.add(walk.load(p.x, row));
  if (!merge_columns(moments, p.groups)) return;
#pragma unroll
  for (int i = 0; i < kStep; ++i) {
    if (i >= walk.count) continue;
    const float variance = moments.v[kStep + i] / static_cast<float>(max(p.groups.rows, 1u));
    store_statistics(p.mean, p.variance, p.running, walk.column + i, moments.v[i], variance);
  }
}

// A group's straight line: (x - centre) * scale + shift.
struct Line {
  float centre, scale, shift;
  __device__ __forceinline__ float at(float x) const { return (x - centre) * scale + shift; }
};
KILN_DEVICE Line line_of(const KilnNormalizeParams& p, float elements, float mean, float slope, float gamma, float shift) {
  if (!p.is_gradient) return Line{mean, gamma * scale_of(slope, p.eps), shift};
  return Line{mean, 2.0f * slope / elements, shift / elements};
}

template <class T> KILN_DEVICE void line_columns(const KilnNormalizeParams& p) {
  const ColumnWalk<T> walk(p.groups);
  constexpr int kStep = walk.kStep;
  const auto mean = walk.numbers(p.mean, 0.0f), slope = walk.numbers(p.variance, 1.0f);
  const auto gamma = walk.numbers(p.gamma, 1.0f), shift = walk.numbers(p.shift, 0.0f);
  Line lines[kStep];
#pragma unroll
  for (int i = 0; i < kStep; ++i) {
    lines[i] = line_of(p, static_cast<float>(p.groups.rows), mean.v[i], slope.v[i], gamma.v[i], shift.v[i]);
  }
  for (u32 row = walk.row; row < walk.end; row += walk.step) {
    auto chunk = walk.load(p.x, row);
#pragma unroll
    for (int i = 0; i < kStep; ++i) chunk.v[i] = lines[i].at(chunk.v[i]);
    walk.store(p.y, row, chunk);
  }
}

// One thread per chunk of a row.
template <class T> KILN_DEVICE void line_rows(const KilnNormalizeParams& p) {
  constexpr int kStep = kVector<T>;
  const Quotient thread = divide(blockIdx.x * KILN_BLOCK_THREADS + threadIdx.x, p.groups.chunks);
  const u32 row = thread.quotient, column = thread.remainder * kStep, columns = p.groups.columns;
  if (row >= p.groups.rows) return;
  const float gamma = p.gamma != nullptr ? p.gamma[row] : 1.0f, shift = p.shift != nullptr ? p.shift[row] : 0.0f;
  const Line line = line_of(p, static_cast<float>(columns), p.mean[row], p.variance[row], gamma, shift);
  const size_t at = static_cast<size_t>(row) * columns + column;
  const bool whole = columns % kStep == 0;
  const int count = static_cast<int>(min(columns - column, static_cast<u32>(kStep)));
  const T* const x = static_cast<const T*>(p.x) + at;
  T* const y = static_cast<T*>(p.y) + at;
  auto chunk = whole ? load_chunk<kStep>(x) : load_chunk_part<kStep>(x, count);
#pragma unroll
  for (float& value : chunk.v) value = line.at(value);
  if (whole) {
    store_chunk<kStep>(y, chunk);
  } else {
    store_chunk_part<kStep>(y, chunk, count);
  }
}

// A warp or a block that shares a row.
template <int Threads> struct Team {
  static_assert(Threads == 32 || Threads == KILN_BLOCK_THREADS, "a warp or a block");
  __device__ __forceinline__ static u32 row() { return (blockIdx.x * KILN_BLOCK_THREADS + threadIdx.x) / Threads; }
  __device__ __forceinline__ static u32 thread() { return threadIdx.x % Threads; }
  __device__ __forceinline__ static float sum(float value) {
    if constexpr (Threads == 32) {
      return warp_sum(value);
    } else {
      return block_sum<Threads>(value);
    }
  }
  // Calls visit(first element, how many) for this thread's chunks of a row.
  template <class T, class Visit> __device__ __forceinline__ static void each(u32 columns, Visit visit) {
    constexpr u32 kStep = kVector<T>;
    for (u32 at = thread() * kStep; at < columns; at += Threads * kStep) visit(at, static_cast<int>(min(columns - at, kStep)));
  }
};

template <class T> KILN_DEVICE Chunk<kVector<T>> load_of_row(const T* from, bool whole, int count) {
  return whole ? load_chunk<kVector<T>>(from) : load_chunk_part<kVector<T>>(from, count);
}

// Two passes, the second one from a cache.
template <class T, int Threads> KILN_DEVICE void statistics_rows(const KilnNormalizeParams& p) {
  constexpr int kStep = kVector<T>;
  const u32 row = Team<Threads>::row(), columns = p.groups.columns;
  if (row >= p.groups.rows) return;
  const T* const x = static_cast<const T*>(p.x) + static_cast<size_t>(row) * columns;
  const bool whole = columns % kStep == 0;
  float sum = 0.0f;
  Team<Threads>::template each<T>(columns, [&](u32 at, int count) {
    const auto chunk = load_of_row(x + at, whole, count);
#pragma unroll
    for (const float value : chunk.v) sum += value;
  });
  const float mean = Team<Threads>::sum(sum) / static_cast<float>(columns);
  float squares = 0.0f;
  Team<Threads>::template each<T>(columns, [&](u32 at, int count) {
    const auto chunk = load_of_row(x + at, whole, count);
#pragma unroll
    for (int i = 0; i < kStep; ++i) squares += i < count ? (chunk.v[i] - mean) * (chunk.v[i] - mean) : 0.0f;
  });
  squares = Team<Threads>::sum(squares);
  if (Team<Threads>::thread() != 0) return;
  p.mean[row] = mean;
  if (p.variance != nullptr) p.variance[row] = squares / static_cast<float>(columns);
}

// The gradients that are sums over a group.
KILN_DEVICE void store_gradients(const KilnNormalizeParams& p, u32 group, float of_dy, float of_product, float scale,
                                 float gamma) {
  const float normal = of_product * scale;
  if (p.d_mean != nullptr) p.d_mean[group] = -of_dy * gamma * scale;
  if (p.d_variance != nullptr) p.d_variance[group] = -0.5f * normal * gamma * scale * scale;
  if (p.d_gamma != nullptr) p.d_gamma[group] = normal;
  if (p.d_beta != nullptr) p.d_beta[group] = of_dy;
}

template <class T> KILN_DEVICE void normalize_gradient_columns(const KilnNormalizeParams& p) {
  const ColumnWalk<T> walk(p.groups);
  constexpr int kStep = walk.kStep;
  const auto mean = walk.numbers(p.mean, 0.0f), gamma = walk.numbers(p.gamma, 1.0f);
  auto scale = walk.numbers(p.variance, 1.0f);
#pragma unroll
  for (float& value : scale.v) value = scale_of(value, p.eps);
  GradientSums<kStep> sums;
  for (u32 row = walk.row; row < walk.end; row += walk.step) {
    const auto x = walk.load(p.x, row);
    auto dy = walk.load(p.dy, row);
#pragma unroll
    for (int i = 0; i < kStep; ++i) {
      sums.v[i] += dy.v[i];
      sums.v[kStep + i] += dy.v[i] * (x.v[i] - mean.v[i]);
      dy.v[i] *= gamma.v[i] * scale.v[i];
    }
    walk.store(p.y, row, dy);
  }
  if (!merge_columns(sums, p.groups)) return;
#pragma unroll
  for (int i = 0; i < kStep; ++i) {
    if (i < walk.count) store_gradients(p, walk.column + i, sums.v[i], sums.v[kStep + i], scale.v[i], gamma.v[i]);
  }
}

template <class T, int Threads> KILN_DEVICE void normalize_gradient_rows(const KilnNormalizeParams& p) {
  constexpr int kStep = kVector<T>;
  const u32 row = Team<Threads>::row(), columns = p.groups.columns;
  if (row >= p.groups.rows) return;
  const size_t start = static_cast<size_t>(row) * columns;
  const T* const x = static_cast<const T*>(p.x) + start;
  const T* const dy = static_cast<const T*>(p.dy) + start;
  T* const dx = static_cast<T*>(p.y) + start;
  const float mean = p.mean[row], scale = scale_of(p.variance[row], p.eps);
  const float gamma = p.gamma != nullptr ? p.gamma[row] : 1.0f;
  const bool whole = columns % kStep == 0;
  float of_dy = 0.0f, of_product = 0.0f;
  Team<Threads>::template each<T>(columns, [&](u32 at, int count) {
    const auto of_x = load_of_row(x + at, whole, count);
    auto chunk = load_of_row(dy + at, whole, count);
#pragma unroll
    for (int i = 0; i < kStep; ++i) {
      of_dy += chunk.v[i];
      of_product += chunk.v[i] * (of_x.v[i] - mean);
      chunk.v[i] *= gamma * scale;
    }
    if (whole) {
      store_chunk<kStep>(dx + at, chunk);
    } else {
      store_chunk_part<kStep>(dx + at, chunk, count);
    }
  });
  of_dy = Team<Threads>::sum(of_dy);
  of_product = Team<Threads>::sum(of_product);
  if (Team<Threads>::thread() == 0) store_gradients(p, row, of_dy, of_product, scale, gamma);
}

extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) statistics_columns_f32(const __grid_constant__ KilnNormalizeParams p) {
  statistics_columns<float>(p);
}
KILN_EXPORT(statistics_columns_f32)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) statistics_columns_bf16(const __grid_constant__ KilnNormalizeParams p) {
  statistics_columns<Bf16>(p);
}
KILN_EXPORT(statistics_columns_bf16)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) statistics_columns_f16(const __grid_constant__ KilnNormalizeParams p) {
  statistics_columns<F16>(p);
}
KILN_EXPORT(statistics_columns_f16)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) statistics_rows_f32(const __grid_constant__ KilnNormalizeParams p) {
  statistics_rows<float, 32>(p);
}
KILN_EXPORT(statistics_rows_f32)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) statistics_rows_bf16(const __grid_constant__ KilnNormalizeParams p) {
  statistics_rows<Bf16, 32>(p);
}
KILN_EXPORT(statistics_rows_bf16)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) statistics_rows_f16(const __grid_constant__ KilnNormalizeParams p) {
  statistics_rows<F16, 32>(p);
}
KILN_EXPORT(statistics_rows_f16)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) statistics_long_rows_f32(const __grid_constant__ KilnNormalizeParams p) {
  statistics_rows<float, KILN_BLOCK_THREADS>(p);
}
KILN_EXPORT(statistics_long_rows_f32)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) statistics_long_rows_bf16(const __grid_constant__ KilnNormalizeParams p) {
  statistics_rows<Bf16, KILN_BLOCK_THREADS>(p);
}
KILN_EXPORT(statistics_long_rows_bf16)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) statistics_long_rows_f16(const __grid_constant__ KilnNormalizeParams p) {
  statistics_rows<F16, KILN_BLOCK_THREADS>(p);
}
KILN_EXPORT(statistics_long_rows_f16)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) line_columns_f32(const __grid_constant__ KilnNormalizeParams p) {
  line_columns<float>(p);
}
KILN_EXPORT(line_columns_f32)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) line_columns_bf16(const __grid_constant__ KilnNormalizeParams p) {
  line_columns<Bf16>(p);
}
KILN_EXPORT(line_columns_bf16)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) line_columns_f16(const __grid_constant__ KilnNormalizeParams p) {
  line_columns<F16>(p);
}
KILN_EXPORT(line_columns_f16)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) line_rows_f32(const __grid_constant__ KilnNormalizeParams p) {
  line_rows<float>(p);
}
KILN_EXPORT(line_rows_f32)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) line_rows_bf16(const __grid_constant__ KilnNormalizeParams p) {
  line_rows<Bf16>(p);
}
KILN_EXPORT(line_rows_bf16)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) line_rows_f16(const __grid_constant__ KilnNormalizeParams p) {
  line_rows<F16>(p);
}
KILN_EXPORT(line_rows_f16)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) normalize_gradient_columns_f32(const __grid_constant__ KilnNormalizeParams p) {
  normalize_gradient_columns<float>(p);
}
KILN_EXPORT(normalize_gradient_columns_f32)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) normalize_gradient_columns_bf16(const __grid_constant__ KilnNormalizeParams p) {
  normalize_gradient_columns<Bf16>(p);
}
KILN_EXPORT(normalize_gradient_columns_bf16)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) normalize_gradient_columns_f16(const __grid_constant__ KilnNormalizeParams p) {
  normalize_gradient_columns<F16>(p);
}
KILN_EXPORT(normalize_gradient_columns_f16)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) normalize_gradient_rows_f32(const __grid_constant__ KilnNormalizeParams p) {
  normalize_gradient_rows<float, 32>(p);
}
KILN_EXPORT(normalize_gradient_rows_f32)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) normalize_gradient_rows_bf16(const __grid_constant__ KilnNormalizeParams p) {
  normalize_gradient_rows<Bf16, 32>(p);
}
KILN_EXPORT(normalize_gradient_rows_bf16)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) normalize_gradient_rows_f16(const __grid_constant__ KilnNormalizeParams p) {
  normalize_gradient_rows<F16, 32>(p);
}
KILN_EXPORT(normalize_gradient_rows_f16)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) normalize_gradient_long_rows_f32(const __grid_constant__ KilnNormalizeParams p) {
  normalize_gradient_rows<float, KILN_BLOCK_THREADS>(p);
}
KILN_EXPORT(normalize_gradient_long_rows_f32)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) normalize_gradient_long_rows_bf16(const __grid_constant__ KilnNormalizeParams p) {
  normalize_gradient_rows<Bf16, KILN_BLOCK_THREADS>(p);
}
KILN_EXPORT(normalize_gradient_long_rows_bf16)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) normalize_gradient_long_rows_f16(const __grid_constant__ KilnNormalizeParams p) {
  normalize_gradient_rows<F16, KILN_BLOCK_THREADS>(p);
}
KILN_EXPORT(normalize_gradient_long_rows_f16)
