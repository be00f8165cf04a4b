// SPDX-License-Identifier: MIT OR Apache-2.0
// The driver's way in: the list of kernels, and one launch.
#include "engine.h"
#include "block.h"
#include "fault.h"
#include "memory.h"
#include "together.h"

namespace simt {

static Kernel* first_kernel;
void register_kernel(Kernel* kernel) {
  kernel->next = first_kernel;
  first_kernel = kernel;
}

static uint64_t random_state = 1;
uint64_t next_random() {
  random_state ^= random_state << 13;
  random_state ^= random_state >> 7;
  random_state ^= random_state << 17;
  return random_state;
}

uint3 block_at(unsigned long long position) {
  const uint64_t row = grid_size.x, plane = row * grid_size.y;
  return {static_cast<unsigned>(position % row), static_cast<unsigned>(position % plane / row),
          static_cast<unsigned>(position / plane)};
}

static void run_block_at(uint64_t position) {
  block_index = block_at(position);
  begin_block_shared();
  run_block();
}

static void run_grid() {
  const uint64_t blocks = static_cast<uint64_t>(grid_size.x) * grid_size.y * grid_size.z;
  if (launch->together) return run_together(blocks);
  const uint64_t start = launch->order == Order::Random ? next_random() % blocks : 0;
  for (uint64_t i = 0; i < blocks && launch->failure.kind == FailureKind::None; ++i) {
    run_block_at(launch->order == Order::Descending ? blocks - 1 - i : (i + start) % blocks);
  }
}

}  // namespace simt

const simt::Kernel* kiln_engine_first_kernel() { return simt::first_kernel; }

void kiln_engine_run(simt::Launch* request) {
  using namespace simt;
  launch = request;
  random_state = request->seed * 2 + 1;
  grid_size = {request->grid[0], request->grid[1], request->grid[2]};
  block_size = {request->block[0], request->block[1], request->block[2]};
  watch_faults();
  begin_launch_shared();
  begin_launch_global();
  run_grid();
  request->static_shared_bytes = static_shared_bytes();
}
