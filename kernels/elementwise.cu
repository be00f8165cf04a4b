// SPDX-License-Identifier: MIT OR Apache-2.0
// Functions of each element, their gradients, and functions of pairs. One thread per 16 bytes of the output.
#include "abi.h"
#include "lib/math.cuh"
#include "lib/pack.cuh"

// The elements of one thread: a whole vector, or what is left at the end of the array.
template <class T> struct Place {
  static constexpr int kStep = kVector<T>;
  size_t first;
  int count;  // elements from `first` to the end; not positive for threads past it

  __device__ __forceinline__ explicit Place(u32 total) {
    const u32 thread = blockIdx.x * KILN_BLOCK_THREADS + threadIdx.x;
    first = static_cast<size_t>(thread) * kStep;
    count = first < total ? static_cast<int>(min(total - static_cast<u32>(first), static_cast<u32>(kStep))) : 0;
  }
  __device__ __forceinline__ Chunk<kStep> load(const void* array) const {
    return load_chunk_upto<kStep>(static_cast<const T*>(array) + first, count);
  }
  __device__ __forceinline__ void store(void* array, const Chunk<kStep>& chunk) const {
    store_chunk_upto<kStep>(static_cast<T*>(array) + first, chunk, count);
  }
};

template <class T> KILN_DEVICE void unary(const KilnElementwiseParams& p) {
  const Place<T> place(p.count);
  if (place.count <= 0) return;
  auto a = place.load(p.a);
  with_function(p.function, p.parameter, [&](auto function) {
#pragma unroll
    for (float& x : a.v) x = function.f(x);
  });
  place.store(p.y, a);
}

template <class T> KILN_DEVICE void unary_gradient(const KilnElementwiseParams& p) {
  const Place<T> place(p.count);
  if (place.count <= 0) return;
  auto saved = place.load(p.a);
  const auto dy = place.load(p.b);
  with_function(p.function, p.parameter, [&](auto function) {
#pragma unroll
    for (int i = 0; i < place.kStep; ++i) saved.v[i] = function.df(saved.v[i]) * dy.v[i];
  });
  place.store(p.y, saved);
}

template <class T> KILN_DEVICE void mask_nonzero(const KilnElementwiseParams& p) {
  const Place<T> place(p.count);
  if (place.count <= 0) return;
  const auto y = place.load(p.a);
  auto dy = place.load(p.b);
#pragma unroll
  for (int i = 0; i < place.kStep; ++i) dy.v[i] = y.v[i] != 0.0f ? p.parameter * dy.v[i] : 0.0f;
  place.store(p.y, dy);
}

KILN_DEVICE float combine(u32 function, float a, float b) {
  switch (function) {
    case KILN_BINARY_ADD: return a + b;
    case KILN_BINARY_SUBTRACT: return a - b;
    case KILN_BINARY_MULTIPLY: return a * b;
    case KILN_BINARY_LOGISTIC_LOSS: return logistic_loss(a, b);
    case KILN_BINARY_LOGISTIC_SLOPE: return logistic_slope(a, b);
    default: return a / b;
  }
}

template <class T> KILN_DEVICE void binary(const KilnElementwiseParams& p) {
  const Place<T> place(p.count);
  if (place.count <= 0) return;
  auto a = place.load(p.a);
  const auto b = place.load(p.b);
#pragma unroll
  for (int i = 0; i < place.kStep; ++i) a.v[i] = combine(p.function, a.v[i], b.v[i]);
  place.store(p.y, a);
}

extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) unary_f32(const __grid_constant__ KilnElementwiseParams p) {
  unary<float>(p);
}
KILN_EXPORT(unary_f32)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) unary_bf16(const __grid_constant__ KilnElementwiseParams p) {
  unary<Bf16>(p);
}
KILN_EXPORT(unary_bf16)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) unary_f16(const __grid_constant__ KilnElementwiseParams p) {
  unary<F16>(p);
}
KILN_EXPORT(unary_f16)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) unary_gradient_f32(const __grid_constant__ KilnElementwiseParams p) {
  unary_gradient<float>(p);
}
KILN_EXPORT(unary_gradient_f32)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) unary_gradient_bf16(const __grid_constant__ KilnElementwiseParams p) {
  unary_gradient<Bf16>(p);
}
KILN_EXPORT(unary_gradient_bf16)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) unary_gradient_f16(const __grid_constant__ KilnElementwiseParams p) {
  unary_gradient<F16>(p);
}
KILN_EXPORT(unary_gradient_f16)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) mask_nonzero_f32(const __grid_constant__ KilnElementwiseParams p) {
  mask_nonzero<float>(p);
}
KILN_EXPORT(mask_nonzero_f32)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) mask_nonzero_bf16(const __grid_constant__ KilnElementwiseParams p) {
  mask_nonzero<Bf16>(p);
}
KILN_EXPORT(mask_nonzero_bf16)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) mask_nonzero_f16(const __grid_constant__ KilnElementwiseParams p) {
  mask_nonzero<F16>(p);
}
KILN_EXPORT(mask_nonzero_f16)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) binary_f32(const __grid_constant__ KilnElementwiseParams p) {
  binary<float>(p);
}
KILN_EXPORT(binary_f32)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) binary_bf16(const __grid_constant__ KilnElementwiseParams p) {
  binary<Bf16>(p);
}
KILN_EXPORT(binary_bf16)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) binary_f16(const __grid_constant__ KilnElementwiseParams p) {
  binary<F16>(p);
}
KILN_EXPORT(binary_f16)
