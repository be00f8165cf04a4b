// SPDX-License-Identifier: MIT OR Apache-2.0
// The shared memory of the running block: an arena, poisoned anew for each block, with a shadow in
// checked builds.
#include <algorithm>
#include "memory.h"

namespace simt {

static constexpr size_t static_limit = 48 * 1024;
static constexpr size_t gap =
    64;  // between arrays, so that an overrun of one does not land in the next

enum class ByteState : unsigned char { Uninitialised, Initialised, InFlight };

// Who last wrote and read two bytes, and in which barrier interval of the block and of the warp.
struct Cell {
  unsigned writer = 0, write_epoch = 0, write_warp_epoch = 0;  // threads count from 1; 0 is none
  unsigned reader = 0, read_epoch = 0, read_warp_epoch = 0;
  bool atomic_write = false, many_warps_read = false;
};

struct SharedMemory {
  std::vector<unsigned char> storage;
  char* arena = nullptr;
  std::vector<ByteState> bytes_state;
  std::vector<Cell> cells;
};

static SharedMemory own;  // of the block that runs
static size_t dynamic_bytes, static_base, static_used;  // used: gaps included
static size_t static_asked;
static unsigned launch_number;
struct Array {
  size_t begin, end;
};
static std::vector<Array> arrays;  // of this launch, the dynamic one first

static size_t capacity() { return static_base + 2 * static_limit; }
static size_t arena_bytes() { return static_base + static_used; }
static void poison(size_t begin, size_t end) {
  std::memset(own.arena + begin, 0xff, end - begin);  // NaN in f32, f16 and bf16
  if (!checked) return;
  std::fill(own.bytes_state.begin() + begin, own.bytes_state.begin() + end,
            ByteState::Uninitialised);
  std::fill(own.cells.begin() + begin / 2, own.cells.begin() + (end + 1) / 2, Cell{});
}

static void reserve(SharedMemory& memory) {
  if (memory.storage.size() < capacity() + 256) memory.storage.resize(capacity() + 256);
  const auto begin = reinterpret_cast<uintptr_t>(memory.storage.data());
  memory.arena = reinterpret_cast<char*>((begin + 255) & ~uintptr_t{255});
  if (checked && memory.bytes_state.size() < capacity()) {
    memory.bytes_state.resize(capacity());
    memory.cells.resize(capacity() / 2 + 1);
  }
}
SharedMemory* make_shared() {
  auto* memory = new SharedMemory;
  reserve(*memory);
  return memory;
}
void drop_shared(SharedMemory* memory) { delete memory; }
void exchange_shared(SharedMemory& other) { std::swap(own, other); }

void begin_launch_shared() {
  dynamic_bytes = launch->dynamic_bytes;
  static_base = (dynamic_bytes + gap + 255) & ~size_t{255};
  static_used = static_asked = 0;
  ++launch_number;
  reserve(own);
  arrays.assign(1, Array{0, dynamic_bytes});
}
// Arrays that other blocks of the launch have reached lie there too.
void begin_block_shared() { poison(0, launch->together ? capacity() : arena_bytes()); }
size_t static_shared_bytes() { return static_asked; }

void* dynamic_shared() { return own.arena; }
void* shared_slot(SharedSlot& slot) {
  if (slot.launch != launch_number) {
    const size_t begin = static_base + static_used, end = begin + slot.bytes;
    static_asked += slot.bytes;
    if (static_asked > static_limit || end + 128 + gap > static_base + 2 * static_limit) {
      fail(FailureKind::LaunchFailed, 0,
           "static shared memory passes 48 KiB; larger arrays must be dynamic");
    }
    slot.launch = launch_number;
    slot.offset = static_cast<unsigned>(begin);
    static_used = ((end + 127) & ~size_t{127}) - static_base;
    if (checked) static_used += gap;
    poison(begin, arena_bytes());
    arrays.push_back({begin, end});
  }
  return own.arena + slot.offset;
}
unsigned shared_offset(const void* address) {
  if (!in_shared(address, 1)) {
    fail(FailureKind::IllegalAddress, 0, "smem_u32: %p is not in shared memory", address);
  }
  return static_cast<unsigned>(static_cast<const char*>(address) - own.arena);
}

bool in_shared(const void* address, size_t bytes) {
  const size_t offset = static_cast<size_t>(static_cast<const char*>(address) - own.arena);
  if (offset >= arena_bytes()) return false;
  return std::any_of(arrays.begin(), arrays.end(), [&](const Array& array) {
    return offset >= array.begin && offset + bytes <= array.end;
  });
}

// Ordered: the same thread, a __syncthreads in between, or within one warp a __syncwarp in between.
static bool ordered(const SimulatedThread& thread, unsigned other, unsigned epoch,
                    unsigned warp_epoch) {
  if (other == 0 || other == thread.linear + 1 || epoch != block.epoch) return true;
  return (other - 1) / 32 == thread.warp && warp_epoch != block.warps[thread.warp].epoch;
}
static void check_cell(const Cell& cell, size_t offset, unsigned bytes, Access access,
                       const SimulatedThread& thread, const Origin& origin) {
  const bool both_atomic = access == Access::Atomic && cell.atomic_write;
  if (!both_atomic && !ordered(thread, cell.writer, cell.write_epoch, cell.write_warp_epoch)) {
    fail(FailureKind::LaunchFailed, origin.code_address,
         "shared-memory race%s: %s of %u bytes at offset %zu after a write by thread %u with no "
         "barrier between",
         place(origin), verb(access), bytes, offset, cell.writer - 1);
  }
  if (access == Access::Read) return;
  const bool read_unordered =
      cell.many_warps_read ? cell.read_epoch == block.epoch
                           : !ordered(thread, cell.reader, cell.read_epoch, cell.read_warp_epoch);
  if (read_unordered) {
    fail(FailureKind::LaunchFailed, origin.code_address,
         "shared-memory race%s: %s of %u bytes at offset %zu after a read by thread %u with no "
         "barrier between",
         place(origin), verb(access), bytes, offset, cell.reader - 1);
  }
}
static void update_cell(Cell& cell, Access access, const SimulatedThread& thread) {
  const unsigned self = thread.linear + 1, warp_epoch = block.warps[thread.warp].epoch;
  if (access == Access::Read) {
    const bool read_here_before = cell.reader && cell.read_epoch == block.epoch;
    cell.many_warps_read =
        read_here_before && (cell.many_warps_read || (cell.reader - 1) / 32 != thread.warp);
    cell.reader = self;
    cell.read_epoch = block.epoch;
    cell.read_warp_epoch = warp_epoch;
    return;
  }
  cell.writer = self;
  cell.write_epoch = block.epoch;
  cell.write_warp_epoch = warp_epoch;
  cell.atomic_write = access == Access::Atomic;
}
static void note_cells(size_t offset, unsigned bytes, Access access, const SimulatedThread& thread,
                       const Origin& origin) {
  for (size_t i = offset / 2; i <= (offset + bytes - 1) / 2; ++i) {
    // Two threads may each own one byte of a cell, so single bytes are followed but not reported.
    if (bytes > 1) check_cell(own.cells[i], offset, bytes, access, thread, origin);
    update_cell(own.cells[i], access, thread);
  }
}

void note_shared(const void* address, unsigned bytes, Access access, const SimulatedThread& thread,
                 const Origin& origin) {
  if (!checked) return;
  const size_t offset = static_cast<size_t>(static_cast<const char*>(address) - own.arena);
  for (size_t i = offset; i < offset + bytes; ++i) {
    if (own.bytes_state[i] == ByteState::InFlight) {
      fail(FailureKind::LaunchFailed, origin.code_address,
           "%s of shared memory at offset %zu%s before the wait for the cp.async that fills it",
           verb(access), offset, place(origin));
    }
    if (access != Access::Write && own.bytes_state[i] == ByteState::Uninitialised) {
      fail(FailureKind::LaunchFailed, origin.code_address,
           "%s of %u bytes of uninitialised shared memory at offset %zu%s", verb(access), bytes,
           offset, place(origin));
    }
    own.bytes_state[i] = ByteState::Initialised;
  }
  note_cells(offset, bytes, access, thread, origin);
}

void mark_in_flight(const void* address, unsigned bytes, const SimulatedThread& thread,
                    const Origin& origin) {
  note_shared(address, bytes, Access::Write, thread, origin);
  if (!checked) return;
  const size_t offset = static_cast<size_t>(static_cast<const char*>(address) - own.arena);
  std::fill_n(own.bytes_state.begin() + offset, bytes, ByteState::InFlight);
}
void mark_landed(const void* address, unsigned bytes, const SimulatedThread& thread) {
  if (!checked) return;
  const size_t offset = static_cast<size_t>(static_cast<const char*>(address) - own.arena);
  std::fill_n(own.bytes_state.begin() + offset, bytes, ByteState::Initialised);
  for (size_t i = offset / 2; i <= (offset + bytes - 1) / 2; ++i)
    update_cell(own.cells[i], Access::Write, thread);
}

}  // namespace simt
