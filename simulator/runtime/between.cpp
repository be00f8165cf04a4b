// SPDX-License-Identifier: MIT OR Apache-2.0
// Races on device memory between blocks of a cooperative launch, followed in checked builds: an
// access is ordered behind another block's if a counter says so, by vector clocks with an entry for
// each block.
#include <algorithm>
#include <unordered_map>
#include "together.h"

namespace simt {

// The last write and the last read of a word, by the number of a block from 1 on and its tick.
struct Touched {
  unsigned writer = 0, written = 0, reader = 0, read = 0;
};
using Clock = std::vector<unsigned>;

static std::unordered_map<uintptr_t, Touched> words;
static std::unordered_map<const unsigned*, Clock> counters;
static std::vector<Clock> clocks;
static unsigned own;

static void join(Clock& clock, const Clock& other) {
  clock.resize(std::max(clock.size(), other.size()));
  for (size_t i = 0; i < other.size(); ++i) clock[i] = std::max(clock[i], other[i]);
}

void begin_between(unsigned blocks) {
  words.clear();
  counters.clear();
  if (!checked) return;
  clocks.assign(blocks, Clock(blocks));
  for (unsigned number = 0; number < blocks; ++number) clocks[number][number] = 1;
}
void enter_between(unsigned number) { own = number; }

static void check_order(unsigned other, unsigned tick, Access access, bool wrote, unsigned bytes,
                        const Origin& origin) {
  if (other == 0 || other == own + 1 || clocks[own][other - 1] >= tick) return;
  const uint3 index = block_at(other - 1);
  fail(FailureKind::LaunchFailed, origin.code_address,
       "device-memory race between blocks%s: %s of %u bytes that block (%u,%u,%u) %s, with no "
       "counter waited for between",
       place(origin), verb(access), bytes, index.x, index.y, index.z, wrote ? "wrote" : "read");
}

void note_between(uintptr_t address, unsigned bytes, Access access, const Origin& origin) {
  if (!checked || !launch->together || access == Access::Atomic) return;
  for (uintptr_t word = address / 4; word <= (address + bytes - 1) / 4; ++word) {
    Touched& touched = words[word];
    check_order(touched.writer, touched.written, access, true, bytes, origin);
    const unsigned tick = clocks[own][own];
    if (access == Access::Read) {
      touched.reader = own + 1;
      touched.read = tick;
      continue;
    }
    check_order(touched.reader, touched.read, access, false, bytes, origin);
    touched = {own + 1, tick, 0, 0};
  }
}

void release_between(const unsigned* counter) {
  if (!checked || !launch->together) return;
  join(counters[counter], clocks[own]);
  ++clocks[own][own];
}
void acquire_between(const unsigned* counter) {
  if (!checked || !launch->together) return;
  join(clocks[own], counters[counter]);
}

}  // namespace simt
