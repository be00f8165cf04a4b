// SPDX-License-Identifier: MIT OR Apache-2.0
// A forward step of a recurrent layer: products of the hidden states before it, what units make of them, and what is kept.
// Units are in lib/units.cuh. Grid: (ceil(samples, KILN_RECURRENT_ROWS), ceil(units, width), splits).
#include "abi_recurrent.h"
#include "lib/units.cuh"

template <class Way> KILN_DEVICE void recurrent(const KilnRecurrentParams& p) {
  using T = typename Way::Element;
  KILN_SHARED(float, sums, kStepRows * kStepColumns);
  const u32 blocks = blocks_of(p.cell), units = p.cell == KILN_CELL_STATE ? p.state : p.units;
  const u32 width = blocks == 1 ? KILN_RECURRENT_COLUMNS : KILN_RECURRENT_UNITS, first = blockIdx.y * width;
  const UnitRows<T> weights{static_cast<const T*>(p.weight), static_cast<int>(first), static_cast<int>(units),
                            static_cast<int>(width), static_cast<int>(blocks), static_cast<int>(p.k), p.k % kVector<T> == 0};
  const bool goes_on = step_product<Way, Along::K>(p, weights, 0, kStepColumns, sums, [&](u32 sample) -> const T* {
    if (p.source != KILN_ROWS_OWN) return row_before<T>(p, p.step, sample);
    const bool takes_part = p.step.time < length_of(p.step, sample);
    return takes_part ? static_cast<const T*>(p.rows) + static_cast<size_t>(sample) * p.k : nullptr;
  });
  if (!goes_on) return;
  each_unit(p.step, sums, first, units, width, [&](u32 sample, u32 unit, const float* own) {
    unit_step<T>(p, p.step, sample, unit, unit_inputs<T>(p, p.step, sample, unit), own, width);
  });
}

extern "C" __global__ void __launch_bounds__(KILN_GEMM_THREADS, 4) recurrent_f32(const __grid_constant__ KilnRecurrentParams p) {
  recurrent<StepInFullF32>(p);
}
KILN_EXPORT(recurrent_f32)
extern "C" __global__ void __launch_bounds__(KILN_GEMM_THREADS, 4) recurrent_tf32(const __grid_constant__ KilnRecurrentParams p) {
  recurrent<StepOnTensorCores<float>>(p);
}
KILN_EXPORT(recurrent_tf32)
extern "C" __global__ void __launch_bounds__(KILN_GEMM_THREADS, 4) recurrent_bf16(const __grid_constant__ KilnRecurrentParams p) {
  recurrent<StepOnTensorCores<Bf16>>(p);
}
KILN_EXPORT(recurrent_bf16)
extern "C" __global__ void __launch_bounds__(KILN_GEMM_THREADS, 4) recurrent_f16(const __grid_constant__ KilnRecurrentParams p) {
  recurrent<StepOnTensorCores<F16>>(p);
}
KILN_EXPORT(recurrent_f16)
