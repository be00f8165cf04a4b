// SPDX-License-Identifier: MIT OR Apache-2.0
// kernels/recurrent_walk*.cu with one bug each in how blocks wait for each other; tests/kernels/walk.rs demands that each is
// found.
#include "lib/walk_back.cuh"
#include "lib/walk_forward.cuh"

// Nobody waits.
struct Heedless : Group {
  using Group::Group;
  void wait_for(u32) const { __syncthreads(); }
};
// A step is told before all threads of the block have written it.
struct Hasty : Group {
  using Group::Group;
  void made_step() const {
    if (threadIdx.x == 0) add_release(counter, 1);
    __syncthreads();
  }
};

extern "C" __global__ void bug_walk_heedless(const KilnRecurrentParams p) { recurrent_walk<StepInFullF32, Heedless>(p); }
KILN_EXPORT(bug_walk_heedless)
extern "C" __global__ void bug_walk_hasty(const KilnRecurrentParams p) { recurrent_walk<StepInFullF32, Hasty>(p); }
KILN_EXPORT(bug_walk_hasty)
extern "C" __global__ void bug_walk_gradient_heedless(const KilnRecurrentGradientParams p) {
  recurrent_walk_gradient<StepInFullF32, Heedless>(p);
}
KILN_EXPORT(bug_walk_gradient_heedless)
extern "C" __global__ void bug_walk_gradient_hasty(const KilnRecurrentGradientParams p) {
  recurrent_walk_gradient<StepInFullF32, Hasty>(p);
}
KILN_EXPORT(bug_walk_gradient_hasty)
