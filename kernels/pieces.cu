// SPDX-License-Identifier: MIT OR Apache-2.0
// Boxes of elements, each to its place: permuted, cut out, joined, set among zeros.
#include "abi.h"
#include "lib/divide.cuh"
#include "lib/device.cuh"

// Where an element of a box comes from and goes to, from the number that counts the box's elements.
struct Place {
  size_t from, to;
};

KILN_DEVICE Place place_of(u32 number, const KilnBox& box) {
  Place place{0, 0};
  for (int axis = static_cast<int>(box.rank) - 1; axis >= 0; --axis) {
    const Quotient at = divide(number, box.extents[axis]);
    place.from += static_cast<size_t>(at.remainder) * box.from[axis];
    place.to += static_cast<size_t>(at.remainder) * box.to[axis];
    number = at.quotient;
  }
  return place;
}

template <class Bits> KILN_DEVICE Bits zero_bits() { return 0; }
template <> __device__ __forceinline__ uint4 zero_bits<uint4>() { return make_uint4(0, 0, 0, 0); }

// One thread per element; y: the piece.
template <class Bits> KILN_DEVICE void copy_pieces(const KilnCopyParams& p) {
  const KilnPiece& piece = p.pieces[blockIdx.y];
  const u32 element = blockIdx.x * KILN_BLOCK_THREADS + threadIdx.x;
  if (element >= piece.count) return;
  const Place place = place_of(element, piece.moved);
  static_cast<Bits*>(piece.y)[place.to] =
      piece.x == nullptr ? zero_bits<Bits>() : static_cast<const Bits*>(piece.x)[place.from];
}

// Block: a tile of KILN_TRANSPOSE_TILE x KILN_TRANSPOSE_TILE, read along columns and written along rows.
template <class Bits> KILN_DEVICE void turn(const KilnTurnParams& p) {
  constexpr u32 kTile = KILN_TRANSPOSE_TILE;
  constexpr u32 kPitch = kTile + 1;  // odd, so that a column of the tile touches every bank
  KILN_SHARED(Bits, tile, kTile * kPitch);
  const Quotient by_columns = divide(blockIdx.x, p.column_tiles);
  const Quotient by_rows = divide(by_columns.quotient, p.row_tiles);
  const Place start = place_of(by_rows.quotient, p.outer);
  const u32 left = by_columns.remainder * kTile, top = by_rows.remainder * kTile;
  const Bits* x = static_cast<const Bits*>(p.x) + start.from;
  Bits* y = static_cast<Bits*>(p.y) + start.to;
#pragma unroll
  for (u32 i = threadIdx.y; i < kTile; i += KILN_TRANSPOSE_ROWS) {
    const u32 row = top + i, column = left + threadIdx.x;
    if (row < p.rows && column < p.columns) tile[i * kPitch + threadIdx.x] = x[static_cast<size_t>(row) * p.from + column];
  }
  __syncthreads();
#pragma unroll
  for (u32 i = threadIdx.y; i < kTile; i += KILN_TRANSPOSE_ROWS) {
    const u32 row = top + threadIdx.x, column = left + i;
    if (row < p.rows && column < p.columns) y[static_cast<size_t>(column) * p.to + row] = tile[threadIdx.x * kPitch + i];
  }
}

extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) copy_pieces_16(const __grid_constant__ KilnCopyParams p) {
  copy_pieces<u16>(p);
}
KILN_EXPORT(copy_pieces_16)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) copy_pieces_32(const __grid_constant__ KilnCopyParams p) {
  copy_pieces<u32>(p);
}
KILN_EXPORT(copy_pieces_32)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) copy_pieces_128(const __grid_constant__ KilnCopyParams p) {
  copy_pieces<uint4>(p);
}
KILN_EXPORT(copy_pieces_128)
extern "C" __global__ void __launch_bounds__(KILN_TRANSPOSE_TILE * KILN_TRANSPOSE_ROWS) turn_16(const __grid_constant__ KilnTurnParams p) {
  turn<u16>(p);
}
KILN_EXPORT(turn_16)
extern "C" __global__ void __launch_bounds__(KILN_TRANSPOSE_TILE * KILN_TRANSPOSE_ROWS) turn_32(const __grid_constant__ KilnTurnParams p) {
  turn<u32>(p);
}
KILN_EXPORT(turn_32)
