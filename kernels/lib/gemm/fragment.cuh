// SPDX-License-Identifier: MIT OR Apache-2.0
// From shared memory to the registers of mma.sync. Fragment layouts: PTX ISA, "Matrix Fragments".
#pragma once
#include "tile.cuh"

KILN_DEVICE void multiply_add(float (&d)[4], const u32 (&a)[4], u32 b0, u32 b1, Bf16) { mma_m16n8k16_bf16(d, a, b0, b1); }
KILN_DEVICE void multiply_add(float (&d)[4], const u32 (&a)[4], u32 b0, u32 b1, F16) { mma_m16n8k16_f16(d, a, b0, b1); }
// tf32: the tensor core ignores the low 13 bits of each f32 operand. Rounding them first would halve the share of
// multiplications in the main loop.
KILN_DEVICE void multiply_add(float (&d)[4], const u32 (&a)[4], u32 b0, u32 b1, float) { mma_m16n8k8_tf32(d, a, b0, b1); }

enum class Side { A, B };

// One register quadruple: for A the 16 x k fragment i, for B the two k x 8 fragments 2i and 2i + 1, at a step of k.
// The lane's addresses are made once; in the main loop only the stage is added, and that as an operand of the load.
template <class T, int Extent, Along along, Side side> class Fragments {
  using Shared = SharedTile<T, Extent, along>;
  static constexpr bool kScalar = along == Along::Outer && sizeof(T) == 4;  // ldmatrix transposes 16-bit elements only

 public:
  // `tile`: this operand's in the first stage. `outer`: first row (of A) or column (of B) of the warp within it.
  __device__ __forceinline__ Fragments(const u8* tile, int outer) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const int low = lane & 7, bit3 = lane >> 3 & 1, bit4 = lane >> 4;
    // Lane 8j + r names row r of matrix j: of A (rows 0, k 0), (rows 8, k 0), (rows 0, k 8), (rows 8, k 8);
    // of B (n 0, k 0), (n 0, k 8), (n 8, k 0), (n 8, k 8).
    const int outer8 = side == Side::A ? bit3 : bit4, k8 = side == Side::A ? bit4 : bit3;
#pragma unroll
    for (int way = 0; way < kWays; ++way) {
      if constexpr (kScalar) {
        // Element (k = lane % 4, outer = lane / 4), or a pair of them; ways: 8 or 16 columns on.
        const int chunk = side == Side::A ? way * 4 + (lane >> 3) : way * 2 + bit4;
        at_[way] = tile + Shared::offset(lane & 3, outer / 4 + chunk) + (side == Side::A ? lane >> 2 & 1 : lane >> 2 & 3) * kLoad;
      } else if constexpr (along == Along::K) {
        at_[way] = tile + Shared::offset(outer + outer8 * 8 + low, way * 2 + k8);
      } else {
        at_[way] = tile + Shared::offset(k8 * 8 + low, outer / 8 + way * 2 + outer8);
      }
    }
  }

  __device__ __forceinline__ void load(u32 (&r)[4], u32 stage, int i, int step) const {
    if constexpr (kScalar && side == Side::A) {
      load_pairs(r, stage, i, step);
    } else if constexpr (kScalar) {
      load_scalars(r, stage, i, step);
    } else if constexpr (along == Along::K) {
      ldmatrix_x4(r, at_[step] + stage + i * 16 * Shared::kRowBytes);
    } else {
      ldmatrix_x4_trans(r, at_[i] + stage + step * 16 * Shared::kRowBytes);
    }
  }

 private:
  // Permuted chunks are no constant distance apart, so each way to reach one has its own address: per step of k where
  // rows run along k, else per 16 columns, or per load of the 32 columns after which the permutation of tf32 repeats.
  static constexpr int kWays = along == Along::K ? kSteps : kScalar && side == Side::A ? 2 : 4;
  static constexpr int kLoad = side == Side::A ? 8 : 4;  // bytes of a load of f32 that runs along m or n

  // With columns 2g and 2g + 1 in the places of g and g + 8 two registers that follow each other are one load:
  // (2g, t), (2g + 1, t), (2g, t + 4), (2g + 1, t + 4).
  __device__ __forceinline__ void load_pairs(u32 (&r)[4], u32 stage, int i, int step) const {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const u8* from = at_[i % 2] + stage + i / 2 * 128 + (step * 8 + half * 4) * Shared::kRowBytes;
      const uint2 pair = *reinterpret_cast<const uint2*>(from);
      r[2 * half] = pair.x;
      r[2 * half + 1] = pair.y;
    }
  }

  // (t, g), (t + 4, g), then the same 8 columns on: registers that follow each other are of two rows.
  __device__ __forceinline__ void load_scalars(u32 (&r)[4], u32 stage, int i, int step) const {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const u8* from = at_[i % 2 * 2 + half] + stage + i / 2 * 128 + step * 8 * Shared::kRowBytes;
      r[2 * half] = *reinterpret_cast<const u32*>(from);
      r[2 * half + 1] = *reinterpret_cast<const u32*>(from + 4 * Shared::kRowBytes);
    }
  }

  const u8* at_[kWays];
};
