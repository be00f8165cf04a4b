// SPDX-License-Identifier: MIT OR Apache-2.0
// Loads and stores with cache hints: the hints mean nothing here, the accesses are checked as any
// other.
#pragma once
#include "types.h"

template <class T>
static inline T __ldg(const T* address) {
  return *address;
}
template <class T>
static inline T __ldcs(const T* address) {
  return *address;
}
template <class T>
static inline T __ldcg(const T* address) {
  return *address;
}
template <class T>
static inline void __stcs(T* address, T value) {
  *address = value;
}
template <class T>
static inline void __stcg(T* address, T value) {
  *address = value;
}

// Sixteen bytes at once, as the pointer's type if that has sixteen, else as a uint4.
static inline uint4 load_streaming(const void* address) {
  return *static_cast<const uint4*>(address);
}
template <class T>
static inline auto load_streaming(const T* address) {
  if constexpr (sizeof(T) == 16) {
    return *address;
  } else {
    return *reinterpret_cast<const uint4*>(address);
  }
}
template <class T>
static inline void store_streaming(void* address, const T& value) {
  static_assert(sizeof(T) == 16, "streaming stores move 16 bytes");
  *static_cast<T*>(address) = value;
}
