// SPDX-License-Identifier: MIT OR Apache-2.0
// cp.async: a copy from global to shared memory that may land at any moment up to the wait for its
// group. `source_bytes` below the copy's size leaves the rest zero.
#pragma once
#include "thread.h"

namespace simt {
SIMT_HIDDEN void async_copy(void* shared, const void* global, int bytes, int source_bytes,
                            Site site);
SIMT_HIDDEN void async_commit();
SIMT_HIDDEN void async_wait(int groups_left);
}  // namespace simt

SIMT_RAW void cp_async_16(void* shared, const void* global, int source_bytes = 16,
                          simt::Site site = simt::Site::here()) {
  simt::async_copy(shared, global, 16, source_bytes, site);
}
SIMT_RAW void cp_async_8(void* shared, const void* global, int source_bytes = 8,
                         simt::Site site = simt::Site::here()) {
  simt::async_copy(shared, global, 8, source_bytes, site);
}
SIMT_RAW void cp_async_4(void* shared, const void* global, int source_bytes = 4,
                         simt::Site site = simt::Site::here()) {
  simt::async_copy(shared, global, 4, source_bytes, site);
}
SIMT_RAW void cp_async_commit() { simt::async_commit(); }
template <int GroupsLeft>
SIMT_RAW void cp_async_wait() {
  simt::async_wait(GroupsLeft);
}
