// SPDX-License-Identifier: MIT OR Apache-2.0
// Who a simulated thread is, and the two ways it can wait for others.
#pragma once
#include "types.h"

namespace simt {

struct Thread {
  uint3 index;      // threadIdx
  unsigned linear;  // x fastest, then y, then z
  unsigned lane;    // linear % 32
};

// Where in a kernel source a wait was written; a default argument, so it names the caller's line.
struct Site {
  const char* file;
  int line;
  static constexpr Site here(const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
    return {file, line};
  }
};

extern SIMT_HIDDEN Thread* current;  // null outside kernels
extern SIMT_HIDDEN uint3 block_index;
extern SIMT_HIDDEN dim3 block_size, grid_size;

// A warp operation is run once, by the last lane of `mask` to arrive, over every lane's arguments.
using WarpOperation = void (*)(void** lane_arguments, unsigned mask);
SIMT_HIDDEN void warp_collective(unsigned mask, void* arguments, WarpOperation operation,
                                 const char* name, Site site);
SIMT_HIDDEN void block_barrier(Site site);

// By value, so that instrumented kernels hold only locals.
SIMT_RAW uint3 thread_index_now() { return current->index; }
SIMT_RAW uint3 block_index_now() { return block_index; }
SIMT_RAW dim3 block_size_now() { return block_size; }
SIMT_RAW dim3 grid_size_now() { return grid_size; }
SIMT_RAW int lane_now() { return static_cast<int>(current->lane); }

}  // namespace simt

#define threadIdx (::simt::thread_index_now())
#define blockIdx (::simt::block_index_now())
#define blockDim (::simt::block_size_now())
#define gridDim (::simt::grid_size_now())
#define warpSize 32

SIMT_RAW void __syncthreads(simt::Site site = simt::Site::here()) { simt::block_barrier(site); }
