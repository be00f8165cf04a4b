// SPDX-License-Identifier: MIT OR Apache-2.0
// Integer atomics. Simulated threads never run at the same instant, so a plain read-modify-write is
// atomic. Float atomics are absent on purpose: their sum depends on the order, and kiln's results
// do not.
#pragma once
#include "thread.h"

namespace simt {

SIMT_HIDDEN void note_atomic(void* address, unsigned bytes);

template <class T>
struct SameType {
  using Type = T;
};
template <class T, class Change>
SIMT_RAW T atomic_change(T* address, Change change) {
  static_assert(std::is_integral_v<T>, "integer atomics only");
  note_atomic(address, sizeof(T));
  const T old = *address;
  *address = change(old);
  return old;
}

}  // namespace simt

template <class T>
SIMT_RAW T atomicAdd(T* address, typename simt::SameType<T>::Type value) {
  return simt::atomic_change(address, [=](T old) __attribute__((no_sanitize("thread"))) {
    return static_cast<T>(old + value);
  });
}
template <class T>
SIMT_RAW T atomicSub(T* address, typename simt::SameType<T>::Type value) {
  return simt::atomic_change(address, [=](T old) __attribute__((no_sanitize("thread"))) {
    return static_cast<T>(old - value);
  });
}
template <class T>
SIMT_RAW T atomicMax(T* address, typename simt::SameType<T>::Type value) {
  return simt::atomic_change(address, [=](T old) __attribute__((no_sanitize("thread"))) {
    return old < value ? value : old;
  });
}
template <class T>
SIMT_RAW T atomicMin(T* address, typename simt::SameType<T>::Type value) {
  return simt::atomic_change(address, [=](T old) __attribute__((no_sanitize("thread"))) {
    return value < old ? value : old;
  });
}
template <class T>
SIMT_RAW T atomicOr(T* address, typename simt::SameType<T>::Type value) {
  return simt::atomic_change(address, [=](T old) __attribute__((no_sanitize("thread"))) {
    return static_cast<T>(old | value);
  });
}
template <class T>
SIMT_RAW T atomicAnd(T* address, typename simt::SameType<T>::Type value) {
  return simt::atomic_change(address, [=](T old) __attribute__((no_sanitize("thread"))) {
    return static_cast<T>(old & value);
  });
}
template <class T>
SIMT_RAW T atomicExch(T* address, typename simt::SameType<T>::Type value) {
  return simt::atomic_change(address,
                             [=](T) __attribute__((no_sanitize("thread"))) { return value; });
}
template <class T>
SIMT_RAW T atomicCAS(T* address, typename simt::SameType<T>::Type expected,
                     typename simt::SameType<T>::Type value) {
  return simt::atomic_change(address, [=](T old) __attribute__((no_sanitize("thread"))) {
    return old == expected ? value : old;
  });
}

SIMT_RAW void __threadfence() {}
SIMT_RAW void __threadfence_block() {}
