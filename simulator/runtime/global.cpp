// SPDX-License-Identifier: MIT OR Apache-2.0
// Device memory as a kernel sees it: bounds, initialised bytes, and who touched each word last.
#include <algorithm>
#include <cstdio>
#include "memory.h"
#include "together.h"

namespace simt {

const char* verb(Access access) {
  return access == Access::Read ? "read" : access == Access::Write ? "write" : "atomic";
}

const char* place(const Origin& origin) {
  static char text[256];
  text[0] = 0;
  if (origin.site.file) snprintf(text, sizeof text, " (%s:%d)", origin.site.file, origin.site.line);
  return text;
}

// The last region that begins at or before the address.
static Region* region_before(uintptr_t address) {
  Region* after =
      std::upper_bound(launch->regions, launch->regions + launch->region_count, address,
                       [](uintptr_t value, const Region& region) { return value < region.begin; });
  return after == launch->regions ? nullptr : after - 1;
}
static Region* last_found;  // most accesses fall where the one before fell

void begin_launch_global() { last_found = nullptr; }
Region* find_live(uintptr_t address, size_t bytes) {
  if (last_found && address >= last_found->begin && address + bytes <= last_found->end)
    return last_found;
  Region* region = region_before(address);
  if (!region || region->state != RegionState::Live || address + bytes > region->end)
    return nullptr;
  last_found = region;
  return region;
}

void describe_address(uintptr_t address, char* text, size_t size) {
  const Region* region = region_before(address);
  constexpr uintptr_t near = 1 << 20;
  if (!region || address >= region->end + near) {
    snprintf(text, size, "%#zx is not device memory (a host pointer, or never allocated)",
             static_cast<size_t>(address));
    return;
  }
  const size_t length = region->end - region->begin;
  if (region->state == RegionState::Freed && address < region->end) {
    snprintf(text, size, "%#zx lies in a %zu-byte allocation that was freed",
             static_cast<size_t>(address), length);
  } else if (region->state == RegionState::Pending && address < region->end) {
    snprintf(text, size,
             "%#zx lies in a %zu-byte allocation that does not exist yet in stream order",
             static_cast<size_t>(address), length);
  } else if (address >= region->end) {
    snprintf(text, size, "%#zx is %zu bytes past the end of a %zu-byte allocation",
             static_cast<size_t>(address), static_cast<size_t>(address - region->end), length);
  } else {
    snprintf(text, size,
             "%#zx is the start of a range that passes the end of a %zu-byte allocation",
             static_cast<size_t>(address), length);
  }
}
void fail_outside(const char* what, uintptr_t address, size_t bytes, const Origin& origin) {
  char text[256];
  describe_address(address, text, sizeof text);
  fail(FailureKind::IllegalAddress, origin.code_address, "illegal %s of %zu bytes%s: %s", what,
       bytes, place(origin), text);
}

static void note_initialised(Region& region, size_t offset, unsigned bytes, Access access,
                             const Origin& origin) {
  if (!region.initialised) return;
  for (size_t byte = offset; byte < offset + bytes;) {
    const unsigned bit = byte % 64,
                   count = static_cast<unsigned>(std::min<size_t>(64 - bit, offset + bytes - byte));
    const uint64_t mask = (count == 64 ? ~uint64_t{0} : (uint64_t{1} << count) - 1) << bit;
    uint64_t& word = region.initialised[byte / 64];
    if (access != Access::Write && (word & mask) != mask) {
      region.initialised = nullptr;  // one report per allocation and launch
      fail(FailureKind::LaunchFailed, origin.code_address,
           "%s of %u bytes of uninitialised device memory%s, %zu bytes into a %zu-byte allocation",
           verb(access), bytes, place(origin), offset,
           static_cast<size_t>(region.end - region.begin));
      return;
    }
    word |= mask;
    byte += count;
  }
}

static bool happens_before(Epoch epoch) {
  const size_t track = epoch >> 48;
  const uint64_t tick = epoch & ((uint64_t{1} << 48) - 1);
  return epoch == 0 || epoch == launch->epoch ||
         (track < launch->clock_length && tick <= launch->clock[track]);
}
static void report_race(Epoch earlier, bool earlier_wrote, bool later_writes, uintptr_t address,
                        const Origin& origin) {
  for (unsigned i = 0; i < launch->race_count; ++i) {
    if (launch->races[i].earlier == earlier) return;
  }
  if (launch->race_count == max_races) return;
  StreamRace& race = launch->races[launch->race_count++];
  race = {earlier, address, origin.code_address, earlier_wrote, later_writes, ""};
  const uint3 thread = this_thread()->index;
  snprintf(race.thread, sizeof race.thread, "block (%u,%u,%u) thread (%u,%u,%u)%.*s", block_index.x,
           block_index.y, block_index.z, thread.x, thread.y, thread.z, 40, place(origin));
}
static void note_word(WordAccess& word, bool writes, uintptr_t address, const Origin& origin) {
  const Epoch self = launch->epoch;
  if (word.writer != self && !happens_before(word.writer))
    report_race(word.writer, true, writes, address, origin);
  if (!writes) {
    if (word.readers[0] == self || word.readers[1] == self) return;
    // Keep the reader that is not yet ordered before this one, if there is such a one.
    word.readers[happens_before(word.readers[0]) ? 0 : 1] = self;
    return;
  }
  for (Epoch reader : word.readers) {
    if (!happens_before(reader)) report_race(reader, false, true, address, origin);
  }
  word = {self, {0, 0}};
}

void note_global(Region& region, uintptr_t address, unsigned bytes, Access access,
                 const Origin& origin) {
  const size_t offset = address - region.begin;
  note_initialised(region, offset, bytes, access, origin);
  note_between(address, bytes, access, origin);
  if (!region.accesses) return;
  for (size_t word = offset / 4; word <= (offset + bytes - 1) / 4; ++word) {
    note_word(region.accesses[word], access != Access::Read, address, origin);
  }
}

}  // namespace simt
