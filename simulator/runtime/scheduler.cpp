// SPDX-License-Identifier: MIT OR Apache-2.0
// Runs the threads of a block as fibers. A thread runs until it must wait; then another goes on, or
// a new one starts.
#include "block.h"

#include <sys/mman.h>
#include <algorithm>
#include <cstdio>
#include <cstdlib>

namespace simt {

Block block;
Launch* launch;
Fiber* running;
Thread* current;
uint3 block_index;
dim3 block_size, grid_size;

static Context main_context;
static std::vector<Fiber*> all_fibers, free_fibers;
static void fiber_main();

SimulatedThread* ReadyQueue::pop() {
  if (empty()) return nullptr;
  SimulatedThread* thread;
  if (launch->order == Order::Ascending) {
    thread = threads_[head_++];
  } else {
    if (launch->order == Order::Random) {
      std::swap(threads_[head_ + next_random() % (threads_.size() - head_)], threads_.back());
    }
    thread = threads_.back();
    threads_.pop_back();
  }
  if (empty()) clear();
  return thread;
}

static Fiber* make_fiber() {
  constexpr size_t page = 4096;
  void* memory = mmap(nullptr, stack_bytes + page, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) {
    fail(FailureKind::LaunchFailed, 0,
         "the host has no memory for another simulated thread's stack");
    return nullptr;
  }
  // A guard page costs the host two mappings, of which a process has some 65,000.
  if (all_fibers.size() < 16384) mprotect(memory, page, PROT_NONE);
  auto* fiber = new Fiber;
  fiber->stack = static_cast<char*>(memory) + page;
  // Equal frames of different threads would otherwise all fall into the same cache sets.
  fiber->usable = stack_bytes - (all_fibers.size() % 61) * 320;
  all_fibers.push_back(fiber);
  return fiber;
}
static Fiber* take_fiber() {
  Fiber* fiber = nullptr;
  if (free_fibers.empty()) {
    fiber = make_fiber();
  } else {
    fiber = free_fibers.back();
    free_fibers.pop_back();
  }
  if (fiber) {
    fiber->thread = nullptr;
    prepare_context(fiber->context, fiber->stack, fiber->usable, fiber_main);
  }
  return fiber;
}

static void resume(Fiber* fiber) {
  Fiber* from = running;
  ++launch->switches;
  running = fiber;
  current = fiber->thread;
  switch_context(from ? from->context : main_context, fiber->context);
}
void leave_to_main() {
  Fiber* from = running;
  running = nullptr;
  current = nullptr;
  switch_context(from->context, main_context);
}

void fail_deadlock() {
  char waits[400] = "";
  int used = 0, shown = 0;
  for (const auto& thread : block.threads) {
    if (thread.done || !thread.waits_for || shown == 4) continue;
    used += snprintf(waits + used, sizeof waits - used, "%sthread %u waits at %s (%s:%d)",
                     shown ? "; " : "", thread.linear, thread.waits_for, thread.wait_site.file,
                     thread.wait_site.line);
    used = std::min(used, static_cast<int>(sizeof waits) - 1);
    ++shown;
  }
  fail(FailureKind::LaunchFailed, 0, "deadlock: %u of %u threads have returned; %s",
       block.size - block.alive, block.size, waits);
}

void wait_for_others() {
  SimulatedThread* self = this_thread();
  if (launch->together && launch->order == Order::Random && next_random() % 16 == 0) {
    leave_to_main();  // another block may go on; back here when this thread is taken as ready
    current = self;
    return;
  }
  SimulatedThread* next = block.ready.pop();
  const bool may_start = block.started < block.size;
  if (may_start && (!next || (launch->order == Order::Random && (next_random() & 1)))) {
    if (next) block.ready.push(next);
    resume(take_fiber());
  } else if (!next) {
    if (block.at_counters.empty()) fail_deadlock();
    leave_to_main();
  } else if (next != self) {
    resume(next->fiber);
  }
  current = self;
}

static SimulatedThread* start_next_thread(Fiber* fiber) {
  if (block.started == block.size) return nullptr;
  const unsigned position = block.started++;
  SimulatedThread* thread =
      &block.threads[launch->order == Order::Descending ? block.size - 1 - position : position];
  thread->fiber = fiber;
  fiber->thread = thread;
  current = thread;
  return thread;
}
static void finish_thread(SimulatedThread* thread) {
  if (!thread->copies.empty()) {
    fail(FailureKind::LaunchFailed, 0,
         "the thread returned with cp.async still in flight: wait for every group");
  }
  thread->done = true;
  --block.alive;
  Warp& warp = block.warps[thread->warp];
  warp.alive &= ~(1u << thread->lane);
  for (const Gathering& waiting : warp.gatherings) {
    if (!(waiting.expected >> thread->lane & 1)) continue;
    fail(FailureKind::LaunchFailed, 0,
         "divergent warp: the thread returned while %s (%s:%d) waits for lane %u (mask %08x)",
         waiting.name, waiting.site.file, waiting.site.line, thread->lane, waiting.expected);
  }
  if (!block.at_barrier.empty()) {
    fail(FailureKind::LaunchFailed, 0,
         "divergent barrier: the thread returned while %zu others wait at __syncthreads (%s:%d)",
         block.at_barrier.size(), block.barrier_site.file, block.barrier_site.line);
  }
  thread->fiber->thread = nullptr;
}

// Starts threads on this stack, one after another, for as long as they do not wait; then gives the
// stack up.
static void fiber_main() {
  Fiber* fiber = running;
  for (;;) {
    while (SimulatedThread* thread = start_next_thread(fiber)) {
      launch->kernel->call(launch->arguments);
      finish_thread(thread);
      if (!block.ready.empty()) break;  // threads that waited go on before new ones start
    }
    if (SimulatedThread* next = block.ready.pop()) {
      free_fibers.push_back(fiber);
      resume(next->fiber);
      abort();  // a stack that was given up starts anew at fiber_main
    }
    if (block.started < block.size) continue;
    if (block.alive != 0 && block.at_counters.empty()) fail_deadlock();
    free_fibers.push_back(fiber);
    leave_to_main();
    abort();
  }
}

static void reset_thread(unsigned linear) {
  SimulatedThread& thread = block.threads[linear];
  thread.linear = linear;
  thread.lane = linear % 32;
  thread.warp = linear / 32;
  thread.index = {linear % block_size.x, linear / block_size.x % block_size.y,
                  linear / (block_size.x * block_size.y)};
  thread.done = false;
  thread.waits_for = nullptr;
  thread.copies.clear();
  thread.group_sizes.clear();
  thread.committed = 0;
  block.warps[thread.warp].alive |= 1u << thread.lane;
}

void begin_block() {
  block.size = block.alive = block_size.x * block_size.y * block_size.z;
  block.started = 0;
  block.epoch = 1;
  block.at_barrier.clear();
  block.at_counters.clear();
  block.ready.clear();
  block.threads.resize(block.size);
  block.warps.resize((block.size + 31) / 32);
  for (Warp& warp : block.warps) {
    warp.alive = warp.epoch = 0;
    warp.gatherings.clear();
  }
  for (unsigned linear = 0; linear < block.size; ++linear) reset_thread(linear);
}

void resume_block() {
  running = nullptr;
  if (SimulatedThread* next = block.ready.pop()) {
    resume(next->fiber);
  } else if (Fiber* first = take_fiber()) {
    resume(first);
  }
  running = nullptr;
  current = nullptr;
}

// Nothing of threads in the middle of their kernels needs to be unwound.
void give_back_stacks() {
  if (launch->failure.kind != FailureKind::None) free_fibers = all_fibers;
}

void run_block() {
  begin_block();
  resume_block();
  give_back_stacks();
}

void block_barrier(Site site) {
  SimulatedThread* self = this_thread();
  const auto& others = block.barrier_site;
  if (!block.at_barrier.empty() &&
      (others.line != site.line || std::strcmp(others.file, site.file) != 0)) {
    fail(FailureKind::LaunchFailed, 0,
         "divergent barrier: this thread is at __syncthreads (%s:%d), others at (%s:%d)", site.file,
         site.line, others.file, others.line);
  }
  if (block.alive < block.size) {
    fail(FailureKind::LaunchFailed, 0,
         "divergent barrier: __syncthreads (%s:%d) after %u of %u threads have returned", site.file,
         site.line, block.size - block.alive, block.size);
  }
  block.barrier_site = site;
  if (block.at_barrier.size() + 1 < block.size) {
    block.at_barrier.push_back(self);
    self->waits_for = "__syncthreads";
    self->wait_site = site;
  } else {
    ++block.epoch;
    for (SimulatedThread* other : block.at_barrier) {
      other->waits_for = nullptr;
      block.ready.push(other);
    }
    block.at_barrier.clear();
    if (launch->order != Order::Random) return;
    block.ready.push(self);
  }
  wait_for_others();
}

}  // namespace simt
