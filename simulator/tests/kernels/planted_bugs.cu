// SPDX-License-Identifier: MIT OR Apache-2.0
// Kernels with one bug each. tests/planted_bugs.rs demands that the simulator finds it.
#include "test_dialect.h"

extern "C" __global__ void bug_missing_barrier(float* x) {
  KILN_SHARED(float, kept, 64);
  kept[threadIdx.x] = x[threadIdx.x];
  x[threadIdx.x] = kept[63 - threadIdx.x];  // no __syncthreads() above
}
KILN_EXPORT(bug_missing_barrier)

extern "C" __global__ void bug_missing_second_barrier(float* x) {
  KILN_SHARED(float, kept, 64);
  for (int round = 0; round < 2; ++round) {
    kept[threadIdx.x] = x[threadIdx.x];  // overwrites what slower threads still read
    __syncthreads();
    x[threadIdx.x] = kept[63 - threadIdx.x];
  }
}
KILN_EXPORT(bug_missing_second_barrier)

extern "C" __global__ void bug_missing_warp_barrier(float* x) {
  KILN_SHARED(float, kept, 32);
  kept[threadIdx.x] = x[threadIdx.x];
  const float other = __shfl_xor_sync(all_lanes, x[threadIdx.x], 1);  // a shuffle orders no memory
  x[threadIdx.x] = kept[threadIdx.x ^ 1] + other;
}
KILN_EXPORT(bug_missing_warp_barrier)

extern "C" __global__ void bug_divergent_barrier(float* x) {
  if (threadIdx.x < 32) {
    __syncthreads();
    x[threadIdx.x] = 1;
  } else {
    __syncthreads();
    x[threadIdx.x] = 2;
  }
}
KILN_EXPORT(bug_divergent_barrier)

extern "C" __global__ void bug_early_return(float* x, int n) {
  if (static_cast<int>(threadIdx.x) >= n) return;
  __syncthreads();
  x[threadIdx.x] = 1;
}
KILN_EXPORT(bug_early_return)

extern "C" __global__ void bug_divergent_shuffle(float* x) {
  if (threadIdx.x % 2) {
    x[threadIdx.x] = __shfl_xor_sync(all_lanes, x[threadIdx.x], 2);
  } else {
    x[threadIdx.x] = __shfl_xor_sync(all_lanes, x[threadIdx.x], 4);
  }
}
KILN_EXPORT(bug_divergent_shuffle)

extern "C" __global__ void bug_uninitialised_shared(float* x) {
  KILN_SHARED(float, kept, 64);
  if (threadIdx.x < 63) kept[threadIdx.x] = 1;
  __syncthreads();
  x[threadIdx.x] = kept[threadIdx.x];
}
KILN_EXPORT(bug_uninitialised_shared)

extern "C" __global__ void bug_past_shared(float* x) {
  KILN_SHARED(float, kept, 64);
  kept[threadIdx.x + 1] = x[threadIdx.x];
}
KILN_EXPORT(bug_past_shared)

extern "C" __global__ void bug_early_async_read(float* out, const float* in) {
  KILN_SHARED(float, stage, 128);
  cp_async_16(stage + threadIdx.x * 4, in + threadIdx.x * 4, 16);
  cp_async_commit();
  out[threadIdx.x] = stage[threadIdx.x * 4];
  cp_async_wait<0>();
}
KILN_EXPORT(bug_early_async_read)

extern "C" __global__ void bug_async_without_barrier(float* out, const float* in) {
  KILN_SHARED(float, stage, 128);
  cp_async_16(stage + threadIdx.x * 4, in + threadIdx.x * 4, 16);
  cp_async_commit();
  cp_async_wait<0>();
  out[threadIdx.x] = stage[(31 - threadIdx.x) * 4];  // another thread's copy, no barrier
}
KILN_EXPORT(bug_async_without_barrier)

extern "C" __global__ void bug_misaligned(float* out, const float* in) {
  const float4 four = *reinterpret_cast<const float4*>(in + 1);
  out[0] = four.x + four.w;
}
KILN_EXPORT(bug_misaligned)

extern "C" __global__ void bug_async_not_waited(const float* in) {
  KILN_SHARED(float, stage, 128);
  cp_async_16(stage + threadIdx.x * 4, in + threadIdx.x * 4, 16);
  cp_async_commit();
}
KILN_EXPORT(bug_async_not_waited)

extern "C" __global__ void bug_deep_stack(float* out) {
  volatile char large[80 * 1024];
  large[0] = 1;
  out[0] = large[0];
}
KILN_EXPORT(bug_deep_stack)
