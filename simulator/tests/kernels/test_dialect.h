// SPDX-License-Identifier: MIT OR Apache-2.0
// What kernels/lib/device.cuh gives to real kernels, for the simulator's own.
#pragma once
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef int i32;
#include "simt.h"
constexpr u32 all_lanes = 0xffffffffu;
