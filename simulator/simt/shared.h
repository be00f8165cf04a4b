// SPDX-License-Identifier: MIT OR Apache-2.0
// Shared memory: one arena per block, the dynamic part first, then the static arrays as a launch
// reaches them.
#pragma once
#include "thread.h"

namespace simt {

// A static array's place in the arena. Constant-initialised, so that no guard variable is needed.
struct SharedSlot {
  unsigned bytes;
  unsigned launch = 0;
  unsigned offset = 0;
};
SIMT_HIDDEN void* shared_slot(SharedSlot& slot);
SIMT_HIDDEN void* dynamic_shared();
SIMT_HIDDEN unsigned shared_offset(const void* address);

}  // namespace simt

#define KILN_SHARED(T, name, count)                     \
  static constinit ::simt::SharedSlot simt_slot_##name{ \
      static_cast<unsigned>(sizeof(T) * (count))};      \
  T* const name = static_cast<T*>(::simt::shared_slot(simt_slot_##name))
#define KILN_DYNAMIC_SHARED(T, name) T* const name = static_cast<T*>(::simt::dynamic_shared())

// The 32-bit shared-window address: an offset into the block's arena.
SIMT_RAW unsigned smem_u32(const void* address) { return simt::shared_offset(address); }
