// SPDX-License-Identifier: MIT OR Apache-2.0
// Counters in device memory by which the blocks of a cooperative launch wait for each other.
#pragma once
#include "thread.h"

namespace simt {
SIMT_HIDDEN void counter_add(unsigned* counter, unsigned value);
SIMT_HIDDEN void counter_wait(const unsigned* counter, unsigned least, Site site);
}  // namespace simt

// What the thread wrote, or saw written by its block's barrier, is there for whoever waited.
SIMT_RAW void add_release(unsigned* counter, unsigned value) { simt::counter_add(counter, value); }
SIMT_RAW void wait_until(const unsigned* counter, unsigned least,
                         simt::Site site = simt::Site::here()) {
  simt::counter_wait(counter, least, site);
}
