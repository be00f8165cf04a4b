// SPDX-License-Identifier: MIT OR Apache-2.0
// The tails of the three products of a linear layer.
#pragma once
#include "lib/divide.cuh"
#include "tail.cuh"

// Bias, ReLU and dropout of rows that are samples: the layers that kiln exists for, with nothing decided at run time.
template <class T, Bounds bounds> struct ReluDropoutTail {
  static constexpr int kUnroll = 4;
  const KilnLinearTail& p;
  T* d;
  Chunk<8> bias;
  u32 pass, sample_offset;

  __device__ __forceinline__ ReluDropoutTail(const KilnLinearTail& p, T* d, int /*stride*/, int column, int /*count*/)
      : p(p), d(d), bias(load_chunk<8>(p.bias + column)), pass(p.scalars->pass), sample_offset(p.scalars->sample_offset) {
    static_assert(bounds == Bounds::Inside, "small and odd products take the general tail");
  }
  __device__ __forceinline__ void finish(const Spot& spot, Chunk<8> sum) const {
#pragma unroll
    for (int i = 0; i < 8; ++i) sum.v[i] = Relu{}.f(sum.v[i] + bias.v[i]) * p.mask.scale;
    const auto keep = keep_bits(p.mask, pass, sample_offset + spot.row, static_cast<u32>(spot.column) / kMaskBlock);
    store_kept(d + spot.at, sum, keep);
  }
};

// Half of the elements per turn, changing places: twelve functions of eight elements would not fit the instruction cache.
KILN_DEVICE void activate(Chunk<8>& sum, u32 activation, float parameter) {
  if (activation == KILN_UNARY_NONE) return;
  with_function(activation, parameter, [&](auto function) {
#pragma unroll 1
    for (int turn = 0; turn < 2; ++turn) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float y = function.f(sum.v[i]);
        sum.v[i] = sum.v[i + 4];
        sum.v[i + 4] = y;
      }
    }
  });
}

// Everything that KilnLinearTail can say.
template <class T, Bounds bounds> struct LinearTail {
  static constexpr int kUnroll = 1;
  const KilnLinearTail& p;
  T* d;
  Access<T, bounds> access;
  Chunk<8> bias;

  __device__ __forceinline__ LinearTail(const KilnLinearTail& p, T* d, int stride, int column, int count)
      : p(p), d(d), access{stride % kVector<T> == 0}, bias{} {
    if (p.bias != nullptr && count > 0) bias = load_chunk_upto<8>(p.bias + column, count);
  }
  __device__ __forceinline__ void finish(const Spot& spot, Chunk<8> sum) const {
#pragma unroll
    for (int i = 0; i < 8; ++i) sum.v[i] += bias.v[i];
    if (p.pre_activation != nullptr) access.store(static_cast<T*>(p.pre_activation) + spot.at, sum, spot.count);
    activate(sum, p.activation, p.activation_parameter);
    if (p.dropout != KILN_RATE_NONE) {
      const Rate rate =
          p.dropout == KILN_RATE_SCHEDULED ? scheduled_rate(p.mask, p.scalars) : constant_rate(p.mask);
#pragma unroll
      for (float& x : sum.v) x *= rate.scale;
      const Quotient sample = divide(static_cast<u32>(spot.row), p.rows);
      const u32 element = sample.remainder * p.columns + static_cast<u32>(spot.column);
      select_kept(sum, keep_bits_from(p.mask, rate.threshold, p.scalars->pass, p.scalars->sample_offset + sample.quotient,
                                      element));
    }
    if (p.residual != nullptr) {
      const Chunk<8> residual = access.load(static_cast<const T*>(p.residual) + spot.at, spot.count);
#pragma unroll
      for (int i = 0; i < 8; ++i) sum.v[i] += residual.v[i];
    }
    access.store(d + spot.at, sum, spot.count);
  }
};

// The zeros of an activation as the mask of its gradient: no random numbers, nothing stored.
template <class T, Bounds bounds> struct InputGradientTail {
  static constexpr int kUnroll = 2;
  const KilnInputGradientTail& p;
  T* d;
  Access<T, bounds> access;

  __device__ __forceinline__ InputGradientTail(const KilnInputGradientTail& p, T* d, int stride, int, int)
      : p(p), d(d), access{stride % kVector<T> == 0} {}
  __device__ __forceinline__ void finish(const Spot& spot, Chunk<8> sum) const {
    if (p.mask_source != nullptr) {
      const Chunk<8> y = access.load(static_cast<const T*>(p.mask_source) + spot.at, spot.count);
#pragma unroll
      for (int i = 0; i < 8; ++i) sum.v[i] = y.v[i] != 0.0f ? sum.v[i] * p.mask_scale : 0.0f;
    }
    if (p.residual != nullptr) {
      const Chunk<8> residual = access.load(static_cast<const T*>(p.residual) + spot.at, spot.count);
#pragma unroll
      for (int i = 0; i < 8; ++i) sum.v[i] += residual.v[i];
    }
    access.store(d + spot.at, sum, spot.count);
  }
};

// Weight gradients are f32 whatever the activations are.
template <Bounds bounds> struct WeightGradientTail {
  static constexpr int kUnroll = 2;
  float* d;
  KilnStore store;
  Access<float, bounds> access;

  __device__ __forceinline__ WeightGradientTail(float* d, KilnStore store, int stride)
      : d(d), store(store), access{stride % kVector<float> == 0} {}
  __device__ __forceinline__ void finish(const Spot& spot, Chunk<8> sum) const {
    if (store == KILN_STORE_ACCUMULATE) {
      const Chunk<8> held = access.load(d + spot.at, spot.count);
#pragma unroll
      for (int i = 0; i < 8; ++i) sum.v[i] += held.v[i];
    }
    access.store(d + spot.at, sum, spot.count);
  }
};
