// SPDX-License-Identifier: MIT OR Apache-2.0
// All steps back of a recurrent layer in one launch, as recurrent_gradient_T makes them one by one.
// Grid: (ceil(samples, KILN_WALK_ROWS), units / KILN_WALK_UNITS), launched cooperatively.
#include "abi_recurrent.h"
#include "lib/walk_back.cuh"

extern "C" __global__ void __launch_bounds__(KILN_WALK_THREADS, 2) recurrent_walk_gradient_f32(const __grid_constant__ KilnRecurrentGradientParams p) {
  recurrent_walk_gradient<StepInFullF32, Group>(p);
}
KILN_EXPORT(recurrent_walk_gradient_f32)
extern "C" __global__ void __launch_bounds__(KILN_WALK_THREADS, 2) recurrent_walk_gradient_tf32(const __grid_constant__ KilnRecurrentGradientParams p) {
  recurrent_walk_gradient<StepOnTensorCores<float>, Group>(p);
}
KILN_EXPORT(recurrent_walk_gradient_tf32)
extern "C" __global__ void __launch_bounds__(KILN_WALK_THREADS, 2) recurrent_walk_gradient_bf16(const __grid_constant__ KilnRecurrentGradientParams p) {
  recurrent_walk_gradient<StepOnTensorCores<Bf16>, Group>(p);
}
KILN_EXPORT(recurrent_walk_gradient_bf16)
extern "C" __global__ void __launch_bounds__(KILN_WALK_THREADS, 2) recurrent_walk_gradient_f16(const __grid_constant__ KilnRecurrentGradientParams p) {
  recurrent_walk_gradient<StepOnTensorCores<F16>, Group>(p);
}
KILN_EXPORT(recurrent_walk_gradient_f16)
