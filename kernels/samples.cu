// SPDX-License-Identifier: MIT OR Apache-2.0
// Samples of a data set that lies on the device as bytes, gathered by their numbers and translated in one pass:
// y[p, i] = palette[channel of i][x[index[p], i]]. What a channel's palette holds is any function of a byte, such as
// (byte / 255 - mean) / std as the host rounds it. A number without a sample gives NaN.
#include "abi_images.h"
#include "lib/divide.cuh"

constexpr u32 kColours = 256;

KILN_DEVICE u32 nan_bits() { return __float_as_uint(not_a_number()); }

// One thread per four elements of a channel.
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) take_bytes(const __grid_constant__ KilnTakeBytesParams p) {
  const u32 unit = blockIdx.x * KILN_BLOCK_THREADS + threadIdx.x;
  if (unit >= p.count) return;
  const Quotient at = divide(unit, p.row);
  const u32 row = static_cast<u32>(p.index[at.quotient]);
  uint4 bits = make_uint4(nan_bits(), nan_bits(), nan_bits(), nan_bits());
  if (row < p.rows) {
    const u32 codes = reinterpret_cast<const u32*>(p.x)[static_cast<size_t>(row) * p.row.divisor + at.remainder];
    const u32* palette = p.palette + divide(at.remainder, p.plane).quotient * kColours;
    bits = make_uint4(palette[codes & 0xffu], palette[codes >> 8 & 0xffu], palette[codes >> 16 & 0xffu], palette[codes >> 24]);
  }
  reinterpret_cast<uint4*>(p.y)[unit] = bits;
}
KILN_EXPORT(take_bytes)

// One thread per element.
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) take_bytes_ragged(const __grid_constant__ KilnTakeBytesParams p) {
  const u32 element = blockIdx.x * KILN_BLOCK_THREADS + threadIdx.x;
  if (element >= p.count) return;
  const Quotient at = divide(element, p.row);
  const u32 row = static_cast<u32>(p.index[at.quotient]);
  u32 bits = nan_bits();
  if (row < p.rows) {
    const u32 code = p.x[static_cast<size_t>(row) * p.row.divisor + at.remainder];
    bits = p.palette[divide(at.remainder, p.plane).quotient * kColours + code];
  }
  reinterpret_cast<u32*>(p.y)[element] = bits;
}
KILN_EXPORT(take_bytes_ragged)
