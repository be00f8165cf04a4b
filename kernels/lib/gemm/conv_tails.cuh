// SPDX-License-Identifier: MIT OR Apache-2.0
// The tails of convolutions. Columns count the channels of all groups.
#pragma once
#include "find.cuh"
#include "tails.cuh"

// Bias, normalisation, another value, activation, dropout.
template <class T> struct ConvTail {
  using Element = T;
  static constexpr int kUnroll = 1;
  const KilnConvParams& p;
  T* d;
  Access<T, Bounds::Guarded> access;
  Chunk<8> factor, shift;

  __device__ __forceinline__ ConvTail(const KilnConvParams& params, bool aligned, int column, int count)
      : p(params), d(static_cast<T*>(params.d)), access{aligned}, shift{} {
#pragma unroll
    for (float& value : factor.v) value = 1.0f;
    if (p.bias != nullptr && count > 0) shift = load_chunk_part<8>(p.bias + column, count);
    if (p.variance == nullptr) return;
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      if (i >= count) continue;
      const float gamma = p.gamma != nullptr ? p.gamma[column + i] : 1.0f;
      const float beta = p.beta != nullptr ? p.beta[column + i] : 0.0f;
      factor.v[i] = gamma / sqrtf(p.variance[column + i] + p.eps);
      shift.v[i] = (shift.v[i] - p.mean[column + i]) * factor.v[i] + beta;
    }
  }
  __device__ __forceinline__ void finish(const Spot& spot, Chunk<8> sum) const {
#pragma unroll
    for (int i = 0; i < 8; ++i) sum.v[i] = sum.v[i] * factor.v[i] + shift.v[i];
    if (p.residual != nullptr) {
      const Chunk<8> residual = access.load(static_cast<const T*>(p.residual) + spot.at, spot.count);
#pragma unroll
      for (int i = 0; i < 8; ++i) sum.v[i] += residual.v[i];
    }
    activate(sum, p.activation, p.activation_parameter);
    if (p.dropout) {
#pragma unroll
      for (float& x : sum.v) x *= p.mask.scale;
      const Quotient place = divide(static_cast<u32>(spot.row), p.places);
      // Elements are counted through all places of a sample, channels in each anew.
      const u32 first = p.dropout == 1 ? place.remainder * static_cast<u32>(p.ld) : 0;
      const u32 element = first + static_cast<u32>(spot.column);
      select_kept(sum, keep_bits(p.mask, p.scalars->pass, p.scalars->sample_offset + place.quotient, element / kMaskBlock));
    }
    access.store(d + spot.at, sum, spot.count);
  }
};

template <class T> struct ConvInputGradientTail {
  using Element = T;
  static constexpr int kUnroll = 2;
  const KilnConvParams& p;
  T* d;
  Access<T, Bounds::Guarded> access;

  __device__ __forceinline__ ConvInputGradientTail(const KilnConvParams& params, bool aligned, int, int)
      : p(params), d(static_cast<T*>(params.d)), access{aligned} {}
  __device__ __forceinline__ Chunk<8> gradient(const Spot& spot, Chunk<8> sum) const {
    if (p.residual != nullptr) {
      const Chunk<8> residual = access.load(static_cast<const T*>(p.residual) + spot.at, spot.count);
#pragma unroll
      for (int i = 0; i < 8; ++i) sum.v[i] += residual.v[i];
    }
    if (p.mask_source != nullptr) {
      const Chunk<8> y = access.load(static_cast<const T*>(p.mask_source) + spot.at, spot.count);
#pragma unroll
      for (int i = 0; i < 8; ++i) sum.v[i] = y.v[i] != 0.0f ? sum.v[i] * p.mask_scale : 0.0f;
    }
    return sum;
  }
  __device__ __forceinline__ void finish(const Spot& spot, const Chunk<8>& sum) const {
    access.store(d + spot.at, gradient(spot, sum), spot.count);
  }
};

// Bias, ReLU, the largest of each window, dropout.
template <class T> struct ConvPoolTail {
  using Element = T;
  const KilnConvParams& p;
  bool aligned;
  Chunk<8> bias;

  __device__ __forceinline__ ConvPoolTail(const KilnConvParams& params, bool aligned, int column, int count)
      : p(params), aligned(aligned), bias{} {
    if (p.bias != nullptr && count > 0) bias = load_chunk_part<8>(p.bias + column, count);
  }
  __device__ __forceinline__ Chunk<8> activated(Chunk<8> sum) const {
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      sum.v[i] += bias.v[i];
      if (p.activation == KILN_UNARY_RELU) sum.v[i] = Relu{}.f(sum.v[i]);
    }
    return sum;
  }
  __device__ __forceinline__ void finish(u32 window, int column, int count, Chunk<8> largest, const int (&from)[8]) const {
    const size_t at = static_cast<size_t>(window) * p.ld + column;
    if (p.windows.index != nullptr) {
      const u32 first = first_of_window(p.windows, spread(p.gather.positions, window));
      int* const index = p.windows.index + at;
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        if (i < count) index[i] = static_cast<int>(first + within_window(p.windows, static_cast<u32>(from[i])));
      }
    }
    const Quotient place = divide(window, p.places);
    if (p.dropout) {
#pragma unroll
      for (float& x : largest.v) x *= p.mask.scale;
      const u32 element = (p.dropout == 1 ? place.remainder * static_cast<u32>(p.ld) : 0) + static_cast<u32>(column);
      select_kept(largest, keep_bits(p.mask, p.scalars->pass, p.scalars->sample_offset + place.quotient, element / kMaskBlock));
    }
    T* const d = static_cast<T*>(p.d);
    if (p.planar) {
      const u32 places = p.places.divisor;
      T* const to = d + static_cast<size_t>(place.quotient * static_cast<u32>(p.ld) + column) * places + place.remainder;
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        if (i < count) to[i * places] = from_f32<T>(largest.v[i]);
      }
      return;
    }
    Access<T, Bounds::Guarded>{aligned}.store(d + at, largest, count);
  }
};

// Each gradient of a pooled image to the element of its window that was the largest, and zeros to the others.
template <class T> struct ConvUnpoolTail {
  using Element = T;
  static constexpr int kUnroll = 1;
  const ConvInputGradientTail<T> pooled;

  __device__ __forceinline__ ConvUnpoolTail(const KilnConvParams& params, bool aligned, int column, int count)
      : pooled(params, aligned, column, count) {}
  __device__ __forceinline__ void finish(const Spot& spot, const Chunk<8>& sum) const {
    const KilnConvParams& p = pooled.p;
    const Chunk<8> gradient = pooled.gradient(spot, sum);
    int from[8];
#pragma unroll
    for (int i = 0; i < 8; ++i) from[i] = i < spot.count ? p.windows.index[spot.at + i] : 0;
    const Spread window = spread(p.gather.positions, static_cast<u32>(spot.row));
    const u32 first = first_of_window(p.windows, window);
    const u32 depth = p.gather.positions[0].divisor << p.windows.shifts[0];
    const size_t image = static_cast<size_t>(window.sample) * (depth * p.windows.height * p.windows.width);
#pragma unroll 1
    for (u32 element = 0; element < 1u << bits_of_window(p.windows); ++element) {
      const u32 number = first + within_window(p.windows, element);
      Chunk<8> chunk;
#pragma unroll
      for (int i = 0; i < 8; ++i) chunk.v[i] = from[i] == static_cast<int>(number) ? gradient.v[i] : 0.0f;
      pooled.access.store(pooled.d + (image + number) * p.ld + spot.column, chunk, spot.count);
    }
  }
};
