// SPDX-License-Identifier: MIT OR Apache-2.0
// State that is not trained, changed by passes in train mode: running statistics and counters of batch norm.
#include "abi.h"
#include "lib/device.cuh"

// state + 1, by one thread.
KILN_DEVICE void count_pass(const KilnStateParams& p) {
  if (blockIdx.x == 0 && threadIdx.x == 0) *static_cast<long long*>(p.state) += 1;
}

// One thread per number. kept * state + taken * statistic; with a count, state + (taken * statistic - state) / count.
KILN_DEVICE void running_average(const KilnStateParams& p) {
  const u32 i = blockIdx.x * KILN_BLOCK_THREADS + threadIdx.x;
  if (i >= p.elements) return;
  float* state = static_cast<float*>(p.state) + i;
  const float statistic = p.statistic[i];
  if (p.count == nullptr) {
    *state = p.kept * *state + p.taken * statistic;
  } else {
    *state += (p.taken * statistic - *state) / static_cast<float>(*p.count);
  }
}

extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) count_pass_i64(const __grid_constant__ KilnStateParams p) {
  count_pass(p);
}
KILN_EXPORT(count_pass_i64)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) running_average_f32(const __grid_constant__ KilnStateParams p) {
  running_average(p);
}
KILN_EXPORT(running_average_f32)
