// SPDX-License-Identifier: MIT OR Apache-2.0
// Warp collectives: lanes gather, the last to arrive computes for all.
#include "../simt/warp.h"
#include "block.h"

namespace simt {

template <class Body>
static void for_each_lane(unsigned mask, Body body) {
  for (; mask; mask &= mask - 1) body(static_cast<unsigned>(__builtin_ctz(mask)));
}

static unsigned lanes_of(const SimulatedThread* thread) {
  const unsigned first = thread->warp * 32, count = block.size - first;
  return count >= 32 ? ~0u : (1u << count) - 1;
}

// The gathering that a lane joins, which it may be the first of.
static Gathering& join(const SimulatedThread* self, Warp& warp, unsigned mask,
                       WarpOperation operation, const char* name, Site site) {
  if (!(mask >> self->lane & 1)) {
    fail(FailureKind::LaunchFailed, 0, "%s (%s:%d): lane %u is not in its own mask %08x", name,
         site.file, site.line, self->lane, mask);
  }
  if (mask & ~warp.alive) {
    fail(FailureKind::LaunchFailed, 0,
         "%s (%s:%d): mask %08x names lanes that have returned (%08x)", name, site.file, site.line,
         mask, mask & ~warp.alive);
  }
  for (Gathering& other : warp.gatherings) {
    if (other.expected != mask)
      continue;  // lanes of a warp that has parted; if they never meet, it is a deadlock
    if (other.operation != operation || other.site.line != site.line) {
      fail(FailureKind::LaunchFailed, 0,
           "divergent warp: %s (%s:%d) with mask %08x against %s (%s:%d) with mask %08x", name,
           site.file, site.line, mask, other.name, other.site.file, other.site.line,
           other.expected);
    }
    return other;
  }
  warp.gatherings.push_back({mask, 0, operation, name, site});
  return warp.gatherings.back();
}

void warp_collective(unsigned mask, void* arguments, WarpOperation operation, const char* name,
                     Site site) {
  SimulatedThread* self = this_thread();
  Warp& warp = this_warp();
  mask &= lanes_of(self);
  Gathering& gathering = join(self, warp, mask, operation, name, site);
  gathering.arrived |= 1u << self->lane;
  warp.arguments[self->lane] = arguments;
  if (gathering.arrived != mask) {
    self->waits_for = name;
    self->wait_site = site;
    wait_for_others();
    return;
  }
  ++launch->collectives;
  operation(warp.arguments, mask);
  gathering = warp.gatherings.back();
  warp.gatherings.pop_back();
  for_each_lane(mask & ~(1u << self->lane), [&](unsigned lane) {
    SimulatedThread& other = block.threads[self->warp * 32 + lane];
    other.waits_for = nullptr;
    block.ready.push(&other);
  });
}

// Only this collective orders shared memory among the lanes; shuffles and votes do not (PTX ISA,
// bar.warp.sync).
void run_sync(void**, unsigned) { ++this_warp().epoch; }

void run_shuffle(void** lanes, unsigned mask) {
  constexpr unsigned long long undefined =
      0x7fc0dead7fc0deadull;  // what a lane outside the mask gives
  for_each_lane(mask, [&](unsigned lane) {
    auto* own = static_cast<ShuffleArguments*>(lanes[lane]);
    own->out = mask >> own->source & 1 ? static_cast<ShuffleArguments*>(lanes[own->source])->in
                                       : undefined;
  });
}

void run_ballot(void** lanes, unsigned mask) {
  unsigned votes = 0;
  for_each_lane(mask, [&](unsigned lane) {
    votes |= static_cast<unsigned>(static_cast<VoteArguments*>(lanes[lane])->predicate) << lane;
  });
  for_each_lane(mask,
                [&](unsigned lane) { static_cast<VoteArguments*>(lanes[lane])->result = votes; });
}

void run_match(void** lanes, unsigned mask) {
  for_each_lane(mask, [&](unsigned lane) {
    auto* own = static_cast<MatchArguments*>(lanes[lane]);
    own->result = 0;
    for_each_lane(mask, [&](unsigned other) {
      if (static_cast<MatchArguments*>(lanes[other])->value == own->value)
        own->result |= 1u << other;
    });
  });
}

static unsigned combine(Reduction kind, unsigned a, unsigned b) {
  const auto signed_a = static_cast<int>(a), signed_b = static_cast<int>(b);
  switch (kind) {
    case Reduction::AddU32:
      return a + b;
    case Reduction::MinU32:
      return a < b ? a : b;
    case Reduction::MaxU32:
      return a < b ? b : a;
    case Reduction::MinI32:
      return signed_a < signed_b ? a : b;
    case Reduction::MaxI32:
      return signed_a < signed_b ? b : a;
    case Reduction::And:
      return a & b;
    case Reduction::Or:
      return a | b;
    case Reduction::Xor:
      return a ^ b;
  }
  return 0;
}
void run_reduce(void** lanes, unsigned mask) {
  const auto* first = static_cast<ReduceArguments*>(lanes[__builtin_ctz(mask)]);
  unsigned total = first->in;
  const Reduction kind = first->kind;
  for_each_lane(mask & (mask - 1), [&](unsigned lane) {
    total = combine(kind, total, static_cast<ReduceArguments*>(lanes[lane])->in);
  });
  for_each_lane(mask,
                [&](unsigned lane) { static_cast<ReduceArguments*>(lanes[lane])->out = total; });
}

}  // namespace simt
