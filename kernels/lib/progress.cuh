// SPDX-License-Identifier: MIT OR Apache-2.0
// The update under way: what the device keeps of a training, read by every block of an optimiser and advanced by one.
#pragma once
#include "abi.h"
#include "device.cuh"

// Whether an optimiser's moments begin at zero and are corrected for it.
enum class Moments { Plain, Corrected };

// What a block needs to know.
struct Update {
  bool skipped, first;
  float correction1;       // 1 / (1 - momentum^t) for update number t of the parameters
  float correction2_root;  // 1 / sqrt(1 - beta2^t)
};

// base^exponent by the very operations of the host, which are never contracted: squares of squares, multiplied from the
// last bit of the exponent on.
KILN_DEVICE double power(double base, u32 exponent) {
  double product = 1.0;
#pragma unroll 1
  for (; exponent != 0; exponent >>= 1) {
    if (exponent & 1) product = __dmul_rn(product, base);
    base = __dmul_rn(base, base);
  }
  return product;
}

// The first 16 bytes of a KilnProgress: updates, found_inf, loss_scale, growth.
KILN_DEVICE uint4& words(KilnProgress* progress) { return *reinterpret_cast<uint4*>(progress); }
static_assert(sizeof(KilnProgress) == 32, "four words, and what no optimiser reads");

// The last of all blocks to have read the progress moves it on.
KILN_DEVICE void advance(const KilnOptimizerParams& p, const uint4& next) {
  __threadfence();
  if (atomicAdd(p.tickets, 1u) != p.blocks - 1) return;
  *p.tickets = 0;
  __threadfence();
  words(p.progress) = next;
}

// All threads of a block call it, when their first loads are on the way; `late`: updates that were made without the block's
// parameters. Two threads work the corrections out, one each.
template <Moments moments> KILN_DEVICE Update begin_update(const KilnOptimizerParams& p, u32 late) {
  KILN_SHARED(u32, state, 4);
  KILN_SHARED(uint4, next, 1);
  if (threadIdx.x < 2) {
    const bool is_first = threadIdx.x == 0;
    const uint4 now = words(p.progress);
    const u32 update = now.x == 0xffffffffu ? now.x : now.x + 1;
    if (is_first) *next = make_uint4(now.y == 0 ? update : now.x, 0, now.z, now.w);
    const u32 own = update > late ? update - late : 1;
    if (moments == Moments::Corrected) {
      const double weight = 1.0 - power(is_first ? p.scalars->exact_momentum : p.exact_beta2, own);
      state[2 + threadIdx.x] = __float_as_uint(static_cast<float>(1.0 / (is_first ? weight : sqrt(weight))));
    }
    state[threadIdx.x] = is_first ? own : now.y;
  }
  __syncthreads();
  Update now{state[1] != 0, state[0] == 1, 1.0f, 1.0f};
  if (moments == Moments::Corrected) {
    now.correction1 = __uint_as_float(state[2]);
    now.correction2_root = __uint_as_float(state[3]);
  }
  if (threadIdx.x == 0) advance(p, *next);
  return now;
}
