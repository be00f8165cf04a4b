// SPDX-License-Identifier: MIT OR Apache-2.0
// Storage types, and chunks: consecutive elements held as f32 in registers between 16-byte loads and stores.
#pragma once
#include "device.cuh"

// The 16-bit formats as types of their own, so that overloads can tell them from integers and from each other.
struct Bf16 {
  u16 bits;
};
struct F16 {
  u16 bits;
};

KILN_DEVICE float to_f32(float value) { return value; }
KILN_DEVICE float to_f32(Bf16 value) { return f32_from_bf16(value.bits); }
KILN_DEVICE float to_f32(F16 value) { return f32_from_f16(value.bits); }

template <class T> KILN_DEVICE T from_f32(float value);
template <> __device__ __forceinline__ float from_f32<float>(float value) { return value; }
template <> __device__ __forceinline__ Bf16 from_f32<Bf16>(float value) { return Bf16{bf16_from_f32(value)}; }
template <> __device__ __forceinline__ F16 from_f32<F16>(float value) { return F16{f16_from_f32(value)}; }

// Two elements of a 16-bit format in one word, the first in the low half.
template <class T> KILN_DEVICE u32 pack_pair(float low, float high);
template <> __device__ __forceinline__ u32 pack_pair<Bf16>(float low, float high) { return pack_bf16(low, high); }
template <> __device__ __forceinline__ u32 pack_pair<F16>(float low, float high) { return pack_f16(low, high); }

template <class T> KILN_DEVICE float2 unpack_pair(u32 bits);
template <> __device__ __forceinline__ float2 unpack_pair<Bf16>(u32 bits) {
  return make_float2(__uint_as_float(bits << 16), __uint_as_float(bits & 0xffff0000u));
}
template <> __device__ __forceinline__ float2 unpack_pair<F16>(u32 bits) {
  return make_float2(f32_from_f16(static_cast<u16>(bits)), f32_from_f16(static_cast<u16>(bits >> 16)));
}

// Elements in 16 bytes.
template <class T> constexpr int kVector = 16 / static_cast<int>(sizeof(T));

template <int N> struct Chunk {
  float v[N];
};

// Whether data will be read again before it is likely to leave the caches.
enum class Reuse { Soon, Late };

template <Reuse reuse> KILN_DEVICE uint4 load_16(const void* address) {
  return reuse == Reuse::Late ? load_streaming(address) : *static_cast<const uint4*>(address);
}
template <Reuse reuse> KILN_DEVICE void store_16(void* address, uint4 bits) {
  if (reuse == Reuse::Late) {
    store_streaming(address, bits);
  } else {
    *static_cast<uint4*>(address) = bits;
  }
}

KILN_DEVICE void unpack(uint4 bits, float (&v)[4], float) {
  v[0] = __uint_as_float(bits.x);
  v[1] = __uint_as_float(bits.y);
  v[2] = __uint_as_float(bits.z);
  v[3] = __uint_as_float(bits.w);
}
template <class T> KILN_DEVICE void unpack(uint4 bits, float (&v)[8], T) {
  const u32 words[4] = {bits.x, bits.y, bits.z, bits.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float2 pair = unpack_pair<T>(words[i]);
    v[2 * i] = pair.x;
    v[2 * i + 1] = pair.y;
  }
}
KILN_DEVICE uint4 repack(const float (&v)[4], float) {
  return make_uint4(__float_as_uint(v[0]), __float_as_uint(v[1]), __float_as_uint(v[2]), __float_as_uint(v[3]));
}
template <class T> KILN_DEVICE uint4 repack(const float (&v)[8], T) {
  return make_uint4(pack_pair<T>(v[0], v[1]), pack_pair<T>(v[2], v[3]), pack_pair<T>(v[4], v[5]),
                    pack_pair<T>(v[6], v[7]));
}

// `address` is aligned to 16 bytes. N is a multiple of the elements in 16 bytes.
template <int N, class T, Reuse reuse = Reuse::Soon> KILN_DEVICE Chunk<N> load_chunk(const T* address) {
  constexpr int kStep = kVector<T>;
  static_assert(N % kStep == 0, "a chunk is whole 16-byte vectors");
  uint4 bits[N / kStep];
#pragma unroll
  for (int i = 0; i < N / kStep; ++i) bits[i] = load_16<reuse>(address + i * kStep);
  Chunk<N> chunk;
#pragma unroll
  for (int i = 0; i < N / kStep; ++i) {
    float part[kStep];
    unpack(bits[i], part, T{});
#pragma unroll
    for (int k = 0; k < kStep; ++k) chunk.v[i * kStep + k] = part[k];
  }
  return chunk;
}
template <int N, class T, Reuse reuse = Reuse::Soon> KILN_DEVICE void store_chunk(T* address, const Chunk<N>& chunk) {
  constexpr int kStep = kVector<T>;
  static_assert(N % kStep == 0, "a chunk is whole 16-byte vectors");
#pragma unroll
  for (int i = 0; i < N / kStep; ++i) {
    float part[kStep];
#pragma unroll
    for (int k = 0; k < kStep; ++k) part[k] = chunk.v[i * kStep + k];
    store_16<reuse>(address + i * kStep, repack(part, T{}));
  }
}

// The first `count` elements, one by one, at any alignment; the others read as zero.
template <int N, class T> KILN_DEVICE Chunk<N> load_chunk_part(const T* address, int count) {
  Chunk<N> chunk;
#pragma unroll
  for (int i = 0; i < N; ++i) chunk.v[i] = i < count ? to_f32(address[i]) : 0.0f;
  return chunk;
}
template <int N, class T> KILN_DEVICE void store_chunk_part(T* address, const Chunk<N>& chunk, int count) {
#pragma unroll
  for (int i = 0; i < N; ++i) {
    if (i < count) address[i] = from_f32<T>(chunk.v[i]);
  }
}

// Whole chunks at once, the last one of an array element by element.
template <int N, class T> KILN_DEVICE Chunk<N> load_chunk_upto(const T* address, int count) {
  return count >= N ? load_chunk<N>(address) : load_chunk_part<N>(address, count);
}
template <int N, class T> KILN_DEVICE void store_chunk_upto(T* address, const Chunk<N>& chunk, int count) {
  if (count >= N) {
    store_chunk<N>(address, chunk);
  } else {
    store_chunk_part<N>(address, chunk, count);
  }
}
