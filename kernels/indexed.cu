// SPDX-License-Identifier: MIT OR Apache-2.0
// Slices and elements chosen by integers, and the sums that are their gradients: x [outer, rows, inner], and `picks`
// choices along the middle. An index that names no row gives `nan`, and its gradient goes nowhere. Sums are taken in the
// order of the choices, one after the other, so they repeat bit for bit.
#include "abi.h"
#include "lib/divide.cuh"
#include "lib/pack.cuh"
#include "lib/philox.cuh"

KILN_DEVICE void fill_bits(u16& bits, u32 word) { bits = static_cast<u16>(word); }
KILN_DEVICE void fill_bits(u32& bits, u32 word) { bits = word; }
KILN_DEVICE void fill_bits(uint4& bits, u32 word) { bits = make_uint4(word, word, word, word); }

// take: y[o, p, i] = x[o, index[p], i]. gather: y[o, p, i] = x[o, index[o, p, i], i]. One thread per element of y.
enum class Index { OfRow, OfElement };

// The element of x that one of y is.
constexpr size_t kNowhere = ~static_cast<size_t>(0);
template <Index kind> KILN_DEVICE size_t source(const KilnChoiceParams& p, u32 element) {
  const Quotient in_row = divide(element, p.inner);
  const Quotient in_block = divide(in_row.quotient, p.picks);
  const u32 row = static_cast<u32>(p.index[kind == Index::OfRow ? in_block.remainder : element]);
  if (row >= p.rows) return kNowhere;
  return (static_cast<size_t>(in_block.quotient) * p.rows + row) * p.inner.divisor + in_row.remainder;
}

template <class Bits, Index kind> KILN_DEVICE void choose(const KilnChoiceParams& p) {
  const u32 element = blockIdx.x * KILN_BLOCK_THREADS + threadIdx.x;
  if (element >= p.count) return;
  const size_t from = source<kind>(p, element);
  Bits bits;
  if (from != kNowhere) {
    bits = static_cast<const Bits*>(p.x)[from];
  } else {
    fill_bits(bits, p.nan);
  }
  static_cast<Bits*>(p.y)[element] = bits;
}

// Dropout of what take yields: the mask counts y's elements as they lie.
template <class T> KILN_DEVICE void take_dropout(const KilnChoiceParams& p) {
  const u32 element = blockIdx.x * KILN_BLOCK_THREADS + threadIdx.x;
  if (element >= p.count) return;
  const size_t from = source<Index::OfRow>(p, element);
  const float x = from != kNowhere ? to_f32(static_cast<const T*>(p.x)[from]) : __uint_as_float(0x7fffffffu);
  const Quotient at = divide(element, p.elements);
  static_cast<T*>(p.y)[element] = from_f32<T>(dropped(x, p.mask, p.scalars, at.quotient, at.remainder));
}

// dx[o, r, i] = sum of dy[o, p, i] over the p with index[p] = r. A block has the sums of `group` rows and `width` lines
// (pairs of o and i) in shared memory; a thread has one line, and of the rows every (256 / width)-th. Indices are listed,
// KILN_CHOICE_LIST at a time, as far as they name one of the block's rows. Grid: groups of rows times ceil(lines, width).
template <class T> KILN_DEVICE void take_gradient(const KilnChoiceGradientParams& p) {
  constexpr u32 kThreads = KILN_BLOCK_THREADS, kWarps = kThreads / 32, kEach = KILN_CHOICE_LIST / kThreads;
  KILN_SHARED(float, sums, KILN_CHOICE_SUMS);
  KILN_SHARED(u32, rows, KILN_CHOICE_LIST);   // of the block, that are named
  KILN_SHARED(u32, places, KILN_CHOICE_LIST); // where they are named
  KILN_SHARED(u32, counts, kEach * kWarps);
  const Quotient block = divide(blockIdx.x, p.groups);
  const u32 first = block.remainder * p.group, end = min(first + p.group, p.rows);
  const u32 lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const u32 step = kThreads / p.width, turn = threadIdx.x / p.width;
  const u32 slot = threadIdx.x % p.width, line = block.quotient * p.width + slot;
  const Quotient at = divide(line, p.columns);
  const T* dy = static_cast<const T*>(p.dy) + static_cast<size_t>(at.quotient) * p.picks * p.inner + at.remainder;
  for (u32 row = turn; row < p.group; row += step) sums[row * p.width + slot] = 0.0f;
  for (u32 base = 0; base < p.picks; base += KILN_CHOICE_LIST) {
    // Votes keep the list in order: first all of the first 256 indices, then of the next.
    u32 named[kEach], votes[kEach];
#pragma unroll
    for (u32 i = 0; i < kEach; ++i) {
      const u32 place = base + i * kThreads + threadIdx.x;
      const u32 row = place < p.picks ? static_cast<u32>(p.index[place]) : ~0u;
      const bool is_mine = row >= first && row < end;
      named[i] = is_mine ? row - first : ~0u;
      votes[i] = __ballot_sync(~0u, is_mine);
      if (lane == 0) counts[i * kWarps + warp] = static_cast<u32>(__popc(votes[i]));
    }
    __syncthreads();
    u32 total = 0;
#pragma unroll
    for (u32 i = 0; i < kEach; ++i) {
#pragma unroll
      for (u32 w = 0; w < kWarps; ++w) {
        if (w == warp && named[i] != ~0u) {
          const u32 entry = total + static_cast<u32>(__popc(votes[i] & ((1u << lane) - 1u)));
          rows[entry] = named[i];
          places[entry] = base + i * kThreads + threadIdx.x;
        }
        total += counts[i * kWarps + w];
      }
    }
    __syncthreads();
    if (line < p.lines) {
      for (u32 i = 0; i < total; ++i) {
        const u32 row = rows[i];
        if (row % step != turn) continue;
        float slope = to_f32(dy[static_cast<size_t>(places[i]) * p.inner]);
        if (p.drops) {
          const Quotient of = divide((at.quotient * p.picks + places[i]) * p.inner + at.remainder, p.elements);
          slope = dropped(slope, p.mask, p.scalars, of.quotient, of.remainder);
        }
        sums[row * p.width + slot] += slope;
      }
    }
    __syncthreads();
  }
  if (line >= p.lines) return;
  float* dx = p.dx + (static_cast<size_t>(at.quotient) * p.rows + first) * p.inner + at.remainder;
  for (u32 row = turn; row < end - first; row += step) dx[static_cast<size_t>(row) * p.inner] = sums[row * p.width + slot];
}

// dx[o, r, i] += dy[o, p, i] for r = index[o, p, i]; dx is zero before. One thread per (o, i).
template <class T> KILN_DEVICE void gather_gradient(const KilnChoiceGradientParams& p) {
  const u32 line = blockIdx.x * KILN_BLOCK_THREADS + threadIdx.x;
  if (line >= p.lines) return;
  const Quotient at = divide(line, p.columns);
  const size_t from = static_cast<size_t>(at.quotient) * p.picks * p.inner + at.remainder;
  const int* index = p.index + from;
  const T* dy = static_cast<const T*>(p.dy) + from;
  float* dx = p.dx + static_cast<size_t>(at.quotient) * p.rows * p.inner + at.remainder;
  for (u32 pick = 0; pick < p.picks; ++pick) {
    const u32 row = static_cast<u32>(index[static_cast<size_t>(pick) * p.inner]);
    if (row < p.rows) dx[static_cast<size_t>(row) * p.inner] += to_f32(dy[static_cast<size_t>(pick) * p.inner]);
  }
}

extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) take_16(const __grid_constant__ KilnChoiceParams p) {
  choose<u16, Index::OfRow>(p);
}
KILN_EXPORT(take_16)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) take_32(const __grid_constant__ KilnChoiceParams p) {
  choose<u32, Index::OfRow>(p);
}
KILN_EXPORT(take_32)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) take_128(const __grid_constant__ KilnChoiceParams p) {
  choose<uint4, Index::OfRow>(p);
}
KILN_EXPORT(take_128)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) take_dropout_f32(const __grid_constant__ KilnChoiceParams p) {
  take_dropout<float>(p);
}
KILN_EXPORT(take_dropout_f32)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) take_dropout_bf16(const __grid_constant__ KilnChoiceParams p) {
  take_dropout<Bf16>(p);
}
KILN_EXPORT(take_dropout_bf16)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) take_dropout_f16(const __grid_constant__ KilnChoiceParams p) {
  take_dropout<F16>(p);
}
KILN_EXPORT(take_dropout_f16)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) gather_16(const __grid_constant__ KilnChoiceParams p) {
  choose<u16, Index::OfElement>(p);
}
KILN_EXPORT(gather_16)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) gather_32(const __grid_constant__ KilnChoiceParams p) {
  choose<u32, Index::OfElement>(p);
}
KILN_EXPORT(gather_32)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) take_gradient_f32(const __grid_constant__ KilnChoiceGradientParams p) {
  take_gradient<float>(p);
}
KILN_EXPORT(take_gradient_f32)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) take_gradient_bf16(const __grid_constant__ KilnChoiceGradientParams p) {
  take_gradient<Bf16>(p);
}
KILN_EXPORT(take_gradient_bf16)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) take_gradient_f16(const __grid_constant__ KilnChoiceGradientParams p) {
  take_gradient<F16>(p);
}
KILN_EXPORT(take_gradient_f16)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) gather_gradient_f32(const __grid_constant__ KilnChoiceGradientParams p) {
  gather_gradient<float>(p);
}
KILN_EXPORT(gather_gradient_f32)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) gather_gradient_bf16(const __grid_constant__ KilnChoiceGradientParams p) {
  gather_gradient<Bf16>(p);
}
KILN_EXPORT(gather_gradient_bf16)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) gather_gradient_f16(const __grid_constant__ KilnChoiceGradientParams p) {
  gather_gradient<F16>(p);
}
KILN_EXPORT(gather_gradient_f16)
