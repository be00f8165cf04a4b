// SPDX-License-Identifier: MIT OR Apache-2.0
// Loads and stores with cache hints: the hints mean nothing here, the accesses are checked as any other.
#pragma once
#include "types.h"

template <class T> static inline T __ldg(const T* address) { return *address; }
template <class T> static inline T __ldcs(const T* address) { return *address; }
template <class T> static inline T __ldcg(const T* address) { return *address; }
template <class T> static inline void __stcs(T* address, T value) { *address = value; }
template <class T> static inline void __stcg(T* address, T value) { *address = value; }
static inline uint4 load_streaming(const void* address) { return *static_cast<const uint4*>(address); }
static inline void store_streaming(void* address, uint4 value) { *static_cast<uint4*>(address) = value; }
