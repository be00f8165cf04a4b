// SPDX-License-Identifier: MIT OR Apache-2.0
// Softmax and its logarithm over the innermost extent, and their gradients. One warp per row.
//   y = exp(x - max) / sum      dx = y (dy - sum y dy)
//   y = x - max - log sum       dx = dy - exp(y) sum dy
#include "abi.h"
#include "lib/reduce.cuh"
#include "lib/row.cuh"

template <class T, template <class> class Row> KILN_DEVICE void softmax(const KilnSoftmaxParams& p) {
  const u32 row = blockIdx.x * KILN_ROWS_PER_BLOCK + threadIdx.x / 32;
  if (row >= p.rows) return;
  const size_t first = static_cast<size_t>(row) * p.columns;
  const Row<T> x(static_cast<const T*>(p.a) + first, static_cast<int>(p.columns));
  float maximum = -infinity();
  x.each([&](int, float value) { maximum = fmaxf(maximum, value); });
  maximum = warp_max(maximum);
  typename Row<T>::Sum exponentials;
  x.each([&](int, float value) { exponentials.add(expf(value - maximum)); });
  const float sum = warp_sum(exponentials.value);
  T* y = static_cast<T*>(p.out) + first;
  if (p.logarithm) {
    const float log_sum = logf(sum);
    x.write(y, [&](int, float value) { return value - maximum - log_sum; });
  } else {
    const float inverse = 1.0f / sum;
    x.write(y, [&](int, float value) { return expf(value - maximum) * inverse; });
  }
}

template <int Step> struct Pair {
  Chunk<Step> y, dy;
};
template <class T, int Step> KILN_DEVICE Pair<Step> load_pair(const T* y, const T* dy) {
  if constexpr (Step == 1) {
    return Pair<1>{{{to_f32(*y)}}, {{to_f32(*dy)}}};
  } else {
    return Pair<Step>{load_chunk<Step>(y), load_chunk<Step>(dy)};
  }
}

// Step: elements of a row that a lane takes at a time, 1 at any alignment.
// Reads y and dy twice; the second time they come from the caches.
template <class T, int Step> KILN_DEVICE void softmax_gradient(const KilnSoftmaxParams& p) {
  const u32 row = blockIdx.x * KILN_ROWS_PER_BLOCK + threadIdx.x / 32;
  if (row >= p.rows) return;
  const size_t first = static_cast<size_t>(row) * p.columns;
  const T* y = static_cast<const T*>(p.a) + first;
  const T* dy = static_cast<const T*>(p.dy) + first;
  T* dx = static_cast<T*>(p.out) + first;
  const bool logarithm = p.logarithm != 0;
  const u32 lane = threadIdx.x % 32;
  LongSum sums;
  for (u32 column = lane * Step; column < p.columns; column += 32 * Step) {
    const Pair<Step> at = load_pair<T, Step>(y + column, dy + column);
#pragma unroll
    for (int i = 0; i < Step; ++i) sums.add(logarithm ? at.dy.v[i] : at.y.v[i] * at.dy.v[i]);
  }
  const float sum = warp_sum(sums.value);
  for (u32 column = lane * Step; column < p.columns; column += 32 * Step) {
    Pair<Step> at = load_pair<T, Step>(y + column, dy + column);
#pragma unroll
    for (int i = 0; i < Step; ++i) {
      at.dy.v[i] = logarithm ? at.dy.v[i] - expf(at.y.v[i]) * sum : at.y.v[i] * (at.dy.v[i] - sum);
    }
    if constexpr (Step == 1) {
      dx[column] = from_f32<T>(at.dy.v[0]);
    } else {
      store_chunk<Step>(dx + column, at.dy);
    }
  }
}

extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) softmax_f32(const __grid_constant__ KilnSoftmaxParams p) {
  softmax<float, CachedRow>(p);
}
KILN_EXPORT(softmax_f32)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) softmax_bf16(const __grid_constant__ KilnSoftmaxParams p) {
  softmax<Bf16, CachedRow>(p);
}
KILN_EXPORT(softmax_bf16)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) softmax_f16(const __grid_constant__ KilnSoftmaxParams p) {
  softmax<F16, CachedRow>(p);
}
KILN_EXPORT(softmax_f16)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) softmax_strided_f32(const __grid_constant__ KilnSoftmaxParams p) {
  softmax<float, StridedRow>(p);
}
KILN_EXPORT(softmax_strided_f32)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) softmax_strided_bf16(const __grid_constant__ KilnSoftmaxParams p) {
  softmax<Bf16, StridedRow>(p);
}
KILN_EXPORT(softmax_strided_bf16)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) softmax_strided_f16(const __grid_constant__ KilnSoftmaxParams p) {
  softmax<F16, StridedRow>(p);
}
KILN_EXPORT(softmax_strided_f16)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) softmax_gradient_f32(const __grid_constant__ KilnSoftmaxParams p) {
  softmax_gradient<float, kVector<float>>(p);
}
KILN_EXPORT(softmax_gradient_f32)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) softmax_gradient_bf16(const __grid_constant__ KilnSoftmaxParams p) {
  softmax_gradient<Bf16, kVector<Bf16>>(p);
}
KILN_EXPORT(softmax_gradient_bf16)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) softmax_gradient_f16(const __grid_constant__ KilnSoftmaxParams p) {
  softmax_gradient<F16, kVector<F16>>(p);
}
KILN_EXPORT(softmax_gradient_f16)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) softmax_gradient_strided_f32(const __grid_constant__ KilnSoftmaxParams p) {
  softmax_gradient<float, 1>(p);
}
KILN_EXPORT(softmax_gradient_strided_f32)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) softmax_gradient_strided_bf16(const __grid_constant__ KilnSoftmaxParams p) {
  softmax_gradient<Bf16, 1>(p);
}
KILN_EXPORT(softmax_gradient_strided_bf16)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) softmax_gradient_strided_f16(const __grid_constant__ KilnSoftmaxParams p) {
  softmax_gradient<F16, 1>(p);
}
KILN_EXPORT(softmax_gradient_strided_f16)
