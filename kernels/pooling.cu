// SPDX-License-Identifier: MIT OR Apache-2.0
// Pooling of images that lie channels-last: the largest element, or the mean, under each place of a window. One thread
// per place, or element of a gradient, and 16 bytes of channels. Gradients gather, so that their sums have an order.
#include "abi_images.h"
#include "lib/pack.cuh"
#include "lib/window.cuh"

// A thread's position and its channels.
template <class T> struct PoolThread {
  static constexpr int kStep = kVector<T>;
  u32 number;  // of the position among those of all samples
  u32 channel;
  int count;   // channels that exist
  bool whole;  // whether every chunk is 16 bytes, aligned
  u32 channels;

  __device__ __forceinline__ explicit PoolThread(const KilnPoolParams& p) {
    const Quotient thread = divide(blockIdx.x * KILN_BLOCK_THREADS + threadIdx.x, p.chunks);
    number = thread.quotient;
    channel = thread.remainder * kStep;
    count = static_cast<int>(min(p.channels - channel, static_cast<u32>(kStep)));
    whole = p.channels % kStep == 0;
    channels = p.channels;
  }

  __device__ __forceinline__ size_t offset(u32 position) const { return static_cast<size_t>(position) * channels + channel; }
  __device__ __forceinline__ Chunk<kStep> load(const void* from, u32 position) const {
    const T* const at = static_cast<const T*>(from) + offset(position);
    return whole ? load_chunk<kStep>(at) : load_chunk_part<kStep>(at, count);
  }
  // Of what lies at places, be it plane by plane.
  __device__ __forceinline__ T* plane(const KilnPoolParams& p, const void* from, u32 sample, u32 place) const {
    const size_t first = static_cast<size_t>(sample * channels + channel) * places_of_image(p.window);
    return static_cast<T*>(const_cast<void*>(from)) + first + place;
  }
  __device__ __forceinline__ Chunk<kStep> load_place(const KilnPoolParams& p, u32 sample, u32 place) const {
    const u32 places = places_of_image(p.window);
    if (!p.planar) return load(p.y, sample * places + place);
    const T* const at = plane(p, p.y, sample, place);
    Chunk<kStep> chunk;
#pragma unroll
    for (int i = 0; i < kStep; ++i) chunk.v[i] = i < count ? to_f32(at[i * places]) : 0.0f;
    return chunk;
  }
  __device__ __forceinline__ void store_place(const KilnPoolParams& p, u32 sample, const Chunk<kStep>& chunk) const {
    if (!p.planar) return store(p.y, number, chunk);
    const u32 places = places_of_image(p.window);
    T* const at = plane(p, p.y, sample, number - sample * places);
#pragma unroll
    for (int i = 0; i < kStep; ++i) {
      if (i < count) at[i * places] = from_f32<T>(chunk.v[i]);
    }
  }
  __device__ __forceinline__ void store(void* to, u32 position, const Chunk<kStep>& chunk) const {
    T* const at = static_cast<T*>(to) + offset(position);
    if (whole) {
      store_chunk<kStep>(at, chunk);
    } else {
      store_chunk_part<kStep>(at, chunk, count);
    }
  }
};

// NaN is larger than all numbers; of equal elements the first counts, of several NaNs the last.
template <class T> KILN_DEVICE void max_pool(const KilnPoolParams& p) {
  const PoolThread<T> thread(p);
  constexpr int kStep = thread.kStep;
  const Position place = place_of(thread.number, p.window);
  if (place.sample >= p.samples) return;
  const u32 image = place.sample * elements_of_image(p.window);
  Chunk<kStep> largest;
  int from[kStep];
#pragma unroll
  for (int i = 0; i < kStep; ++i) {
    largest.v[i] = -infinity();
    from[i] = -1;
  }
  each_element(p.window, place, [&](u32 element) {
    const Chunk<kStep> chunk = thread.load(p.x, image + element);
#pragma unroll
    for (int i = 0; i < kStep; ++i) {
      const float value = chunk.v[i];
      if (from[i] >= 0 && !(value > largest.v[i]) && value == value) continue;
      largest.v[i] = value;
      from[i] = static_cast<int>(element);
    }
  });
  thread.store_place(p, place.sample, largest);
  if (p.index == nullptr) return;
  int* const index = p.index + thread.offset(thread.number);
#pragma unroll
  for (int i = 0; i < kStep; i += 4) {
    if (thread.whole) {
      const auto word = [&](int k) { return static_cast<u32>(max(from[i + k], 0)); };
      *reinterpret_cast<uint4*>(index + i) = make_uint4(word(0), word(1), word(2), word(3));
      continue;
    }
#pragma unroll
    for (int k = i; k < i + 4; ++k) {
      if (k < thread.count) index[k] = max(from[k], 0);
    }
  }
}

template <class T> KILN_DEVICE void max_pool_gradient(const KilnPoolParams& p) {
  const PoolThread<T> thread(p);
  constexpr int kStep = thread.kStep;
  const Position element = element_of(thread.number, p.window);
  if (element.sample >= p.samples) return;
  const u32 image = element.sample * places_of_image(p.window);
  const int own = static_cast<int>(thread.number - element.sample * elements_of_image(p.window));
  Chunk<kStep> sum = {};
  each_place(p.window, element, [&](u32 place, const Position&) {
    const int* const index = p.index + thread.offset(image + place);
    int from[kStep];
#pragma unroll
    for (int i = 0; i < kStep; i += 4) {
      if (thread.whole) {
        const uint4 words = *reinterpret_cast<const uint4*>(index + i);
        from[i] = static_cast<int>(words.x);
        from[i + 1] = static_cast<int>(words.y);
        from[i + 2] = static_cast<int>(words.z);
        from[i + 3] = static_cast<int>(words.w);
        continue;
      }
#pragma unroll
      for (int k = i; k < i + 4; ++k) from[k] = k < thread.count ? index[k] : -1;
    }
    const Chunk<kStep> dy = thread.load_place(p, element.sample, place);
#pragma unroll
    for (int i = 0; i < kStep; ++i) sum.v[i] += from[i] == own ? dy.v[i] : 0.0f;
  });
  thread.store(p.x, thread.number, sum);
}

// Elements under a window along one extent. What hangs over beyond the padding does not count.
KILN_DEVICE int covered(const KilnWindowAxis& axis, int place, bool padded) {
  const int from = place * static_cast<int>(axis.stride.divisor) - static_cast<int>(axis.before);
  const int first = max(from, padded ? -static_cast<int>(axis.before) : 0);
  const int end = static_cast<int>(axis.image.divisor + (padded ? axis.after : 0));
  return max(min(from + static_cast<int>(axis.kernel), end) - first, 0);
}

KILN_DEVICE float divisor_at(const KilnPoolParams& p, const Position& place) {
  if (p.fixed != 0) return static_cast<float>(p.fixed);
  const bool padded = p.padded != 0;
  const KilnWindowAxis* const window = p.window;
  return static_cast<float>(covered(window[0], place.at[0], padded) * covered(window[1], place.at[1], padded) *
                            covered(window[2], place.at[2], padded));
}

template <class T> KILN_DEVICE void avg_pool(const KilnPoolParams& p) {
  const PoolThread<T> thread(p);
  constexpr int kStep = thread.kStep;
  const Position place = place_of(thread.number, p.window);
  if (place.sample >= p.samples) return;
  const u32 image = place.sample * elements_of_image(p.window);
  Chunk<kStep> sum = {};
  each_element(p.window, place, [&](u32 element) {
    const Chunk<kStep> chunk = thread.load(p.x, image + element);
#pragma unroll
    for (int i = 0; i < kStep; ++i) sum.v[i] += chunk.v[i];
  });
  const float divisor = divisor_at(p, place);
#pragma unroll
  for (float& value : sum.v) value /= divisor;
  thread.store_place(p, place.sample, sum);
}

template <class T> KILN_DEVICE void avg_pool_gradient(const KilnPoolParams& p) {
  const PoolThread<T> thread(p);
  constexpr int kStep = thread.kStep;
  const Position element = element_of(thread.number, p.window);
  if (element.sample >= p.samples) return;
  Chunk<kStep> sum = {};
  each_place(p.window, element, [&](u32 number, const Position& place) {
    const float share = 1.0f / divisor_at(p, place);
    const Chunk<kStep> dy = thread.load_place(p, element.sample, number);
#pragma unroll
    for (int i = 0; i < kStep; ++i) sum.v[i] += dy.v[i] * share;
  });
  thread.store(p.x, thread.number, sum);
}

extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) max_pool_f32(const __grid_constant__ KilnPoolParams p) {
  max_pool<float>(p);
}
KILN_EXPORT(max_pool_f32)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) max_pool_bf16(const __grid_constant__ KilnPoolParams p) {
  max_pool<Bf16>(p);
}
KILN_EXPORT(max_pool_bf16)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) max_pool_f16(const __grid_constant__ KilnPoolParams p) {
  max_pool<F16>(p);
}
KILN_EXPORT(max_pool_f16)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) max_pool_gradient_f32(const __grid_constant__ KilnPoolParams p) {
  max_pool_gradient<float>(p);
}
KILN_EXPORT(max_pool_gradient_f32)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) max_pool_gradient_bf16(const __grid_constant__ KilnPoolParams p) {
  max_pool_gradient<Bf16>(p);
}
KILN_EXPORT(max_pool_gradient_bf16)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) max_pool_gradient_f16(const __grid_constant__ KilnPoolParams p) {
  max_pool_gradient<F16>(p);
}
KILN_EXPORT(max_pool_gradient_f16)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) avg_pool_f32(const __grid_constant__ KilnPoolParams p) {
  avg_pool<float>(p);
}
KILN_EXPORT(avg_pool_f32)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS, 4) avg_pool_bf16(const __grid_constant__ KilnPoolParams p) {
  avg_pool<Bf16>(p);
}
KILN_EXPORT(avg_pool_bf16)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) avg_pool_f16(const __grid_constant__ KilnPoolParams p) {
  avg_pool<F16>(p);
}
KILN_EXPORT(avg_pool_f16)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) avg_pool_gradient_f32(const __grid_constant__ KilnPoolParams p) {
  avg_pool_gradient<float>(p);
}
KILN_EXPORT(avg_pool_gradient_f32)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS, 4) avg_pool_gradient_bf16(const __grid_constant__ KilnPoolParams p) {
  avg_pool_gradient<Bf16>(p);
}
KILN_EXPORT(avg_pool_gradient_bf16)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS, 4) avg_pool_gradient_f16(const __grid_constant__ KilnPoolParams p) {
  avg_pool_gradient<F16>(p);
}
KILN_EXPORT(avg_pool_gradient_f16)
