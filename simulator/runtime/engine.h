// SPDX-License-Identifier: MIT OR Apache-2.0
// What the driver (src/engine.rs, which repeats these layouts) and this runtime tell each other.
#pragma once
#include "../simt/export.h"

namespace simt {

// One access epoch: a track (a stream, or a lane of a graph) in the high 16 bits and its tick
// below; 0 is "none".
using Epoch = uint64_t;

// Who last touched a 4-byte word of device memory. Two readers are kept, since readers need no
// order among themselves.
struct WordAccess {
  Epoch writer, readers[2];
};

enum class RegionState : unsigned {
  Live,
  Freed,
  Pending
};  // Pending: allocated in stream order, but not yet

struct Region {
  uintptr_t begin, end;
  uint64_t* initialised;  // one bit per byte; null when the memory counts as initialised
  WordAccess* accesses;   // one per 4-byte word; null when races are not followed
  RegionState state;
};

enum class Order : unsigned { Ascending, Descending, Random };

enum class FailureKind : unsigned { None, IllegalAddress, Misaligned, LaunchFailed };

struct Failure {
  FailureKind kind;
  uintptr_t code_address;  // in the kernel, or 0 when `text` already names the line
  char text[768];
};

// Two unordered accesses to the same word of device memory, at least one of them a write.
struct StreamRace {
  Epoch earlier;
  uintptr_t address, code_address;
  unsigned earlier_wrote, later_writes;
  char thread[96];
};
constexpr unsigned max_races = 8;

struct Launch {
  const Kernel* kernel;
  unsigned grid[3], block[3];
  size_t dynamic_bytes;
  void** arguments;
  Order order;
  unsigned together;  // whether all blocks are there at the same time
  uint64_t seed;
  Region* regions;  // sorted by address
  size_t region_count;
  Epoch epoch;            // of this launch
  const uint64_t* clock;  // ticks of other tracks that happen before this launch
  size_t clock_length;
  // Results.
  uint64_t switches, collectives;
  uint64_t static_shared_bytes;
  Failure failure;
  unsigned race_count;
  StreamRace races[max_races];
};

}  // namespace simt

extern "C" {
__attribute__((visibility("default"))) const simt::Kernel* kiln_engine_first_kernel();
__attribute__((visibility("default"))) void kiln_engine_run(simt::Launch* launch);
}
