// SPDX-License-Identifier: MIT OR Apache-2.0
// Blocks of a cooperative launch, which are all there at the same time.
#pragma once
#include "memory.h"

namespace simt {

// Runs all blocks of the grid: one at a time goes on, until it waits for others or, in random order,
// at any wait of its threads.
void run_together(unsigned long long blocks);
uint3 block_at(unsigned long long position);

// Which block runs now, and what it knows of the others (between.cpp).
void begin_between(unsigned blocks);
void enter_between(unsigned block);
void note_between(uintptr_t address, unsigned bytes, Access access, const Origin& origin);
void release_between(const unsigned* counter);
void acquire_between(const unsigned* counter);

}  // namespace simt
