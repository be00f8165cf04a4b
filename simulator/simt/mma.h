// SPDX-License-Identifier: MIT OR Apache-2.0
// ldmatrix and mma.sync. Fragment layouts, with g = lane / 4 and t = lane % 4 (PTX ISA, "Matrix
// Fragments"):
//
//   m16n8k16, 16-bit inputs, two per register, low half first:
//     A (16 x 16)  a0: (g, 2t..)   a1: (g+8, 2t..)   a2: (g, 2t+8..)   a3: (g+8, 2t+8..)
//     B (16 x 8)   b0: (2t.., g)   b1: (2t+8.., g)                       (k, n)
//   m16n8k8, tf32, one per register:
//     A (16 x 8)   a0: (g, t)      a1: (g+8, t)      a2: (g, t+4)      a3: (g+8, t+4)
//     B (8 x 8)    b0: (t, g)      b1: (t+4, g)
//   C and D (16 x 8), f32:  d0: (g, 2t)   d1: (g, 2t+1)   d2: (g+8, 2t)   d3: (g+8, 2t+1)
//
// ldmatrix: lane 8j+r holds the address of row r of 8x8 matrix j; lane l receives in r[j] elements
// (l/4, 2(l%4)) and (l/4, 2(l%4)+1) of matrix j, or with .trans elements (2(l%4), l/4) and
// (2(l%4)+1, l/4).
//
// Products are summed in f32 in the order of k; a GPU sums in groups with a wider accumulator, so
// compare with a tolerance, not for bits.
#pragma once
#include "thread.h"

namespace simt {

enum class Layout { Plain, Transposed };
struct LdmatrixArguments {
  const void* row;
  unsigned* registers;
  int matrices;
  Layout layout;
  Site site;
};
struct MmaArguments {
  float* d;
  const unsigned* a;
  unsigned b0, b1;
};
SIMT_HIDDEN void run_ldmatrix(void**, unsigned);
SIMT_HIDDEN void run_mma_bf16(void**, unsigned);
SIMT_HIDDEN void run_mma_f16(void**, unsigned);
SIMT_HIDDEN void run_mma_tf32(void**, unsigned);

SIMT_RAW void ldmatrix(unsigned* registers, const void* row, int matrices, Layout layout,
                       const char* name, Site site) {
  LdmatrixArguments arguments{row, registers, matrices, layout, site};
  warp_collective(~0u, &arguments, run_ldmatrix, name, site);
}

}  // namespace simt

SIMT_RAW void ldmatrix_x1(unsigned& r, const void* row, simt::Site site = simt::Site::here()) {
  simt::ldmatrix(&r, row, 1, simt::Layout::Plain, "ldmatrix.x1", site);
}
SIMT_RAW void ldmatrix_x1_trans(unsigned& r, const void* row,
                                simt::Site site = simt::Site::here()) {
  simt::ldmatrix(&r, row, 1, simt::Layout::Transposed, "ldmatrix.x1.trans", site);
}
SIMT_RAW void ldmatrix_x2(unsigned (&r)[2], const void* row, simt::Site site = simt::Site::here()) {
  simt::ldmatrix(r, row, 2, simt::Layout::Plain, "ldmatrix.x2", site);
}
SIMT_RAW void ldmatrix_x2_trans(unsigned (&r)[2], const void* row,
                                simt::Site site = simt::Site::here()) {
  simt::ldmatrix(r, row, 2, simt::Layout::Transposed, "ldmatrix.x2.trans", site);
}
SIMT_RAW void ldmatrix_x4(unsigned (&r)[4], const void* row, simt::Site site = simt::Site::here()) {
  simt::ldmatrix(r, row, 4, simt::Layout::Plain, "ldmatrix.x4", site);
}
SIMT_RAW void ldmatrix_x4_trans(unsigned (&r)[4], const void* row,
                                simt::Site site = simt::Site::here()) {
  simt::ldmatrix(r, row, 4, simt::Layout::Transposed, "ldmatrix.x4.trans", site);
}

SIMT_RAW void mma_m16n8k16_bf16(float (&d)[4], const unsigned (&a)[4], unsigned b0, unsigned b1,
                                simt::Site site = simt::Site::here()) {
  simt::MmaArguments arguments{d, a, b0, b1};
  simt::warp_collective(~0u, &arguments, simt::run_mma_bf16, "mma.m16n8k16.bf16", site);
}
SIMT_RAW void mma_m16n8k16_f16(float (&d)[4], const unsigned (&a)[4], unsigned b0, unsigned b1,
                               simt::Site site = simt::Site::here()) {
  simt::MmaArguments arguments{d, a, b0, b1};
  simt::warp_collective(~0u, &arguments, simt::run_mma_f16, "mma.m16n8k16.f16", site);
}
SIMT_RAW void mma_m16n8k8_tf32(float (&d)[4], const unsigned (&a)[4], unsigned b0, unsigned b1,
                               simt::Site site = simt::Site::here()) {
  simt::MmaArguments arguments{d, a, b0, b1};
  simt::warp_collective(~0u, &arguments, simt::run_mma_tf32, "mma.m16n8k8.tf32", site);
}
