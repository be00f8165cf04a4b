// SPDX-License-Identifier: MIT OR Apache-2.0
// All forward steps of a recurrent layer.
#pragma once
#include "lib/units.cuh"
#include "lib/walk.cuh"

template <class Way, class Blocks> KILN_DEVICE void recurrent_walk(const KilnRecurrentParams& p) {
  using T = typename Way::Element;
  KILN_DYNAMIC_SHARED(u8, shared);
  const u32 blocks = blocks_of(p.cell), first = blockIdx.y * kWalkUnits;
  const Walk<Way> walk(shared, p.k, static_cast<u32>(p.split.splits), blocks);
  walk.keep_rows([&](u32 column) {
    const u32 row = column / kWalkUnits * p.units + first + column % kWalkUnits;
    return static_cast<const T*>(p.weight) + static_cast<size_t>(row) * p.k;
  });
  const u32 row = threadIdx.x / kWalkUnits, column = threadIdx.x % kWalkUnits;
  const u32 sample = blockIdx.x * kWalkRows + row, unit = first + column;
  const bool has_unit = row < kWalkRows && sample < p.step.samples;
  const Blocks group(p.split.tickets);
  KilnStep step = p.step;
#pragma unroll 1
  for (u32 made = 0; made < step.steps; ++made) {
    step.time = step.reversed ? step.steps - 1 - made : made;
    if (made > 0) group.wait_for(made);
    UnitInputs inputs = {};
    if (has_unit) inputs = unit_inputs<T>(p, step, sample, unit);  // on their way while sums are added up
    walk.multiply(p.weight, step.samples, [&](u32 of) { return row_before<T>(p, step, of); });
    if (has_unit) {
      float sums[4] = {};
#pragma unroll
      for (u32 block = 0; block < 4; ++block) {
        if (block < blocks) sums[block] = walk.sum(block, row, column);
      }
      unit_step<T>(p, step, sample, unit, inputs, sums, 1);
    }
    if (made + 1 < step.steps) group.made_step();
  }
  group.leave();
}
