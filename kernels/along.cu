// SPDX-License-Identifier: MIT OR Apache-2.0
// Sums, extremes and their places along the middle of x [outer, reduced, inner]. A block has 256 / turns lines, the pairs
// of an outer and an inner index, and `turns` threads for each, which take elements in turn and join what they hold in
// pairs. z: a part of the reduced extent; the last block of a line joins the parts likewise. So the order is fixed.
#include "abi.h"
#include "lib/divide.cuh"
#include "lib/pack.cuh"
#include "lib/reduce.cuh"

enum class Fold { Sum, Extreme };

// Rows: inner == 1, and a thread takes 16 bytes of its line at a time. Columns: a thread has as many lines as lie in 16
// bytes. Any: element by element.
enum class Walk { Rows, Columns, Any };

template <Fold fold> KILN_DEVICE float nothing() { return fold == Fold::Sum ? 0.0f : -infinity(); }
template <Fold fold> KILN_DEVICE float join(float a, float b) { return fold == Fold::Sum ? a + b : max_or_nan(a, b); }

// What a thread holds of a line. The smallest number is the largest one's opposite.
template <Fold fold> struct Held {
  LongSum sum;
  float most = -infinity();
  __device__ __forceinline__ void add(float sign, float value) {
    if constexpr (fold == Fold::Sum) {
      sum.add(value);
    } else {
      most = max_or_nan(most, sign * value);
    }
  }
  __device__ __forceinline__ float value() const { return fold == Fold::Sum ? sum.value : most; }
};

// Where a thread stands among those of its block.
struct Seat {
  u32 turn, line;  // of the launch, in units of what a thread has
  u32 step;        // threads between two turns of a line
  u32 begin, end;  // of the block's part of the reduced extent
};

KILN_DEVICE Seat seat_of(const KilnFoldParams& p, bool neighbours, u32 unit) {
  const u32 lines = KILN_BLOCK_THREADS / p.turns;
  Seat seat;
  // Neighbouring threads read neighbouring elements, those of one line or of neighbouring ones.
  seat.turn = neighbours ? threadIdx.x % p.turns : threadIdx.x / lines;
  seat.line = blockIdx.x * lines + (neighbours ? threadIdx.x / p.turns : threadIdx.x % lines);
  seat.step = neighbours ? 1 : lines;
  const u32 part = ((p.reduced + p.splits - 1) / p.splits + unit - 1) / unit * unit;
  seat.begin = min(p.reduced, blockIdx.z * part);
  seat.end = min(p.reduced, seat.begin + part);
  return seat;
}

// Joins what the threads of each line hold; the first of them has the result.
template <Fold fold, int N>
KILN_DEVICE void join_turns(const KilnFoldParams& p, const Seat& seat, float* shared, float (&mine)[N]) {
  __syncthreads();
#pragma unroll
  for (int i = 0; i < N; ++i) shared[i * KILN_BLOCK_THREADS + threadIdx.x] = mine[i];
  for (u32 half = p.turns / 2; half > 0; half /= 2) {
    __syncthreads();
    if (seat.turn < half) {
#pragma unroll
      for (int i = 0; i < N; ++i) {
        float* at = shared + i * KILN_BLOCK_THREADS + threadIdx.x;
        *at = join<fold>(*at, at[half * seat.step]);
      }
    }
  }
#pragma unroll
  for (int i = 0; i < N; ++i) mine[i] = shared[i * KILN_BLOCK_THREADS + threadIdx.x];
}

template <class T, Fold fold, Walk walk> KILN_DEVICE void fold_lines(const KilnFoldParams& p, float* shared) {
  constexpr int kLines = walk == Walk::Columns ? kVector<T> : 1;  // of a thread
  constexpr int kChunk = walk == Walk::Any ? 1 : kVector<T>;      // elements that it takes at a time
  constexpr u32 kAlong = kChunk / kLines;
  const Seat seat = seat_of(p, p.inner == 1, kAlong);
  const float sign = p.function == KILN_FOLD_MIN ? -1.0f : 1.0f;
  const bool is_there = seat.line < p.lines / kLines;
  Held<fold> held[kLines];
  if (is_there) {
    const Quotient at = divide(seat.line, p.columns);
    const T* x = static_cast<const T*>(p.x) + static_cast<size_t>(at.quotient) * p.reduced * p.inner + at.remainder * kLines;
#pragma unroll 4
    for (u32 r = seat.begin + seat.turn * kAlong; r < seat.end; r += p.turns * kAlong) {
      const T* from = x + static_cast<size_t>(r) * p.inner;
      if constexpr (walk == Walk::Any) {
        held[0].add(sign, to_f32(*from));
      } else {
        const auto chunk = load_chunk<kChunk>(from);
#pragma unroll
        for (int i = 0; i < kChunk; ++i) held[i % kLines].add(sign, chunk.v[i]);
      }
    }
  }
  float mine[kLines];
#pragma unroll
  for (int i = 0; i < kLines; ++i) mine[i] = held[i].value();
  join_turns<fold>(p, seat, shared, mine);
  float* y = static_cast<float*>(p.y);
  const bool writes = is_there && seat.turn == 0;
  const size_t first = static_cast<size_t>(seat.line) * kLines;
  if (p.splits > 1) {
    if (writes) {
#pragma unroll
      for (int i = 0; i < kLines; ++i) p.partials[static_cast<size_t>(blockIdx.z) * p.lines + first + i] = mine[i];
    }
    if (!arrives_last(p.tickets + blockIdx.x, p.splits)) return;
#pragma unroll
    for (int i = 0; i < kLines; ++i) mine[i] = nothing<fold>();
    for (u32 split = seat.turn; is_there && split < p.splits; split += p.turns) {
#pragma unroll
      for (int i = 0; i < kLines; ++i) {
        mine[i] = join<fold>(mine[i], __ldcg(p.partials + static_cast<size_t>(split) * p.lines + first + i));
      }
    }
    join_turns<fold>(p, seat, shared, mine);
  }
  if (!writes) return;
#pragma unroll
  for (int i = 0; i < kLines; ++i) y[first + i] = fold == Fold::Sum ? mine[i] : sign * mine[i];
}

template <class T, Walk walk> KILN_DEVICE void fold(const KilnFoldParams& p) {
  KILN_SHARED(float, shared, KILN_BLOCK_THREADS * (walk == Walk::Columns ? kVector<T> : 1));
  if (p.function == KILN_FOLD_SUM) {
    fold_lines<T, Fold::Sum, walk>(p, shared);
  } else {
    fold_lines<T, Fold::Extreme, walk>(p, shared);
  }
}

// The most extreme number so far and where it is. NaN is more extreme than any number, and of equal ones the first counts.
struct Best {
  float value = -infinity();
  u32 place = ~0u;
};

KILN_DEVICE Best better(const Best& a, const Best& b) {
  const bool a_is_nan = a.value != a.value, b_is_nan = b.value != b.value;
  const bool is_tie = (a_is_nan && b_is_nan) || a.value == b.value;
  const bool takes_a = is_tie ? a.place < b.place : a_is_nan || (!b_is_nan && a.value > b.value);
  return takes_a ? a : b;
}

KILN_DEVICE Best better_of_turns(const KilnFoldParams& p, const Seat& seat, float* values, u32* places, const Best& mine) {
  __syncthreads();
  values[threadIdx.x] = mine.value;
  places[threadIdx.x] = mine.place;
  Best best = mine;
  for (u32 half = p.turns / 2; half > 0; half /= 2) {
    __syncthreads();
    if (seat.turn < half) {
      const u32 other = threadIdx.x + half * seat.step;
      best = better(best, Best{values[other], places[other]});
      values[threadIdx.x] = best.value;
      places[threadIdx.x] = best.place;
    }
  }
  return best;
}

template <class T> KILN_DEVICE void place(const KilnFoldParams& p) {
  KILN_SHARED(float, values, KILN_BLOCK_THREADS);
  KILN_SHARED(u32, places, KILN_BLOCK_THREADS);
  const Seat seat = seat_of(p, p.inner == 1, 1);
  const float sign = p.function == KILN_FOLD_MIN ? -1.0f : 1.0f;
  const bool is_there = seat.line < p.lines;
  Best best;
  if (is_there) {
    const Quotient at = divide(seat.line, p.columns);
    const T* x = static_cast<const T*>(p.x) + static_cast<size_t>(at.quotient) * p.reduced * p.inner + at.remainder;
#pragma unroll 4
    for (u32 r = seat.begin + seat.turn; r < seat.end; r += p.turns) {
      best = better(best, Best{sign * to_f32(x[static_cast<size_t>(r) * p.inner]), r});
    }
  }
  best = better_of_turns(p, seat, values, places, best);
  const bool writes = is_there && seat.turn == 0;
  if (p.splits > 1) {
    const size_t at = static_cast<size_t>(blockIdx.z) * p.lines + seat.line;
    if (writes) {
      p.partials[at] = best.value;
      p.places[at] = best.place;
    }
    if (!arrives_last(p.tickets + blockIdx.x, p.splits)) return;
    best = Best{};
    for (u32 split = seat.turn; is_there && split < p.splits; split += p.turns) {
      const size_t from = static_cast<size_t>(split) * p.lines + seat.line;
      best = better(best, Best{__ldcg(p.partials + from), __ldcg(p.places + from)});
    }
    best = better_of_turns(p, seat, values, places, best);
  }
  if (writes) static_cast<u32*>(p.y)[seat.line] = best.place;
}

extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) fold_rows_f32(const __grid_constant__ KilnFoldParams p) {
  fold<float, Walk::Rows>(p);
}
KILN_EXPORT(fold_rows_f32)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) fold_rows_bf16(const __grid_constant__ KilnFoldParams p) {
  fold<Bf16, Walk::Rows>(p);
}
KILN_EXPORT(fold_rows_bf16)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) fold_rows_f16(const __grid_constant__ KilnFoldParams p) {
  fold<F16, Walk::Rows>(p);
}
KILN_EXPORT(fold_rows_f16)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) fold_columns_f32(const __grid_constant__ KilnFoldParams p) {
  fold<float, Walk::Columns>(p);
}
KILN_EXPORT(fold_columns_f32)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) fold_columns_bf16(const __grid_constant__ KilnFoldParams p) {
  fold<Bf16, Walk::Columns>(p);
}
KILN_EXPORT(fold_columns_bf16)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) fold_columns_f16(const __grid_constant__ KilnFoldParams p) {
  fold<F16, Walk::Columns>(p);
}
KILN_EXPORT(fold_columns_f16)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) fold_any_f32(const __grid_constant__ KilnFoldParams p) {
  fold<float, Walk::Any>(p);
}
KILN_EXPORT(fold_any_f32)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) fold_any_bf16(const __grid_constant__ KilnFoldParams p) {
  fold<Bf16, Walk::Any>(p);
}
KILN_EXPORT(fold_any_bf16)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) fold_any_f16(const __grid_constant__ KilnFoldParams p) {
  fold<F16, Walk::Any>(p);
}
KILN_EXPORT(fold_any_f16)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) place_f32(const __grid_constant__ KilnFoldParams p) {
  place<float>(p);
}
KILN_EXPORT(place_f32)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) place_bf16(const __grid_constant__ KilnFoldParams p) {
  place<Bf16>(p);
}
KILN_EXPORT(place_bf16)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) place_f16(const __grid_constant__ KilnFoldParams p) {
  place<F16>(p);
}
KILN_EXPORT(place_f16)
