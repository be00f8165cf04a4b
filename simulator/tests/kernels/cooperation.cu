// SPDX-License-Identifier: MIT OR Apache-2.0
// Blocks that wait for each other: a relay, and the same with one bug each.
#include "test_dialect.h"

constexpr u32 threads = 64;

enum class Bug { None, NoWait, EarlyAdd, OneTooMany };

// x[round][block][thread]: the sum of the round before over all blocks, and the block's number.
template <Bug bug>
static void relay(u32* x, u32* counter, u32 rounds) {
  const u32 blocks = gridDim.x, block = blockIdx.x, thread = threadIdx.x;
  for (u32 round = 0; round < rounds; ++round) {
    u32 sum = block;
    if (round > 0) {
      if (bug != Bug::NoWait && thread == 0) {
        wait_until(counter, round * blocks + (bug == Bug::OneTooMany ? 1 : 0));
      }
      __syncthreads();
      for (u32 other = 0; other < blocks; ++other) sum += x[((round - 1) * blocks + other) * threads + thread];
    }
    if (bug == Bug::EarlyAdd && thread == 0) add_release(counter, 1);
    x[(round * blocks + block) * threads + thread] = sum;
    __syncthreads();
    if (bug != Bug::EarlyAdd && thread == 0) add_release(counter, 1);
  }
}

extern "C" __global__ void sim_relay(u32* x, u32* counter, u32 rounds) { relay<Bug::None>(x, counter, rounds); }
KILN_EXPORT(sim_relay)
extern "C" __global__ void bug_relay_without_wait(u32* x, u32* counter, u32 rounds) {
  relay<Bug::NoWait>(x, counter, rounds);
}
KILN_EXPORT(bug_relay_without_wait)
extern "C" __global__ void bug_relay_early(u32* x, u32* counter, u32 rounds) { relay<Bug::EarlyAdd>(x, counter, rounds); }
KILN_EXPORT(bug_relay_early)
extern "C" __global__ void bug_relay_waits_for_ever(u32* x, u32* counter, u32 rounds) {
  relay<Bug::OneTooMany>(x, counter, rounds);
}
KILN_EXPORT(bug_relay_waits_for_ever)
