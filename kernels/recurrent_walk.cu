// SPDX-License-Identifier: MIT OR Apache-2.0
// All forward steps of a recurrent layer in one launch, as recurrent_T makes them one by one.
// Grid: (ceil(samples, KILN_WALK_ROWS), units / KILN_WALK_UNITS), launched cooperatively.
#include "abi_recurrent.h"
#include "lib/walk_forward.cuh"

extern "C" __global__ void __launch_bounds__(KILN_WALK_THREADS, 2) recurrent_walk_f32(const __grid_constant__ KilnRecurrentParams p) {
  recurrent_walk<StepInFullF32, Group>(p);
}
KILN_EXPORT(recurrent_walk_f32)
extern "C" __global__ void __launch_bounds__(KILN_WALK_THREADS, 2) recurrent_walk_tf32(const __grid_constant__ KilnRecurrentParams p) {
  recurrent_walk<StepOnTensorCores<float>, Group>(p);
}
KILN_EXPORT(recurrent_walk_tf32)
extern "C" __global__ void __launch_bounds__(KILN_WALK_THREADS, 2) recurrent_walk_bf16(const __grid_constant__ KilnRecurrentParams p) {
  recurrent_walk<StepOnTensorCores<Bf16>, Group>(p);
}
KILN_EXPORT(recurrent_walk_bf16)
extern "C" __global__ void __launch_bounds__(KILN_WALK_THREADS, 2) recurrent_walk_f16(const __grid_constant__ KilnRecurrentParams p) {
  recurrent_walk<StepOnTensorCores<F16>, Group>(p);
}
KILN_EXPORT(recurrent_walk_f16)
