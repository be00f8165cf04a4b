// SPDX-License-Identifier: MIT OR Apache-2.0
// Blocks of a cooperative launch. Each has its threads, their stacks and its shared memory; what the
// rest of the runtime takes for the block that runs is exchanged for another's.
#include "together.h"
#include "../simt/atomics.h"
#include "../simt/counters.h"

namespace simt {

struct Resident {
  Block block;
  SharedMemory* shared = nullptr;
  uint3 index{};
  unsigned number = 0;
  bool begun = false;

  bool is_done() const { return begun && block.alive == 0; }
};

static void exchange(Resident& resident) {
  std::swap(block, resident.block);
  exchange_shared(*resident.shared);
}

// Threads whose counters got there can go on.
static void wake(Block& waiting) {
  std::vector<CounterWait> left;
  for (const CounterWait& wait : waiting.at_counters) {
    if (*wait.counter < wait.least) {
      left.push_back(wait);
      continue;
    }
    wait.thread->waits_for = nullptr;
    waiting.ready.push(wait.thread);
  }
  waiting.at_counters.swap(left);
}
static bool can_go_on(Resident& resident) {
  if (resident.is_done()) return false;
  if (!resident.begun) return true;
  wake(resident.block);
  return !resident.block.ready.empty() || resident.block.started < resident.block.size;
}

static void go_on(Resident& resident) {
  exchange(resident);
  block_index = resident.index;
  enter_between(resident.number);
  if (!resident.begun) {
    resident.begun = true;
    begin_block_shared();
    begin_block();
  }
  resume_block();
  exchange(resident);
}

static Resident* choose(std::vector<Resident>& all) {
  std::vector<Resident*> able;
  for (Resident& resident : all) {
    if (!can_go_on(resident)) continue;
    if (launch->order == Order::Ascending) return &resident;
    able.push_back(&resident);
  }
  if (able.empty()) return nullptr;
  return launch->order == Order::Descending ? able.back() : able[next_random() % able.size()];
}

void run_together(unsigned long long blocks) {
  std::vector<Resident> all(blocks);
  for (unsigned number = 0; number < blocks; ++number) {
    all[number].number = number;
    all[number].index = block_at(number);
    all[number].shared = make_shared();
  }
  begin_between(static_cast<unsigned>(blocks));
  while (launch->failure.kind == FailureKind::None) {
    if (Resident* next = choose(all)) {
      go_on(*next);
      continue;
    }
    for (Resident& resident : all) {
      if (resident.is_done()) continue;
      exchange(resident);
      block_index = resident.index;
      fail_deadlock();
      exchange(resident);
      break;
    }
    break;
  }
  for (Resident& resident : all) drop_shared(resident.shared);
  give_back_stacks();
}

void counter_add(unsigned* counter, unsigned value) {
  note_atomic(counter, sizeof *counter);
  release_between(counter);
  *counter += value;
}

void counter_wait(const unsigned* counter, unsigned least, Site site) {
  note_atomic(const_cast<unsigned*>(counter), sizeof *counter);
  if (*counter < least) {
    if (!launch->together) {
      fail(FailureKind::LaunchFailed, 0,
           "wait_until (%s:%d): other blocks may never run beside this one: the launch is not "
           "cooperative",
           site.file, site.line);
    }
    SimulatedThread* self = this_thread();
    self->waits_for = "wait_until";
    self->wait_site = site;
    block.at_counters.push_back({self, counter, least});
    wait_for_others();
  }
  acquire_between(counter);
}

}  // namespace simt
