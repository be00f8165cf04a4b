// SPDX-License-Identifier: MIT OR Apache-2.0
// Sums and maxima over a warp, a block and a grid. The order of every sum is fixed: there are no float atomics.
#pragma once
#include "abi.h"
#include "device.cuh"

constexpr u32 kWholeWarp = 0xffffffffu;

// A sum of few terms.
struct ShortSum {
  float value = 0.0f;
  __device__ __forceinline__ void add(float term) { value += term; }
};

// A sum of any number of terms. What an addition rounds away is added to the next term (Kahan 1965): thousands of equal
// terms would all be rounded to the same side.
struct LongSum {
  float value = 0.0f, missing = 0.0f;
  __device__ __forceinline__ void add(float term) {
    const float whole = term + missing, sum = value + whole;
    const float rest = whole - (sum - value);
    missing = sum - sum == 0.0f ? rest : 0.0f;  // of an infinite sum nothing is missing
    value = sum;
  }
};

// Every lane receives the result.
KILN_DEVICE float warp_sum(float value) {
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2) value += __shfl_xor_sync(kWholeWarp, value, offset);
  return value;
}
KILN_DEVICE float warp_max(float value) {
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2) value = fmaxf(value, __shfl_xor_sync(kWholeWarp, value, offset));
  return value;
}

// The sum over a block of Threads threads, for every thread. Barriers on entry and inside.
template <int Threads> KILN_DEVICE float block_sum(float value) {
  constexpr int kWarps = Threads / 32;
  KILN_SHARED(float, warps, kWarps);
  value = warp_sum(value);
  __syncthreads();
  if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = value;
  __syncthreads();
  float sum = 0.0f;
#pragma unroll
  for (int i = 0; i < kWarps; ++i) sum += warps[i];
  return sum;
}

// Called by all threads of a block after they wrote what later blocks may need. True, for all of them, in the last of
// `blocks` blocks to come by: it sees what the others wrote. Leaves the ticket at zero for the next launch. `slot` is one
// word of shared memory that nobody else uses until the block's next barrier.
KILN_DEVICE bool arrives_last(u32* ticket, u32 blocks, u32* slot) {
  __syncthreads();
  if (threadIdx.x == 0) {
    // Behind the barrier, so that it covers what all threads wrote; a fence of their own would cover what each wrote
    // itself, and no atomic of theirs follows.
    __threadfence();
    *slot = atomicAdd(ticket, 1u);
  }
  __syncthreads();
  const bool last = *slot == blocks - 1;
  if (last) {
    if (threadIdx.x == 0) *ticket = 0;
    __threadfence();
  }
  return last;
}
KILN_DEVICE bool arrives_last(u32* ticket, u32 blocks) {
  KILN_SHARED(u32, slot, 1);
  return arrives_last(ticket, blocks, slot);
}
