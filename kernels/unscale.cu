// SPDX-License-Identifier: MIT OR Apache-2.0
// Gradients of a scaled loss, before an update: is each of them finite, what makes them the loss's own, and what becomes of
// the scale, as torch.amp.GradScaler has it (Micikevicius et al. 2018, arXiv:1710.03740).
#include "abi.h"
#include "lib/pack.cuh"
#include "lib/reduce.cuh"

constexpr int kStep = KILN_OPTIMIZER_VECTOR;

KILN_DEVICE bool is_finite(float x) { return x - x == 0.0f; }
KILN_DEVICE bool is_normal(float x) { return is_finite(x) && fabsf(x) >= 1.17549435e-38f; }

// Rates of the update where updates before it were skipped without the host's knowledge.
KILN_DEVICE void choose_rates(const KilnUnscaleParams& p) {
  const u32 more = p.progress->skipped - p.later->skipped;
  if (more == 0 || more > KILN_LATER_RATES) return;
  const KilnRates& rates = p.later->rates[more - 1];
  p.scalars->learning_rate = rates.learning_rate;
  p.scalars->momentum = rates.momentum;
  p.scalars->one_minus_momentum = rates.one_minus_momentum;
  p.scalars->average = rates.average;
  u32* const exact = reinterpret_cast<u32*>(&p.scalars->exact_momentum);
  exact[0] = rates.exact_momentum[0];
  exact[1] = rates.exact_momentum[1];
}

// The scale of the next step, by the very operations of the host.
KILN_DEVICE void move_scale(const KilnUnscaleParams& p, float scale, bool overflow) {
  KilnProgress& progress = *p.progress;
  progress.found_inf = overflow ? 1 : 0;
  if (overflow) ++progress.skipped;
  if (p.growth_interval == 0) return;
  const u32 lasted = progress.growth;
  if (!overflow && lasted + 1 < p.growth_interval) {
    progress.growth = lasted + 1;
    return;
  }
  const float next = scale * (overflow ? p.backoff_factor : p.growth_factor);
  progress.growth = 0;
  progress.loss_scale = is_normal(next) ? next : scale;
}

// Two stages, as in square_sum; gaps between parameters hold zeros.
KILN_DEVICE void unscale(const KilnUnscaleParams& p) {
  const float scale = p.progress->loss_scale, inverse = 1.0f / scale;
  const size_t stride = static_cast<size_t>(gridDim.x) * KILN_BLOCK_THREADS * kStep;
  float squares = 0.0f, broken = 0.0f;
  for (size_t at = static_cast<size_t>(blockIdx.x * KILN_BLOCK_THREADS + threadIdx.x) * kStep; at < p.count; at += stride) {
    const int left = static_cast<int>(min(p.count - at, static_cast<size_t>(kStep)));
    const Chunk<kStep> x = load_chunk_upto<kStep>(p.x + at, left);
#pragma unroll
    for (int i = 0; i < kStep; ++i) {
      const float own = x.v[i] * inverse;
      squares += own * own;
      if (!is_finite(x.v[i])) broken = 1.0f;
    }
  }
  squares = block_sum<KILN_BLOCK_THREADS>(squares);
  broken = block_sum<KILN_BLOCK_THREADS>(broken);
  if (threadIdx.x == 0) {
    float* const own = p.partials + 2 * static_cast<size_t>(p.first_block + blockIdx.x);
    own[0] = squares;
    own[1] = broken;
  }
  if (!arrives_last(p.tickets, p.blocks)) return;

  squares = broken = 0.0f;
  for (u32 block = threadIdx.x; block < p.blocks; block += KILN_BLOCK_THREADS) {
    squares += __ldcg(p.partials + 2 * static_cast<size_t>(block));
    broken += __ldcg(p.partials + 2 * static_cast<size_t>(block) + 1);
  }
  squares = block_sum<KILN_BLOCK_THREADS>(squares);
  broken = block_sum<KILN_BLOCK_THREADS>(broken);
  if (threadIdx.x != 0) return;
  const bool overflow = broken != 0.0f;
  const float norm = sqrtf(squares);
  if (p.norm != nullptr) *p.norm = norm;
  const float clip = p.max_norm == 0.0f ? 1.0f : p.max_norm / (norm + 1e-6f);
  *p.coefficient = overflow ? 0.0f : inverse * (clip > 1.0f ? 1.0f : clip);
  *p.overflow = overflow ? scale : 0.0f;
  choose_rates(p);
  move_scale(p, scale, overflow);
}

extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) unscale_f32(const __grid_constant__ KilnUnscaleParams p) {
  unscale(p);
}
KILN_EXPORT(unscale_f32)
