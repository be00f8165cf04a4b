// SPDX-License-Identifier: MIT OR Apache-2.0
// All steps back of a recurrent layer.
#pragma once
#include "lib/unit_gradients.cuh"
#include "lib/walk.cuh"

template <class Way, class Blocks> KILN_DEVICE void recurrent_walk_gradient(const KilnRecurrentGradientParams& p) {
  using T = typename Way::Element;
  KILN_DYNAMIC_SHARED(u8, shared);
  const u32 first = blockIdx.y * kWalkUnits;
  const Walk<Way> walk(shared, p.k, static_cast<u32>(p.split.splits), 1);
  walk.keep_columns(static_cast<const T*>(p.weight), p.units, first);
  const u32 row = threadIdx.x / kWalkUnits, column = threadIdx.x % kWalkUnits;
  const u32 sample = blockIdx.x * kWalkRows + row;
  const bool has_unit = row < kWalkRows && sample < p.step.samples;
  const Blocks group(p.split.tickets);
  KilnStep step = p.step;
#pragma unroll 1
  for (u32 made = 0; made < step.steps; ++made) {
    step.time = step.reversed ? made : step.steps - 1 - made;
    if (made > 0) group.wait_for(made);
    walk.multiply(p.weight, step.samples, [&](u32 of) { return row_after<T>(p, step, of); });
    if (has_unit) unit_back<T>(p, step, sample, first + column, walk.sum(0, row, column));
    if (made + 1 < step.steps) group.made_step();
  }
  group.leave();
}
