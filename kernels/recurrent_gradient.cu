// SPDX-License-Identifier: MIT OR Apache-2.0
// A step back of a recurrent layer: what the step after brings of the hidden state's gradient, and what units make of it.
// Units are in lib/unit_gradients.cuh. Grid: (ceil(samples, KILN_RECURRENT_ROWS), ceil(columns,
// KILN_RECURRENT_COLUMNS), splits), where columns are units, or the state's of KILN_CELL_STATE.
#include "abi_recurrent.h"
#include "lib/unit_gradients.cuh"

template <class Way> KILN_DEVICE void recurrent_gradient(const KilnRecurrentGradientParams& p) {
  using T = typename Way::Element;
  using B = PlainMatrix<T, Along::Outer>;
  KILN_SHARED(float, sums, kStepRows * kStepColumns);
  const u32 columns = p.cell == KILN_CELL_STATE ? p.state : p.units, first = blockIdx.y * kStepColumns;
  const B weights{static_cast<const T*>(p.weight), static_cast<int>(columns), columns % kVector<T> == 0};
  const int column = static_cast<int>(first), end = static_cast<int>(columns);
  const bool goes_on = step_product<Way, Along::Outer>(p, weights, column, end, sums, [&](u32 sample) -> const T* {
    if (p.source == KILN_ROWS_OF_STEP) return row_after<T>(p, p.step, sample);
    const u32 length = length_of(p.step, sample);
    const T* const rows = static_cast<const T*>(p.rows);
    if (p.source == KILN_ROWS_BEHIND) {
      return length == 0 ? nullptr : rows + step_row(p.step, sample, p.step.reversed ? length - 1 : 0) * p.k;
    }
    return p.step.time < length ? rows + static_cast<size_t>(sample) * p.k : nullptr;
  });
  if (!goes_on) return;
  each_unit(p.step, sums, first, columns, kStepColumns,
            [&](u32 sample, u32 unit, const float* own) { unit_back<T>(p, p.step, sample, unit, *own); });
}

extern "C" __global__ void __launch_bounds__(KILN_GEMM_THREADS, 4) recurrent_gradient_f32(const __grid_constant__ KilnRecurrentGradientParams p) {
  recurrent_gradient<StepInFullF32>(p);
}
KILN_EXPORT(recurrent_gradient_f32)
extern "C" __global__ void __launch_bounds__(KILN_GEMM_THREADS, 4) recurrent_gradient_tf32(const __grid_constant__ KilnRecurrentGradientParams p) {
  recurrent_gradient<StepOnTensorCores<float>>(p);
}
KILN_EXPORT(recurrent_gradient_tf32)
extern "C" __global__ void __launch_bounds__(KILN_GEMM_THREADS, 4) recurrent_gradient_bf16(const __grid_constant__ KilnRecurrentGradientParams p) {
  recurrent_gradient<StepOnTensorCores<Bf16>>(p);
}
KILN_EXPORT(recurrent_gradient_bf16)
extern "C" __global__ void __launch_bounds__(KILN_GEMM_THREADS, 4) recurrent_gradient_f16(const __grid_constant__ KilnRecurrentGradientParams p) {
  recurrent_gradient<StepOnTensorCores<F16>>(p);
}
KILN_EXPORT(recurrent_gradient_f16)
