// SPDX-License-Identifier: MIT OR Apache-2.0
// Convolutions whose results see few channels each: of whole groups of up to KILN_THIN_CHANNELS, depthwise and of a first
// layer. A thread has eight columns of four places that follow each other in a row, or of a pool's window; a block has the
// weights of its columns in shared memory and goes through places.
//
// conv_thin, conv_pool_thin, conv_input_gradient_thin, conv_unpool_thin: what conv.cu says of those without _thin.
// The gradients of inputs are those of groups of one input. conv_statistics_thin: as conv_statistics.
#include "lib/gemm/conv_columns.cuh"
#include "lib/gemm/thin.cuh"

constexpr int kStrip = KILN_THIN_STRIP;
constexpr u32 kThinThreads = KILN_GEMM_THREADS;

// The weights of a block's columns, [taps * channels][columns], so that 16-byte reads of neighbours meet no bank twice and
// writes of a column's weights few.
struct ThinWeights {
  u32 columns, pitch;

  __device__ __forceinline__ explicit ThinWeights(u32 width) : columns(8 * width), pitch(8 * width + KILN_THIN_PAD) {}
  __device__ __forceinline__ u32 at(u32 column) const { return (column >> 2 & 1) * (columns / 2) + (column >> 3) * 4 + (column & 3); }

  // From [columns, channels, taps], as parameters lie.
  template <bool cuts, class T>
  __device__ __forceinline__ void fill(float* shared, const T* weights, int columns_left, u32 k, u32 channels) const {
    const u32 taps = k / channels;
    for (u32 column = threadIdx.x / 32; column < columns; column += kThinThreads / 32) {
      const bool exists = static_cast<int>(column) < columns_left;
      for (u32 i = threadIdx.x % 32; i < k; i += 32) {
        const u32 channel = i / taps, to = (i - channel * taps) * channels + channel;
        const float weight = exists ? to_f32(weights[static_cast<size_t>(column) * k + i]) : 0.0f;
        shared[to * pitch + at(column)] = thin_factor<cuts>(weight);
      }
    }
  }
  __device__ __forceinline__ Chunk<8> load(const float* lane) const {
    const float4 low = *reinterpret_cast<const float4*>(lane), high = *reinterpret_cast<const float4*>(lane + columns / 2);
    return Chunk<8>{{low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w}};
  }
};

// Where tap 0 lies of a few places: those of a row differ in width alone.
template <bool pools> struct Strip {
  static constexpr int kLines = pools ? kStrip : 1;
  u32 sample, depth[kLines], height[kLines], width[kStrip];
  int row, count;  // the first row of results, and how many there are

  __device__ __forceinline__ Strip(const KilnConvParams& p, u32 number) {
    const KilnGather& gather = p.gather;
    if constexpr (pools) {
      count = 1 << bits_of_window(p.windows);
      row = static_cast<int>(number) * count;
#pragma unroll
      for (int s = 0; s < kStrip; ++s) {
        const uint4 begin = gather_row(gather, s < count ? row + s : p.m, p.m, &p.windows);
        if (s == 0) sample = begin.x;
        depth[s] = begin.y;
        height[s] = begin.z;
        width[s] = begin.w;
      }
    } else {
      const Quotient line = divide(number, p.strips);
      const int extent = static_cast<int>(gather.positions[2].divisor), first = static_cast<int>(line.remainder) * kStrip;
      count = min(kStrip, extent - first);
      row = static_cast<int>(line.quotient) * extent + first;
      const uint4 begin = gather_row(gather, row, p.m);
      sample = begin.x;
      depth[0] = begin.y;
      height[0] = begin.z;
#pragma unroll
      for (int s = 0; s < kStrip; ++s) width[s] = begin.w + static_cast<u32>(s * gather.scales[2]);
    }
  }
};

// Where a tap lies along an extent; beyond it if it is nowhere.
template <bool backward> KILN_DEVICE u32 thin_along(const KilnGather& gather, int axis, u32 begin, u32 tap) {
  const u32 at = begin + tap * static_cast<u32>(gather.reaches[axis]);
  if (!backward || gather.steps[axis].divisor == 1) return at;
  const Quotient step = divide(at, gather.steps[axis]);
  return static_cast<int>(at) < 0 || step.remainder != 0 ? static_cast<u32>(kNowhere) : step.quotient;
}

template <bool backward, bool pools, class Source>
KILN_DEVICE void thin_sums(const KilnGather& gather, const Strip<pools>& strip, const Source& source, const ThinWeights& weights,
                           const float* lane, Chunk<8> (&sums)[kStrip]) {
  const u32 channels = gather.channels.divisor;
#pragma unroll 1
  for (u32 i = 0; i < gather.taps[0].divisor; ++i) {
#pragma unroll 1
    for (u32 j = 0; j < gather.taps[1].divisor; ++j) {
      int lines[Strip<pools>::kLines];
#pragma unroll
      for (int l = 0; l < Strip<pools>::kLines; ++l) {
        const u32 depth = thin_along<backward>(gather, 0, strip.depth[l], i);
        const u32 height = thin_along<backward>(gather, 1, strip.height[l], j);
        const bool exists = depth < gather.extents[0] && height < gather.extents[1];
        const u32 line = (depth * gather.extents[1] + height) * gather.extents[2];
        lines[l] = exists ? static_cast<int>(strip.sample + line * gather.position) : -1;
      }
#pragma unroll 1
      for (u32 k = 0; k < gather.taps[2].divisor; ++k) {
        int pixels[kStrip];
#pragma unroll
        for (int s = 0; s < kStrip; ++s) {
          const u32 width = thin_along<backward>(gather, 2, strip.width[s], k);
          const int line = lines[pools ? s : 0];
          pixels[s] = line >= 0 && width < gather.extents[2] ? line + static_cast<int>(width * gather.position) : -1;
        }
#pragma unroll 1
        for (u32 c = 0; c < channels; ++c) {
          const Chunk<8> weight = weights.load(lane);
          lane += weights.pitch;
#pragma unroll
          for (int s = 0; s < kStrip; ++s) {
            if (pixels[s] < 0) continue;
            const Chunk<8> x = source.factors(pixels[s], c);
#pragma unroll
            for (int q = 0; q < 8; ++q) sums[s].v[q] += x.v[q] * weight.v[q];
          }
        }
      }
    }
  }
}

// One place after the other: tails are long.
template <class Tail> KILN_DEVICE void finish_places(const KilnConvParams& p, const Tail& tail, const Strip<false>& strip, int column, int count, Chunk<8> (&sums)[kStrip]) {
#pragma unroll 1
  for (int s = 0; s < strip.count; ++s) {
    const int row = strip.row + s;
    tail.finish(Spot{row, column, static_cast<size_t>(row) * p.ld + column, count}, sums[0]);
#pragma unroll
    for (int later = 1; later < kStrip; ++later) sums[later - 1] = sums[later];
  }
}
template <class Tail> KILN_DEVICE void finish_strip(const KilnConvParams& p, const Strip<false>& strip, int column, int count, Chunk<8> (&sums)[kStrip]) {
  using T = typename Tail::Element;
  finish_places(p, Tail(p, p.ld % kVector<T> == 0, column, count), strip, column, count, sums);
}
// The largest of a window: NaN is larger than all numbers; of equal elements the first counts, of several NaNs the last.
template <class Tail> KILN_DEVICE void finish_strip(const KilnConvParams& p, const Strip<true>& strip, int column, int count, Chunk<8> (&sums)[kStrip]) {
  using T = typename Tail::Element;
  const Tail tail(p, p.ld % kVector<T> == 0, column, count);
  Chunk<8> largest = tail.activated(sums[0]);
  int from[8] = {};
#pragma unroll
  for (int s = 1; s < kStrip; ++s) {
    if (s >= strip.count) continue;
    const Chunk<8> value = tail.activated(sums[s]);
#pragma unroll
    for (int q = 0; q < 8; ++q) {
      if (!(value.v[q] > largest.v[q]) && value.v[q] == value.v[q]) continue;
      largest.v[q] = value.v[q];
      from[q] = s;
    }
  }
  tail.finish(static_cast<u32>(strip.row / strip.count), column, count, largest, from);
}

template <bool cuts, bool backward, bool pools, class Tail> KILN_DEVICE void conv_thin(const KilnConvParams& p) {
  using T = typename Tail::Element;
  KILN_DYNAMIC_SHARED(float, shared);
  const u32 width = thin_width(p.ld), lanes = kThinThreads / width;
  const ThinWeights weights(width);
  const u32 first = blockIdx.y * weights.columns, channels = p.gather.channels.divisor;
  const int left = p.ld - static_cast<int>(first);
  weights.template fill<cuts>(shared, static_cast<const T*>(p.b) + static_cast<size_t>(first) * p.k, left, p.k, channels);
  __syncthreads();
  const u32 lane = threadIdx.x % width;
  const int column = static_cast<int>(first + 8 * lane), count = min(8, p.ld - column);
  if (count <= 0) return;
  const u32 strips = pools ? static_cast<u32>(p.m) >> bits_of_window(p.windows)
                           : static_cast<u32>(p.m) / p.gather.positions[2].divisor * p.strips.divisor;
  with_sight(p.gather, p.n, p.ld, [&](auto seen) {
    const ThinSource<T, cuts, decltype(seen)::kSight> source(p.gather, p.a, p.n, column, count);
#pragma unroll 1
    for (u32 number = blockIdx.x * lanes + threadIdx.x / width; number < strips; number += gridDim.x * lanes) {
      const Strip<pools> strip(p, number);
      Chunk<8> sums[kStrip] = {};
      thin_sums<backward>(p.gather, strip, source, weights, shared + 4 * lane, sums);
      finish_strip<Tail>(p, strip, column, count, sums);
    }
  });
}

// The same with a tail that sums up its columns over all of a thread's places.
template <bool cuts, class Tail> KILN_DEVICE void conv_thin_columns(const KilnConvParams& p) {
  using T = typename Tail::Element;
  KILN_DYNAMIC_SHARED(float, shared);
  const u32 width = thin_width(p.ld), lanes = kThinThreads / width, lane = threadIdx.x % width;
  const ThinWeights weights(width);
  const u32 first = blockIdx.y * weights.columns, channels = p.gather.channels.divisor;
  const int left = p.ld - static_cast<int>(first);
  weights.template fill<cuts>(shared, static_cast<const T*>(p.b) + static_cast<size_t>(first) * p.k, left, p.k, channels);
  __syncthreads();
  const int column = static_cast<int>(first + 8 * lane), count = min(8, p.ld - column);
  const u32 strips = count <= 0 ? 0 : static_cast<u32>(p.m) / p.gather.positions[2].divisor * p.strips.divisor;
  const Tail tail(p, p.ld % kVector<T> == 0, column, count);
  with_sight(p.gather, p.n, p.ld, [&](auto seen) {
    const ThinSource<T, cuts, decltype(seen)::kSight> source(p.gather, p.a, p.n, column, count);
#pragma unroll 1
    for (u32 number = blockIdx.x * lanes + threadIdx.x / width; number < strips; number += gridDim.x * lanes) {
      const Strip<false> strip(p, number);
      Chunk<8> sums[kStrip] = {};
      thin_sums<false>(p.gather, strip, source, weights, shared + 4 * lane, sums);
      finish_places(p, tail, strip, column, count, sums);
    }
  });
  finish_columns(tail, p.columns, width, threadIdx.x, column, count, shared);
}

extern "C" __global__ void __launch_bounds__(KILN_GEMM_THREADS, 3) conv_thin_f32(const __grid_constant__ KilnConvParams p) {
  conv_thin<false, false, false, ConvTail<float>>(p);
}
KILN_EXPORT(conv_thin_f32)
extern "C" __global__ void __launch_bounds__(KILN_GEMM_THREADS, 3) conv_thin_tf32(const __grid_constant__ KilnConvParams p) {
  conv_thin<true, false, false, ConvTail<float>>(p);
}
KILN_EXPORT(conv_thin_tf32)
extern "C" __global__ void __launch_bounds__(KILN_GEMM_THREADS, 3) conv_thin_bf16(const __grid_constant__ KilnConvParams p) {
  conv_thin<false, false, false, ConvTail<Bf16>>(p);
}
KILN_EXPORT(conv_thin_bf16)
extern "C" __global__ void __launch_bounds__(KILN_GEMM_THREADS, 3) conv_thin_f16(const __grid_constant__ KilnConvParams p) {
  conv_thin<false, false, false, ConvTail<F16>>(p);
}
KILN_EXPORT(conv_thin_f16)
extern "C" __global__ void __launch_bounds__(KILN_GEMM_THREADS, 3) conv_pool_thin_f32(const __grid_constant__ KilnConvParams p) {
  conv_thin<false, false, true, ConvPoolTail<float>>(p);
}
KILN_EXPORT(conv_pool_thin_f32)
extern "C" __global__ void __launch_bounds__(KILN_GEMM_THREADS, 3) conv_pool_thin_tf32(const __grid_constant__ KilnConvParams p) {
  conv_thin<true, false, true, ConvPoolTail<float>>(p);
}
KILN_EXPORT(conv_pool_thin_tf32)
extern "C" __global__ void __launch_bounds__(KILN_GEMM_THREADS, 3) conv_pool_thin_bf16(const __grid_constant__ KilnConvParams p) {
  conv_thin<false, false, true, ConvPoolTail<Bf16>>(p);
}
KILN_EXPORT(conv_pool_thin_bf16)
extern "C" __global__ void __launch_bounds__(KILN_GEMM_THREADS, 3) conv_pool_thin_f16(const __grid_constant__ KilnConvParams p) {
  conv_thin<false, false, true, ConvPoolTail<F16>>(p);
}
KILN_EXPORT(conv_pool_thin_f16)
extern "C" __global__ void __launch_bounds__(KILN_GEMM_THREADS, 4) conv_input_gradient_thin_f32(const __grid_constant__ KilnConvParams p) {
  conv_thin<false, true, false, ConvInputGradientTail<float>>(p);
}
KILN_EXPORT(conv_input_gradient_thin_f32)
extern "C" __global__ void __launch_bounds__(KILN_GEMM_THREADS, 4) conv_input_gradient_thin_tf32(const __grid_constant__ KilnConvParams p) {
  conv_thin<true, true, false, ConvInputGradientTail<float>>(p);
}
KILN_EXPORT(conv_input_gradient_thin_tf32)
extern "C" __global__ void __launch_bounds__(KILN_GEMM_THREADS, 4) conv_input_gradient_thin_bf16(const __grid_constant__ KilnConvParams p) {
  conv_thin<false, true, false, ConvInputGradientTail<Bf16>>(p);
}
KILN_EXPORT(conv_input_gradient_thin_bf16)
extern "C" __global__ void __launch_bounds__(KILN_GEMM_THREADS, 4) conv_input_gradient_thin_f16(const __grid_constant__ KilnConvParams p) {
  conv_thin<false, true, false, ConvInputGradientTail<F16>>(p);
}
KILN_EXPORT(conv_input_gradient_thin_f16)
extern "C" __global__ void __launch_bounds__(KILN_GEMM_THREADS, 4) conv_unpool_thin_f32(const __grid_constant__ KilnConvParams p) {
  conv_thin<false, true, false, ConvUnpoolTail<float>>(p);
}
KILN_EXPORT(conv_unpool_thin_f32)
extern "C" __global__ void __launch_bounds__(KILN_GEMM_THREADS, 4) conv_unpool_thin_tf32(const __grid_constant__ KilnConvParams p) {
  conv_thin<true, true, false, ConvUnpoolTail<float>>(p);
}
KILN_EXPORT(conv_unpool_thin_tf32)
extern "C" __global__ void __launch_bounds__(KILN_GEMM_THREADS, 4) conv_unpool_thin_bf16(const __grid_constant__ KilnConvParams p) {
  conv_thin<false, true, false, ConvUnpoolTail<Bf16>>(p);
}
KILN_EXPORT(conv_unpool_thin_bf16)
extern "C" __global__ void __launch_bounds__(KILN_GEMM_THREADS, 4) conv_unpool_thin_f16(const __grid_constant__ KilnConvParams p) {
  conv_thin<false, true, false, ConvUnpoolTail<F16>>(p);
}
KILN_EXPORT(conv_unpool_thin_f16)
extern "C" __global__ void __launch_bounds__(KILN_GEMM_THREADS, 3) conv_statistics_thin_f32(const __grid_constant__ KilnConvParams p) {
  conv_thin_columns<false, ConvStatisticsTail<float>>(p);
}
KILN_EXPORT(conv_statistics_thin_f32)
extern "C" __global__ void __launch_bounds__(KILN_GEMM_THREADS, 3) conv_statistics_thin_tf32(const __grid_constant__ KilnConvParams p) {
  conv_thin_columns<true, ConvStatisticsTail<float>>(p);
}
KILN_EXPORT(conv_statistics_thin_tf32)
extern "C" __global__ void __launch_bounds__(KILN_GEMM_THREADS, 3) conv_statistics_thin_bf16(const __grid_constant__ KilnConvParams p) {
  conv_thin_columns<false, ConvStatisticsTail<Bf16>>(p);
}
KILN_EXPORT(conv_statistics_thin_bf16)
extern "C" __global__ void __launch_bounds__(KILN_GEMM_THREADS, 3) conv_statistics_thin_f16(const __grid_constant__ KilnConvParams p) {
  conv_thin_columns<false, ConvStatisticsTail<F16>>(p);
}
KILN_EXPORT(conv_statistics_thin_f16)
