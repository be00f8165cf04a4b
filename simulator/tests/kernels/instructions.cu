// SPDX-License-Identifier: MIT OR Apache-2.0
// One kernel per group of emulated instructions; tests/instructions.rs computes the same with plain
// loops.
#include "test_dialect.h"

// out: (16, 32) rows of one warp's results; in: (32)
extern "C" __global__ void __launch_bounds__(32) sim_warp(u32* out, const u32* in) {
  const u32 lane = threadIdx.x, x = in[lane];
  out[0 * 32 + lane] = __shfl_sync(all_lanes, x, 5);
  out[1 * 32 + lane] = __shfl_sync(all_lanes, x, lane + 1, 8);
  out[2 * 32 + lane] = __shfl_xor_sync(all_lanes, x, 3);
  out[3 * 32 + lane] = __shfl_down_sync(all_lanes, x, 4);
  out[4 * 32 + lane] = __shfl_up_sync(all_lanes, x, 2, 8);
  out[5 * 32 + lane] = __ballot_sync(all_lanes, x & 1);
  out[6 * 32 + lane] = static_cast<u32>(__any_sync(all_lanes, x == 7)) |
                       static_cast<u32>(__all_sync(all_lanes, x < 100)) << 1;
  out[7 * 32 + lane] = __match_any_sync(all_lanes, x % 3);
  int all = 2;
  out[8 * 32 + lane] = __match_all_sync(all_lanes, 9, &all) + static_cast<u32>(all);
  out[9 * 32 + lane] = __reduce_add_sync(all_lanes, x);
  out[10 * 32 + lane] = __reduce_max_sync(all_lanes, x) << 16 | __reduce_min_sync(all_lanes, x);
  out[11 * 32 + lane] = static_cast<u32>(__reduce_min_sync(all_lanes, static_cast<int>(x) - 50));
  out[12 * 32 + lane] = __reduce_and_sync(all_lanes, x | 64) << 16 |
                        __reduce_or_sync(all_lanes, x) << 8 | __reduce_xor_sync(all_lanes, x);
  const u64 wide = static_cast<u64>(x) << 40 | lane;
  const u64 moved = __shfl_xor_sync(all_lanes, wide, 1);
  out[13 * 32 + lane] = static_cast<u32>(moved >> 32) + static_cast<u32>(moved);
  const u32 low_half = lane < 16 ? 0x0000ffffu : 0xffff0000u;
  out[14 * 32 + lane] = __reduce_add_sync(low_half, x);
  out[15 * 32 + lane] = __float_as_uint(__shfl_xor_sync(all_lanes, static_cast<float>(x), 16));
}
KILN_EXPORT(sim_warp)

// out: (12, n); a, b: (n)
extern "C" __global__ void sim_bits(u32* out, const u32* a, const u32* b, int n) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  const u32 results[12] = {__umulhi(a[i], b[i]),
                           static_cast<u32>(__popc(a[i])),
                           static_cast<u32>(__clz(static_cast<int>(a[i]))),
                           static_cast<u32>(__ffs(static_cast<int>(a[i]))),
                           prmt(a[i], b[i], 0x7531u),
                           prmt(a[i], b[i], b[i] & 0xffffu),
                           __brev(a[i]),
                           __funnelshift_l(a[i], b[i], 5),
                           __funnelshift_r(a[i], b[i], 37),
                           min(a[i], b[i]),
                           max(a[i], b[i]),
                           __float_as_uint(__uint_as_float(a[i] & 0x3fffffffu))};
  for (int k = 0; k < 12; ++k) out[k * n + i] = results[k];
}
KILN_EXPORT(sim_bits)

// out: (6, n); x: (n)
extern "C" __global__ void sim_convert(u32* out, const float* x, int n) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  out[0 * n + i] = bf16_from_f32(x[i]);
  out[1 * n + i] = f16_from_f32(x[i]);
  out[2 * n + i] = tf32_from_f32(x[i]);
  out[3 * n + i] = __float_as_uint(f32_from_bf16(bf16_from_f32(x[i])));
  out[4 * n + i] = __float_as_uint(f32_from_f16(static_cast<u16>(i)));
  out[5 * n + i] = pack_bf16(x[i], -x[i]);
}
KILN_EXPORT(sim_convert)

// One warp multiplies (16 x 16) by (16 x 8): a row-major, b as (k, n) row-major, both staged
// through shared memory, so that ldmatrix brings a plainly and b transposed. d: (16 x 8), added to.
template <void (*Multiply)(float (&)[4], const u32 (&)[4], u32, u32, simt::Site)>
static __device__ void multiply_16bit(float* d, const u16* a, const u16* b) {
  KILN_SHARED(u16, a_tile, 16 * 16);
  KILN_SHARED(u16, b_tile, 16 * 8);
  const int lane = threadIdx.x, g = lane / 4, t = lane % 4;
  for (int i = lane; i < 16 * 16; i += 32) a_tile[i] = a[i];
  for (int i = lane; i < 16 * 8; i += 32) b_tile[i] = b[i];
  __syncthreads();
  u32 a_registers[4], b_registers[2];
  ldmatrix_x4(a_registers, a_tile + (lane % 16) * 16 + lane / 16 * 8);
  ldmatrix_x2_trans(b_registers, b_tile + (lane % 16) * 8);
  float sums[4] = {d[g * 8 + 2 * t], d[g * 8 + 2 * t + 1], d[(g + 8) * 8 + 2 * t],
                   d[(g + 8) * 8 + 2 * t + 1]};
  Multiply(sums, a_registers, b_registers[0], b_registers[1], simt::Site::here());
  for (int e = 0; e < 4; ++e) d[(g + e / 2 * 8) * 8 + 2 * t + e % 2] = sums[e];
}
extern "C" __global__ void sim_mma_bf16(float* d, const u16* a, const u16* b) {
  multiply_16bit<mma_m16n8k16_bf16>(d, a, b);
}
KILN_EXPORT(sim_mma_bf16)
extern "C" __global__ void sim_mma_f16(float* d, const u16* a, const u16* b) {
  multiply_16bit<mma_m16n8k16_f16>(d, a, b);
}
KILN_EXPORT(sim_mma_f16)

// As above for (16 x 8) by (8 x 8) in tf32, straight from device memory.
extern "C" __global__ void sim_mma_tf32(float* d, const u32* a, const u32* b) {
  const int lane = threadIdx.x, g = lane / 4, t = lane % 4;
  const u32 a_registers[4] = {a[g * 8 + t], a[(g + 8) * 8 + t], a[g * 8 + t + 4],
                              a[(g + 8) * 8 + t + 4]};
  float sums[4] = {};
  mma_m16n8k8_tf32(sums, a_registers, b[t * 8 + g], b[(t + 4) * 8 + g]);
  for (int e = 0; e < 4; ++e) d[(g + e / 2 * 8) * 8 + 2 * t + e % 2] = sums[e];
}
KILN_EXPORT(sim_mma_tf32)

// out: (8, 32) registers of x4, x4.trans (4 each); matrices: (4, 8, 8)
extern "C" __global__ void sim_ldmatrix(u32* out, const u16* matrices) {
  KILN_DYNAMIC_SHARED(u16, tile);
  const int lane = threadIdx.x;
  for (int i = lane; i < 4 * 64; i += 32) tile[i] = matrices[i];
  __syncwarp();
  u32 plain[4], transposed[4];
  ldmatrix_x4(plain, tile + lane * 8);
  ldmatrix_x4_trans(transposed, tile + lane * 8);
  for (int j = 0; j < 4; ++j) {
    out[j * 32 + lane] = plain[j];
    out[(j + 4) * 32 + lane] = transposed[j];
  }
}
KILN_EXPORT(sim_ldmatrix)

// Copies n floats through two stages of shared memory, each thread its own 16 bytes, the tail
// filled with zeros. out: (rounded up to 4 per thread); in: (n)
extern "C" __global__ void sim_async_copy(float4* out, const float* in, int n) {
  KILN_SHARED(float4, stage, 2 * 64);
  const int tid = threadIdx.x, chunks = (n + 3) / 4, steps = (chunks + 63) / 64;
  auto fetch = [&](int step) {
    const int chunk = step * 64 + tid, left = (n - chunk * 4) * 4;
    const int bytes = left < 0 ? 0 : left > 16 ? 16 : left;
    cp_async_16(&stage[step % 2 * 64 + tid], bytes ? in + chunk * 4 : in, bytes);
    cp_async_commit();
  };
  fetch(0);
  for (int step = 0; step < steps; ++step) {
    if (step + 1 < steps) {
      fetch(step + 1);
      cp_async_wait<1>();
    } else {
      cp_async_wait<0>();
    }
    __syncthreads();
    const int mirrored = 63 - tid, chunk = step * 64 + mirrored;
    if (chunk < chunks) out[chunk] = stage[step % 2 * 64 + mirrored];
    __syncthreads();
  }
}
KILN_EXPORT(sim_async_copy)

// counters: (4) sum, maximum, last ticket holder, compare-and-swap winners
extern "C" __global__ void sim_atomics(u32* counters) {
  const u32 i = blockIdx.x * blockDim.x + threadIdx.x;
  atomicAdd(&counters[0], i);
  atomicMax(&counters[1], i);
  atomicExch(&counters[2], 77);
  if (atomicCAS(&counters[3], 0u, i + 1) == 0u) atomicAdd(&counters[4], 1);
  KILN_SHARED(u32, tally, 1);
  if (threadIdx.x == 0) tally[0] = 0;
  __syncthreads();
  atomicAdd(tally, 1);
  __syncthreads();
  if (threadIdx.x == 0) atomicAdd(&counters[5], tally[0]);
}
KILN_EXPORT(sim_atomics)

// Reverses 3-dimensional blocks of values through shared memory. x: (blocks, threads of a block)
extern "C" __global__ void sim_reverse(float* x) {
  KILN_DYNAMIC_SHARED(float, kept);
  const int threads = blockDim.x * blockDim.y * blockDim.z;
  const int i = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
  const int block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
  kept[i] = x[block * threads + i];
  __syncthreads();
  x[block * threads + i] = kept[threads - 1 - i];
}
KILN_EXPORT(sim_reverse)

struct SimScaleParams {
  float* y;        // (n), written
  const float* x;  // (n)
  int n;
  float factor;
};
// y = factor * x
extern "C" __global__ void __launch_bounds__(256) sim_scale(const SimScaleParams p) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < p.n) p.y[i] = p.factor * p.x[i];
}
KILN_EXPORT(sim_scale)

// y += a * x
extern "C" __global__ void sim_axpy(float* y, const float* x, float a, int n) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) y[i] += a * x[i];
}
KILN_EXPORT(sim_axpy)

// Uses 40 KiB of static shared memory beside the dynamic one.
extern "C" __global__ void sim_large_shared(float* x) {
  KILN_SHARED(float, kept, 10 * 1024);
  KILN_DYNAMIC_SHARED(float, more);
  kept[threadIdx.x] = x[threadIdx.x];
  more[threadIdx.x] = kept[threadIdx.x];
  x[threadIdx.x] = more[threadIdx.x] + 1;
}
KILN_EXPORT(sim_large_shared)
