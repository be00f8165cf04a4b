// SPDX-License-Identifier: MIT OR Apache-2.0
// What a kernel may touch: the block's shared arena and the live device allocations.
#pragma once
#include "block.h"
#include "../simt/shared.h"

namespace simt {

#ifdef KILN_SIMT_CHECKED
constexpr bool checked = true;
#else
constexpr bool checked = false;
#endif

enum class Access { Read, Write, Atomic };
const char* verb(Access access);

// Where an access stands in a kernel: an address in its code, or the source line when the shim
// knows it.
struct Origin {
  uintptr_t code_address = 0;
  Site site{nullptr, 0};
  Origin(uintptr_t address) : code_address(address) {}
  Origin(Site known) : site(known) {}
};
// " (file:line)" when the line is known, else empty.
const char* place(const Origin& origin);

// Shared memory (shared.cpp).
void begin_launch_shared();
void begin_block_shared();
// Shared memory of a block that takes turns with others; `exchange_shared` makes it the running
// block's, and that of the running one its own.
struct SharedMemory;
SharedMemory* make_shared();
void drop_shared(SharedMemory* memory);
void exchange_shared(SharedMemory& other);
bool in_shared(const void* address, size_t bytes);
// Checks a range that lies in shared memory; does nothing in plain builds.
void note_shared(const void* address, unsigned bytes, Access access, const SimulatedThread& thread,
                 const Origin& origin);
void mark_in_flight(const void* address, unsigned bytes, const SimulatedThread& thread,
                    const Origin& origin);
void mark_landed(const void* address, unsigned bytes, const SimulatedThread& thread);
size_t static_shared_bytes();

// Device memory (global.cpp).
void begin_launch_global();
Region* find_live(uintptr_t address, size_t bytes);
void note_global(Region& region, uintptr_t address, unsigned bytes, Access access,
                 const Origin& origin);
// Fails with the best description of why [address, address + bytes) may not be touched.
void fail_outside(const char* what, uintptr_t address, size_t bytes, const Origin& origin);
void describe_address(uintptr_t address, char* text, size_t size);

}  // namespace simt
