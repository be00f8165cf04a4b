// SPDX-License-Identifier: MIT OR Apache-2.0
// The lowest header: short integer names and the instructions that CUDA C++ has no words for.
// On the GPU they are inline PTX; with KILN_SIMT the simulator's simt.h supplies the same names.
// No toolkit header is needed, so NVRTC compiles kernels with this folder's parent alone on the include path.
#pragma once

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

#define KILN_DEVICE static __device__ __forceinline__

#ifdef KILN_SIMT
#include "simt.h"
#else

// Registers a kernel with the simulator; the GPU finds it by its C name.
#define KILN_EXPORT(name)
#define KILN_SHARED(T, name, count) __shared__ __align__(16) T name[count]
#define KILN_DYNAMIC_SHARED(T, name)                            \
  extern __shared__ __align__(128) u8 kiln_dynamic_shared[];    \
  T* const name = reinterpret_cast<T*>(kiln_dynamic_shared)

KILN_DEVICE u32 smem_u32(const void* address) { return static_cast<u32>(__cvta_generic_to_shared(address)); }

// Asynchronous copy from global to shared memory; bytes past `source_bytes` become zero.
KILN_DEVICE void cp_async_16(void* shared, const void* global, int source_bytes) {
  asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" ::"r"(smem_u32(shared)), "l"(global),
               "r"(source_bytes)
               : "memory");
}
KILN_DEVICE void cp_async_16(void* shared, const void* global) {
  asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16;" ::"r"(smem_u32(shared)), "l"(global) : "memory");
}
KILN_DEVICE void cp_async_4(void* shared, const void* global, int source_bytes) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(smem_u32(shared)), "l"(global), "r"(source_bytes)
               : "memory");
}
KILN_DEVICE void cp_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int GroupsLeft> KILN_DEVICE void cp_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(GroupsLeft) : "memory");
}

// 8x8 matrices of 16-bit elements; lane 8j+r names row r of matrix j.
KILN_DEVICE void ldmatrix_x4(u32 (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(smem_u32(row))
               : "memory");
}
KILN_DEVICE void ldmatrix_x4_trans(u32 (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(smem_u32(row))
               : "memory");
}
KILN_DEVICE void ldmatrix_x2(u32 (&r)[2], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0,%1}, [%2];"
               : "=r"(r[0]), "=r"(r[1])
               : "r"(smem_u32(row))
               : "memory");
}
KILN_DEVICE void ldmatrix_x2_trans(u32 (&r)[2], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0,%1}, [%2];"
               : "=r"(r[0]), "=r"(r[1])
               : "r"(smem_u32(row))
               : "memory");
}

// d += a * b on tensor cores; fragment layouts in the PTX ISA, "Matrix Fragments".
KILN_DEVICE void mma_m16n8k16_bf16(float (&d)[4], const u32 (&a)[4], u32 b0, u32 b1) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
KILN_DEVICE void mma_m16n8k16_f16(float (&d)[4], const u32 (&a)[4], u32 b0, u32 b1) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
KILN_DEVICE void mma_m16n8k8_tf32(float (&d)[4], const u32 (&a)[4], u32 b0, u32 b1) {
  asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// Conversions round to nearest even (tf32: nearest, ties away from zero).
KILN_DEVICE u16 bf16_from_f32(float value) {
  u16 bits;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(value));
  return bits;
}
KILN_DEVICE float f32_from_bf16(u16 bits) { return __uint_as_float(static_cast<u32>(bits) << 16); }
KILN_DEVICE u16 f16_from_f32(float value) {
  u16 bits;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
  return bits;
}
KILN_DEVICE float f32_from_f16(u16 bits) {
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
  return value;
}
KILN_DEVICE u32 tf32_from_f32(float value) {
  u32 bits;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(value));
  return bits;
}
KILN_DEVICE u32 pack_bf16(float low, float high) {
  u32 bits;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(bits) : "f"(high), "f"(low));
  return bits;
}
KILN_DEVICE u32 pack_f16(float low, float high) {
  u32 bits;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(bits) : "f"(high), "f"(low));
  return bits;
}

// Each nibble of the selector picks a byte of {b, a}; its bit 3 spreads that byte's sign over the result's byte.
KILN_DEVICE u32 prmt(u32 a, u32 b, u32 selector) {
  u32 bits;
  asm("prmt.b32 %0, %1, %2, %3;" : "=r"(bits) : "r"(a), "r"(b), "r"(selector));
  return bits;
}

// A counter in device memory that blocks of a cooperative launch wait for each other by. What the adding thread wrote or saw
// written by its block's barrier is there for whoever waited, and for its block behind its next barrier.
KILN_DEVICE void add_release(u32* counter, u32 value) {
  asm volatile("red.release.gpu.global.add.u32 [%0], %1;" ::"l"(counter), "r"(value) : "memory");
}
// Waits until the counter is at least this. A wait without an end is an error of the launch, not a device that hangs: after
// so many looks, each of which takes hundreds of nanoseconds, nobody will come.
KILN_DEVICE void wait_until(const u32* counter, u32 least) {
  u32 now = 0;
#pragma unroll 1
  for (u32 looks = 0; looks < 1u << 26; ++looks) {
    asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(now) : "l"(counter) : "memory");
    if (now >= least) return;
  }
  __trap();
}

// 16 bytes that will not be used again soon, so that they leave the caches first.
KILN_DEVICE uint4 load_streaming(const void* address) { return __ldcs(static_cast<const uint4*>(address)); }
KILN_DEVICE void store_streaming(void* address, uint4 value) { __stcs(static_cast<uint4*>(address), value); }

#endif

// What stands behind is not loaded ahead: each load takes a register from there on.
KILN_DEVICE void load_no_earlier() {
#ifndef KILN_SIMT
  asm volatile("" ::: "memory");
#endif
}

// The same number, of which the compiler does not know it: what is made of it is made where it stands, and takes no register
// ahead.
KILN_DEVICE int known_from_here(int number) {
#ifndef KILN_SIMT
  asm volatile("" : "+r"(number));
#endif
  return number;
}

// The larger of two numbers; NaN if either is.
KILN_DEVICE float max_or_nan(float a, float b) {
#ifdef KILN_SIMT
  return a != a || a > b ? a : b;
#else
  float larger;
  asm("max.NaN.f32 %0, %1, %2;" : "=f"(larger) : "f"(a), "f"(b));
  return larger;
#endif
}

KILN_DEVICE float infinity() { return __uint_as_float(0x7f800000u); }
KILN_DEVICE float not_a_number() { return __uint_as_float(0x7fffffffu); }

KILN_DEVICE constexpr int ceil_div(int a, int b) { return (a + b - 1) / b; }
