// SPDX-License-Identifier: MIT OR Apache-2.0
// Division by a number that the host knows (Granlund & Montgomery, PLDI'94): exact for every 32-bit dividend.
#pragma once
#include "abi.h"
#include "device.cuh"

struct Quotient {
  u32 quotient, remainder;
};

KILN_DEVICE Quotient divide(u32 dividend, const KilnDivider& by) {
  const u64 product = static_cast<u64>(__umulhi(dividend, by.multiplier)) + dividend;
  const u32 quotient = static_cast<u32>(product >> by.shift);
  return Quotient{quotient, dividend - quotient * by.divisor};
}
