// SPDX-License-Identifier: MIT OR Apache-2.0
// The state of the launch and the block that are running. One block runs at a time in the process;
// those of a cooperative launch take turns (together.cpp).
#pragma once
#include <deque>
#include <vector>
#include "context.h"
#include "engine.h"
#include "../simt/thread.h"

namespace simt {

constexpr size_t stack_bytes = 64 * 1024;

struct SimulatedThread;

// A stack and the simulated thread that is on it; short threads follow one another on the same
// stack.
struct Fiber {
  Context context;
  char* stack = nullptr;  // lowest usable byte; a guard page lies below
  size_t usable = 0;
  SimulatedThread* thread = nullptr;
};

struct AsyncCopy {
  char* destination;
  const char* source;
  int bytes, source_bytes;
  enum class Landing { AtOnce, AtWait } landing;
};

struct SimulatedThread : Thread {
  Fiber* fiber = nullptr;
  unsigned warp = 0;
  const char* waits_for = nullptr;
  Site wait_site{};
  bool done = false;
  std::vector<AsyncCopy> copies;     // committed groups first, then the open one
  std::deque<unsigned> group_sizes;  // copies per committed group
  unsigned committed = 0;            // copies that belong to committed groups
};

// Lanes on their way to one collective.
struct Gathering {
  unsigned expected, arrived;
  WarpOperation operation;
  const char* name;
  Site site;
};

struct Warp {
  unsigned alive = 0;
  unsigned epoch = 0;                 // __syncwarps so far
  std::vector<Gathering> gatherings;  // one unless the warp has parted
  void* arguments[32];
};

// Threads that can go on, taken in the launch's order.
class ReadyQueue {
 public:
  void clear() { threads_.clear(), head_ = 0; }
  bool empty() const { return head_ == threads_.size(); }
  void push(SimulatedThread* thread) { threads_.push_back(thread); }
  SimulatedThread* pop();

 private:
  std::vector<SimulatedThread*> threads_;
  size_t head_ = 0;
};

// A thread that waits until a counter in device memory is large enough.
struct CounterWait {
  SimulatedThread* thread;
  const unsigned* counter;
  unsigned least;
};

struct Block {
  std::vector<SimulatedThread> threads;
  std::vector<Warp> warps;
  std::vector<SimulatedThread*> at_barrier;
  std::vector<CounterWait> at_counters;
  Site barrier_site{};
  ReadyQueue ready;
  unsigned size = 0, started = 0, alive = 0;
  unsigned epoch = 1;  // __syncthreads so far, from 1
};

extern Block block;
extern Launch* launch;
extern Fiber* running;  // null outside kernels

uint64_t next_random();

inline SimulatedThread* this_thread() { return static_cast<SimulatedThread*>(current); }
inline Warp& this_warp() { return block.warps[this_thread()->warp]; }
inline bool on_stack(const Fiber* fiber, uintptr_t address) {
  return address - reinterpret_cast<uintptr_t>(fiber->stack) < stack_bytes;
}

// The current thread cannot go on; returns when it can.
void wait_for_others();
void run_block();
// The two halves of run_block, for blocks that take turns: resume_block returns when the block is
// done, waits for other blocks, or lets them go on.
void begin_block();
void resume_block();
// Takes back the stacks of threads that a failure left in the middle of their kernels.
void give_back_stacks();
void fail_deadlock();

// Ends the launch with an error. Called on a fiber it does not return; the first failure is the one
// reported.
void fail(FailureKind kind, uintptr_t code_address, const char* format, ...)
    __attribute__((format(printf, 3, 4)));
void leave_to_main();

}  // namespace simt
