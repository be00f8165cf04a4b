// SPDX-License-Identifier: MIT OR Apache-2.0
// cp.async. The copy may land at once or only at its wait: late in ascending thread order, early in
// descending, either way at random in random order, so that code which reads too early or
// overwrites too soon is wrong in some order.
#include "../simt/async_copy.h"
#include "memory.h"

namespace simt {

static void land(const AsyncCopy& copy) {
  std::memcpy(copy.destination, copy.source, copy.source_bytes);
  std::memset(copy.destination + copy.source_bytes, 0, copy.bytes - copy.source_bytes);
}
static AsyncCopy::Landing choose_landing() {
  if (launch->order == Order::Random)
    return next_random() & 1 ? AsyncCopy::Landing::AtOnce : AsyncCopy::Landing::AtWait;
  return launch->order == Order::Descending ? AsyncCopy::Landing::AtOnce
                                            : AsyncCopy::Landing::AtWait;
}

void async_copy(void* shared, const void* global, int bytes, int source_bytes, Site site) {
  const auto source = reinterpret_cast<uintptr_t>(global);
  if (source_bytes < 0 || source_bytes > bytes) {
    fail(FailureKind::LaunchFailed, 0, "cp.async (%s:%d): %d source bytes in a %d-byte copy",
         site.file, site.line, source_bytes, bytes);
  }
  if ((reinterpret_cast<uintptr_t>(shared) | source) & static_cast<uintptr_t>(bytes - 1)) {
    fail(FailureKind::Misaligned, 0, "cp.async (%s:%d): %p <- %p is not aligned to %d bytes",
         site.file, site.line, shared, global, bytes);
  }
  if (!in_shared(shared, static_cast<size_t>(bytes))) {
    fail(FailureKind::IllegalAddress, 0,
         "cp.async (%s:%d): the destination is not inside a shared array", site.file, site.line);
  }
  if (source_bytes) {
    Region* region = find_live(source, static_cast<size_t>(source_bytes));
    if (!region) {
      fail_outside("cp.async read", source, static_cast<size_t>(source_bytes), site);
    } else if (checked) {
      note_global(*region, source, static_cast<unsigned>(source_bytes), Access::Read, site);
    }
  }
  SimulatedThread& self = *this_thread();
  AsyncCopy copy{static_cast<char*>(shared), static_cast<const char*>(global), bytes, source_bytes,
                 choose_landing()};
  mark_in_flight(shared, static_cast<unsigned>(bytes), self, site);
  if (copy.landing == AsyncCopy::Landing::AtOnce) land(copy);
  self.copies.push_back(copy);
}

void async_commit() {
  SimulatedThread& self = *this_thread();
  self.group_sizes.push_back(static_cast<unsigned>(self.copies.size()) - self.committed);
  self.committed = static_cast<unsigned>(self.copies.size());
}

void async_wait(int groups_left) {
  SimulatedThread& self = *this_thread();
  size_t landing = 0;
  while (self.group_sizes.size() > static_cast<size_t>(groups_left)) {
    landing += self.group_sizes.front();
    self.group_sizes.pop_front();
  }
  for (size_t i = 0; i < landing; ++i) {
    const AsyncCopy& copy = self.copies[i];
    if (copy.landing == AsyncCopy::Landing::AtWait) land(copy);
    mark_landed(copy.destination, static_cast<unsigned>(copy.bytes), self);
  }
  self.copies.erase(self.copies.begin(), self.copies.begin() + static_cast<ptrdiff_t>(landing));
  self.committed -= static_cast<unsigned>(landing);
}

}  // namespace simt
