// SPDX-License-Identifier: MIT OR Apache-2.0
#pragma once

namespace simt {

// Turns memory faults of the calling thread's kernels into launch failures from here on.
void watch_faults();

}  // namespace simt
