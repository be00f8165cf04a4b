// SPDX-License-Identifier: MIT OR Apache-2.0
// Convolutions whose results see few channels each, one by one or those of a first layer: eight columns of results in the
// registers of a thread, next to those of its neighbours. No tensor core, no tile of an operand: what is read is in the caches.
#pragma once
#include "find.cuh"

// Threads of a block along the columns, eight columns each; the others lie along places.
KILN_DEVICE u32 thin_width(int columns) {
  return columns > KILN_THIN_COLUMNS / 2 ? 8 : columns > KILN_THIN_COLUMNS / 4 ? 4 : columns > KILN_THIN_COLUMNS / 8 ? 2 : 1;
}

// A factor as the precision has it: tf32 ignores 13 bits.
template <bool cuts> KILN_DEVICE float thin_factor(float value) {
  return cuts ? __uint_as_float(__float_as_uint(value) & 0xffffe000u) : value;
}

// Which channels the eight columns of a thread see.
enum class Sight {
  Own,     // each its own, neighbours in memory
  Common,  // the same
  Any,
};

template <Sight sight> struct Seen {
  static constexpr Sight kSight = sight;
};

// Calls body(Seen) for columns of which `n` are in a group, `ld` in all.
template <class Body> KILN_DEVICE void with_sight(const KilnGather& gather, int n, int ld, Body body) {
  if (n == 1 && gather.channels.divisor == 1 && gather.channel == 1) {
    body(Seen<Sight::Own>{});
  } else if (n % 8 == 0 || n == ld) {
    body(Seen<Sight::Common>{});
  } else {
    body(Seen<Sight::Any>{});
  }
}

// The factors that a thread's columns find in a pixel.
template <class T, bool cuts, Sight sight> struct ThinSource {
  static constexpr int kPlaces = sight == Sight::Any ? 8 : 1;
  const T* data;
  u32 channel;  // distance of neighbours
  u32 at[kPlaces];
  int count;  // columns that exist, at least one
  bool whole;

  __device__ __forceinline__ ThinSource(const KilnGather& gather, const void* data, int n, int column, int count)
      : data(static_cast<const T*>(data)), channel(gather.channel), count(count) {
    whole = sight == Sight::Own && count == 8 && gather.position % kVector<T> == 0;
    const u32 of_group = gather.channels.divisor * gather.channel;
#pragma unroll
    for (int i = 0; i < kPlaces; ++i) at[i] = static_cast<u32>(column + i) / static_cast<u32>(n) * of_group;
  }

  // Of the channel with this number in each column's group.
  __device__ __forceinline__ Chunk<8> factors(int pixel, u32 number) const {
    Chunk<8> chunk;
    if constexpr (sight == Sight::Own) {
      chunk = whole ? load_chunk<8>(data + (pixel + at[0])) : load_chunk_part<8>(data + (pixel + at[0]), count);
    } else if constexpr (sight == Sight::Common) {
      const float value = to_f32(data[pixel + at[0] + number * channel]);
#pragma unroll
      for (float& to : chunk.v) to = value;
    } else {
#pragma unroll
      for (int i = 0; i < 8; ++i) chunk.v[i] = i < count ? to_f32(data[pixel + at[i % kPlaces] + number * channel]) : 0.0f;
    }
#pragma unroll
    for (float& value : chunk.v) value = thin_factor<cuts>(value);
    return chunk;
  }
};
