// SPDX-License-Identifier: MIT OR Apache-2.0
// Philox4x32-10 (Salmon et al., SC'11) and the masks made of it.
//
// keep(seed, site, step, sample, element): the counter is (element / 8, sample, step, site), the key the seed. One call
// yields eight lanes of 16 bits, low half first; an element is kept iff the low 15 bits of its lane are >= drop15.
// These bits are the same on the CPU and on every GPU; a golden test freezes them.
#pragma once
#include "abi.h"
#include "device.cuh"
#include "pack.cuh"

// Elements that share one Philox call.
constexpr int kMaskBlock = 8;

// The round keys come from the launch parameters, hence from constant memory: as operands they cost no instruction.
KILN_DEVICE uint4 philox4x32_10(uint4 counter, const u32 (&round_keys)[2 * KILN_PHILOX_ROUNDS]) {
#pragma unroll
  for (int round = 0; round < KILN_PHILOX_ROUNDS; ++round) {
    const u64 even = static_cast<u64>(0xd2511f53u) * counter.x;
    const u64 odd = static_cast<u64>(0xcd9e8d57u) * counter.z;
    counter = make_uint4(static_cast<u32>(odd >> 32) ^ counter.y ^ round_keys[2 * round], static_cast<u32>(odd),
                         static_cast<u32>(even >> 32) ^ counter.w ^ round_keys[2 * round + 1], static_cast<u32>(even));
  }
  return counter;
}

// The keep decisions of eight consecutive elements: bits 15 and 31 of word i decide elements 2i and 2i + 1.
struct KeepBits {
  u32 words[4];
};

// `block` is the index of the first element within its sample, divided by eight.
KILN_DEVICE KeepBits keep_bits(const KilnMask& mask, u32 threshold, u32 pass, u32 sample, u32 block) {
  const uint4 random = philox4x32_10(make_uint4(block, sample, pass, mask.site), mask.round_keys);
  // lane15 + (2^15 - drop15) reaches bit 15 exactly if lane15 >= drop15, and never carries into the other lane.
  constexpr u32 kLanes = 0x7fff7fffu;
  return KeepBits{{(random.x & kLanes) + threshold, (random.y & kLanes) + threshold,
                   (random.z & kLanes) + threshold, (random.w & kLanes) + threshold}};
}
KILN_DEVICE KeepBits keep_bits(const KilnMask& mask, u32 pass, u32 sample, u32 block) {
  return keep_bits(mask, mask.threshold, pass, sample, block);
}

// Of eight elements from any one on: those of two blocks, moved by as many lanes as the first lies behind its block.
KILN_DEVICE KeepBits keep_bits_from(const KilnMask& mask, u32 threshold, u32 pass, u32 sample, u32 element) {
  const u32 block = element / kMaskBlock, behind = element % kMaskBlock;
  KeepBits keep = keep_bits(mask, threshold, pass, sample, block);
  if (behind == 0) return keep;
  const KeepBits next = keep_bits(mask, threshold, pass, sample, block + 1);
  u32 words[8];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    words[i] = keep.words[i];
    words[4 + i] = next.words[i];
  }
  // By four lanes, two, and one: indices that are known to the compiler keep the words in registers.
#pragma unroll
  for (int i = 0; i < 6; ++i) words[i] = behind & 4 ? words[i + 2] : words[i];
#pragma unroll
  for (int i = 0; i < 5; ++i) words[i] = behind & 2 ? words[i + 1] : words[i];
#pragma unroll
  for (int i = 0; i < 4; ++i) keep.words[i] = behind & 1 ? words[i] >> 16 | words[i + 1] << 16 : words[i];
  return keep;
}

// How much is dropped, and what the rest is multiplied by.
struct Rate {
  u32 threshold;
  float scale;
};
// The same in every run.
KILN_DEVICE Rate constant_rate(const KilnMask& mask) { return Rate{mask.threshold, mask.scale}; }
// That of this run, which lies behind its scalars: `threshold` says how many words from their beginning on.
KILN_DEVICE Rate scheduled_rate(const KilnMask& mask, const KilnScalars* scalars) {
  const u32* words = reinterpret_cast<const u32*>(scalars) + mask.threshold;
  return Rate{words[0], __uint_as_float(words[1])};
}

// What dropout leaves of one element.
KILN_DEVICE float dropped(float x, const KilnMask& mask, const KilnScalars* scalars, u32 sample, u32 element) {
  const KeepBits keep = keep_bits(mask, scalars->pass, scalars->sample_offset + sample, element / kMaskBlock);
  const u32 pair = element / 2 % 4;
  const u32 low = pair % 2 == 0 ? keep.words[0] : keep.words[1], high = pair % 2 == 0 ? keep.words[2] : keep.words[3];
  const u32 word = pair < 2 ? low : high;
  return (word >> (element % 2 * 16 + 15) & 1u) != 0 ? x * mask.scale : 0.0f;
}

// Dropped elements are selected to +0, not multiplied, so that a dropped infinity does not become NaN.
KILN_DEVICE void select_kept(Chunk<8>& chunk, const KeepBits& keep) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const u32 low = prmt(keep.words[i], 0, 0x9999), high = prmt(keep.words[i], 0, 0xbbbb);
    chunk.v[2 * i] = __uint_as_float(__float_as_uint(chunk.v[2 * i]) & low);
    chunk.v[2 * i + 1] = __uint_as_float(__float_as_uint(chunk.v[2 * i + 1]) & high);
  }
}
// The same on eight 16-bit elements: half the instructions, since one word holds two masks.
KILN_DEVICE uint4 select_kept(uint4 bits, const KeepBits& keep) {
  return make_uint4(bits.x & prmt(keep.words[0], 0, 0xbb99), bits.y & prmt(keep.words[1], 0, 0xbb99),
                    bits.z & prmt(keep.words[2], 0, 0xbb99), bits.w & prmt(keep.words[3], 0, 0xbb99));
}

// Stores eight elements, the dropped ones as zero.
KILN_DEVICE void store_kept(float* address, Chunk<8> chunk, const KeepBits& keep) {
  select_kept(chunk, keep);
  store_chunk<8>(address, chunk);
}
template <class T> KILN_DEVICE void store_kept(T* address, const Chunk<8>& chunk, const KeepBits& keep) {
  *reinterpret_cast<uint4*>(address) = select_kept(repack(chunk.v, T{}), keep);
}
