// SPDX-License-Identifier: MIT OR Apache-2.0
// Warp shuffles, votes, matches and integer reductions.
#pragma once
#include "bits.h"
#include "thread.h"

namespace simt {

struct ShuffleArguments {
  unsigned long long in, out;
  int source;
};
struct VoteArguments {
  bool predicate;
  unsigned result;
};
struct MatchArguments {
  unsigned long long value;
  unsigned result;
};
enum class Reduction { AddU32, MinU32, MaxU32, MinI32, MaxI32, And, Or, Xor };
struct ReduceArguments {
  unsigned in, out;
  Reduction kind;
};

SIMT_HIDDEN void run_sync(void**, unsigned);
SIMT_HIDDEN void run_shuffle(void**, unsigned);
SIMT_HIDDEN void run_ballot(void**, unsigned);
SIMT_HIDDEN void run_match(void**, unsigned);
SIMT_HIDDEN void run_reduce(void**, unsigned);

template <class T>
SIMT_RAW T shuffle(unsigned mask, T value, int source, const char* name, Site site) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8, "shuffles move 4 or 8 bytes");
  ShuffleArguments arguments{0, 0, source};
  std::memcpy(&arguments.in, &value, sizeof(T));
  warp_collective(mask, &arguments, run_shuffle, name, site);
  std::memcpy(&value, &arguments.out, sizeof(T));
  return value;
}
// A source outside the segment of `width` lanes leaves a lane with its own value.
SIMT_RAW int inside_segment(int lane, int source, int width) {
  return source >= 0 && (source & ~(width - 1)) == (lane & ~(width - 1)) ? source : lane;
}
SIMT_RAW unsigned reduce(unsigned mask, unsigned value, Reduction kind, const char* name,
                         Site site) {
  ReduceArguments arguments{value, 0, kind};
  warp_collective(mask, &arguments, run_reduce, name, site);
  return arguments.out;
}

}  // namespace simt

SIMT_RAW void __syncwarp(unsigned mask = ~0u, simt::Site site = simt::Site::here()) {
  simt::warp_collective(mask, nullptr, simt::run_sync, "__syncwarp", site);
}
template <class T>
SIMT_RAW T __shfl_sync(unsigned mask, T value, int source, int width = 32,
                       simt::Site site = simt::Site::here()) {
  const int lane = simt::lane_now();
  return simt::shuffle(mask, value, (lane & ~(width - 1)) | (source & (width - 1)), "__shfl_sync",
                       site);
}
template <class T>
SIMT_RAW T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32,
                           simt::Site site = simt::Site::here()) {
  const int lane = simt::lane_now();
  return simt::shuffle(mask, value, simt::inside_segment(lane, lane ^ bits, width),
                       "__shfl_xor_sync", site);
}
template <class T>
SIMT_RAW T __shfl_down_sync(unsigned mask, T value, int delta, int width = 32,
                            simt::Site site = simt::Site::here()) {
  const int lane = simt::lane_now();
  return simt::shuffle(mask, value, simt::inside_segment(lane, lane + delta, width),
                       "__shfl_down_sync", site);
}
template <class T>
SIMT_RAW T __shfl_up_sync(unsigned mask, T value, int delta, int width = 32,
                          simt::Site site = simt::Site::here()) {
  const int lane = simt::lane_now();
  return simt::shuffle(mask, value, simt::inside_segment(lane, lane - delta, width),
                       "__shfl_up_sync", site);
}

SIMT_RAW unsigned __ballot_sync(unsigned mask, bool predicate,
                                simt::Site site = simt::Site::here()) {
  simt::VoteArguments arguments{predicate, 0};
  simt::warp_collective(mask, &arguments, simt::run_ballot, "__ballot_sync", site);
  return arguments.result;
}
SIMT_RAW bool __any_sync(unsigned mask, bool predicate, simt::Site site = simt::Site::here()) {
  return __ballot_sync(mask, predicate, site) != 0;
}
SIMT_RAW bool __all_sync(unsigned mask, bool predicate, simt::Site site = simt::Site::here()) {
  return __ballot_sync(mask, !predicate, site) == 0;
}
template <class T>
SIMT_RAW unsigned __match_any_sync(unsigned mask, T value, simt::Site site = simt::Site::here()) {
  simt::MatchArguments arguments{0, 0};
  std::memcpy(&arguments.value, &value, sizeof(T));
  simt::warp_collective(mask, &arguments, simt::run_match, "__match_any_sync", site);
  return arguments.result;
}
template <class T>
SIMT_RAW unsigned __match_all_sync(unsigned mask, T value, int* all,
                                   simt::Site site = simt::Site::here()) {
  const unsigned same = __match_any_sync(mask, value, site);
  const bool every = __all_sync(mask, __popc(same) == __popc(mask), site);
  *all = every;
  return every ? mask : 0;
}

SIMT_RAW unsigned __reduce_add_sync(unsigned mask, unsigned value,
                                    simt::Site site = simt::Site::here()) {
  return simt::reduce(mask, value, simt::Reduction::AddU32, "__reduce_add_sync", site);
}
SIMT_RAW int __reduce_add_sync(unsigned mask, int value, simt::Site site = simt::Site::here()) {
  return static_cast<int>(__reduce_add_sync(mask, static_cast<unsigned>(value), site));
}
SIMT_RAW unsigned __reduce_min_sync(unsigned mask, unsigned value,
                                    simt::Site site = simt::Site::here()) {
  return simt::reduce(mask, value, simt::Reduction::MinU32, "__reduce_min_sync", site);
}
SIMT_RAW unsigned __reduce_max_sync(unsigned mask, unsigned value,
                                    simt::Site site = simt::Site::here()) {
  return simt::reduce(mask, value, simt::Reduction::MaxU32, "__reduce_max_sync", site);
}
SIMT_RAW int __reduce_min_sync(unsigned mask, int value, simt::Site site = simt::Site::here()) {
  return static_cast<int>(simt::reduce(mask, static_cast<unsigned>(value), simt::Reduction::MinI32,
                                       "__reduce_min_sync", site));
}
SIMT_RAW int __reduce_max_sync(unsigned mask, int value, simt::Site site = simt::Site::here()) {
  return static_cast<int>(simt::reduce(mask, static_cast<unsigned>(value), simt::Reduction::MaxI32,
                                       "__reduce_max_sync", site));
}
SIMT_RAW unsigned __reduce_and_sync(unsigned mask, unsigned value,
                                    simt::Site site = simt::Site::here()) {
  return simt::reduce(mask, value, simt::Reduction::And, "__reduce_and_sync", site);
}
SIMT_RAW unsigned __reduce_or_sync(unsigned mask, unsigned value,
                                   simt::Site site = simt::Site::here()) {
  return simt::reduce(mask, value, simt::Reduction::Or, "__reduce_or_sync", site);
}
SIMT_RAW unsigned __reduce_xor_sync(unsigned mask, unsigned value,
                                    simt::Site site = simt::Site::here()) {
  return simt::reduce(mask, value, simt::Reduction::Xor, "__reduce_xor_sync", site);
}
