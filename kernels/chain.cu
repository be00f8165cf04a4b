// SPDX-License-Identifier: MIT OR Apache-2.0
// A run of operations on each element. One thread per 16 bytes of the output goes through the links; all threads agree on
// what a link does, so its branches cost a jump each.
#include "abi.h"
#include "lib/divide.cuh"
#include "lib/functions.cuh"
#include "lib/pack.cuh"

// x = f(x, y) for each element. Long functions stand here once: the elements move on in their registers from turn to turn,
// which end where they began. Elements by number would lie in memory.
template <bool is_long, int N, class F> KILN_DEVICE void each(Chunk<N>& x, Chunk<N>& y, F f) {
  if constexpr (is_long) {
#pragma unroll 1
    for (int turn = 0; turn < N; ++turn) {
      const float value = f(x.v[0], y.v[0]), second = y.v[0];
#pragma unroll
      for (int i = 0; i + 1 < N; ++i) {
        x.v[i] = x.v[i + 1];
        y.v[i] = y.v[i + 1];
      }
      x.v[N - 1] = value;
      y.v[N - 1] = second;
    }
  } else {
#pragma unroll
    for (int i = 0; i < N; ++i) x.v[i] = f(x.v[i], y.v[i]);
  }
}
template <bool is_long, int N, class F> KILN_DEVICE void each(Chunk<N>& x, F f) {
  if constexpr (is_long) {
#pragma unroll 1
    for (int turn = 0; turn < N; ++turn) {
      const float value = f(x.v[0]);
#pragma unroll
      for (int i = 0; i + 1 < N; ++i) x.v[i] = x.v[i + 1];
      x.v[N - 1] = value;
    }
  } else {
#pragma unroll
    for (float& value : x.v) value = f(value);
  }
}

template <class T> struct ChainThread {
  static constexpr int kStep = kVector<T>;
  using Values = Chunk<kStep>;
  const KilnChainParams& p;
  u32 first;  // element
  int count;  // elements from it on that exist

  // Where an element of the results comes from.
  __device__ __forceinline__ static size_t offset(const KilnChainOperand& operand, u32 element) {
    size_t from = 0;
    for (u32 axis = 0; axis < operand.axes; ++axis) {
      const Quotient place = divide(element, operand.extents[axis]);
      from += static_cast<size_t>(place.remainder) * operand.strides[axis];
      element = place.quotient;
    }
    return from;
  }

  template <class From> __device__ __forceinline__ Values load_as(const KilnChainOperand& operand) const {
    const From* x = static_cast<const From*>(operand.x);
    Values values;
    switch (operand.access) {
      case KILN_CHAIN_DENSE: return load_chunk_upto<kStep>(x + first, count);
      case KILN_CHAIN_ALIGNED: return load_chunk<kStep>(x + offset(operand, first));
      case KILN_CHAIN_ROW: {
        const From* row = x + offset(operand, first);
#pragma unroll
        for (int i = 0; i < kStep; ++i) values.v[i] = to_f32(row[static_cast<size_t>(i) * operand.strides[0]]);
        return values;
      }
      case KILN_CHAIN_SINGLE: {
        u32 element = first;
#pragma unroll 1
        for (int turn = 0; turn < kStep; ++turn, ++element) {
          const float value = turn < count ? to_f32(x[offset(operand, element)]) : 0.0f;
#pragma unroll
          for (int i = 0; i + 1 < kStep; ++i) values.v[i] = values.v[i + 1];
          values.v[kStep - 1] = value;
        }
        return values;
      }
      default: {
        const float value = to_f32(x[0]);
#pragma unroll
        for (float& v : values.v) v = value;
        return values;
      }
    }
  }

  __device__ __forceinline__ Values load(const KilnChainOperand& operand) const {
    const bool is_wide = sizeof(T) < sizeof(float) && operand.storage == KILN_CHAIN_F32;
    return is_wide ? load_as<float>(operand) : load_as<T>(operand);
  }

  __device__ __forceinline__ void store(const KilnChainResult& result, Values values) const {
    if (sizeof(T) == sizeof(float) || result.storage == KILN_CHAIN_T) {
      return store_chunk_upto<kStep>(static_cast<T*>(result.y) + first, values, count);
    }
    if (result.storage == KILN_CHAIN_ROUNDED) {
#pragma unroll
      for (float& v : values.v) v = to_f32(from_f32<T>(v));
    }
    store_chunk_upto<kStep>(static_cast<float*>(result.y) + first, values, count);
  }
};

// What a link makes of its arguments, in place of the first.
template <int N> KILN_DEVICE void apply(const KilnChainLink& link, Chunk<N>& x, Chunk<N>& y, const Chunk<N>& z) {
  const float first = link.parameters[0];
  switch (link.kind) {
    case KILN_LINK_UNARY:
      return with_any_function(link.function, first, link.parameters[1], [&](auto function) {
        each<kIsLong<decltype(function)>>(x, [&](float a) { return function.f(a); });
      });
    case KILN_LINK_UNARY_GRADIENT:
      return with_any_function(link.function, first, link.parameters[1], [&](auto function) {
        each<kIsLong<decltype(function)>>(x, y, [&](float saved, float dy) { return backward(function, saved, dy); });
      });
    case KILN_LINK_BINARY:
      return with_binary(link.function, [&](auto function) {
        each<kIsLong<decltype(function)>>(x, y, [&](float a, float b) { return function.f(a, b); });
      });
    case KILN_LINK_MASK_NONZERO:
#pragma unroll
      for (int i = 0; i < N; ++i) x.v[i] = x.v[i] != 0.0f ? first * y.v[i] : 0.0f;
      return;
    case KILN_LINK_WHERE:
#pragma unroll
      for (int i = 0; i < N; ++i) x.v[i] = x.v[i] != 0.0f ? y.v[i] : z.v[i];
      return;
    default: return;
  }
}

KILN_DEVICE int arguments_of(const KilnChainLink& link) {
  switch (link.kind) {
    case KILN_LINK_COPY:
    case KILN_LINK_UNARY: return 1;
    case KILN_LINK_WHERE: return 3;
    default: return 2;
  }
}

// Kept values lie in shared memory, where they can be named by number; only their own thread uses them.
template <class T> KILN_DEVICE void chain(const KilnChainParams& p) {
  using Thread = ChainThread<T>;
  using Values = typename Thread::Values;
  KILN_SHARED(float, kept, KILN_CHAIN_KEPT * Thread::kStep * KILN_BLOCK_THREADS);
  const u32 first = (blockIdx.x * KILN_BLOCK_THREADS + threadIdx.x) * Thread::kStep;
  if (first >= p.count) return;
  const Thread thread{p, first, static_cast<int>(min(p.count - first, static_cast<u32>(Thread::kStep)))};
  Values last = {};
  const auto fetch = [&](u32 argument) {
    if (argument >= KILN_CHAIN_FIRST_OPERAND) return thread.load(p.operands[argument - KILN_CHAIN_FIRST_OPERAND]);
    Values values = last;
    if (argument >= KILN_CHAIN_FIRST_KEPT) {
      const u32 place = (argument - KILN_CHAIN_FIRST_KEPT) * Thread::kStep;
#pragma unroll
      for (int i = 0; i < Thread::kStep; ++i) values.v[i] = kept[(place + i) * KILN_BLOCK_THREADS + threadIdx.x];
    }
    return values;
  };
#pragma unroll 1
  for (u32 index = 0; index < p.length; ++index) {
    const KilnChainLink& link = p.links[index];
    const int arguments = arguments_of(link);
    Values x = {}, y = {}, z = {};
#pragma unroll 1
    for (int argument = arguments - 1; argument >= 0; --argument) {
      z = y;
      y = x;
      x = fetch(link.arguments[argument]);
    }
    apply(link, x, y, z);
    last = x;
    if (link.keep != KILN_CHAIN_NOWHERE) {
      const u32 place = link.keep * Thread::kStep;
#pragma unroll
      for (int i = 0; i < Thread::kStep; ++i) kept[(place + i) * KILN_BLOCK_THREADS + threadIdx.x] = last.v[i];
    }
    if (link.store != KILN_CHAIN_NOWHERE) thread.store(p.results[link.store], last);
  }
}

extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS, 4) chain_f32(const __grid_constant__ KilnChainParams p) {
  chain<float>(p);
}
KILN_EXPORT(chain_f32)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS, 4) chain_bf16(const __grid_constant__ KilnChainParams p) {
  chain<Bf16>(p);
}
KILN_EXPORT(chain_bf16)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS, 4) chain_f16(const __grid_constant__ KilnChainParams p) {
  chain<F16>(p);
}
KILN_EXPORT(chain_f16)
