// SPDX-License-Identifier: MIT OR Apache-2.0
// Dropout (Hinton et al. 2012, arXiv:1207.0580), of elements, of weights, or of whole channels or features. Backward is
// the same kernel on dy: the mask is computed again, never stored. One thread per Philox call, hence per eight elements.
#include "abi_images.h"
#include "lib/divide.cuh"
#include "lib/pack.cuh"
#include "lib/philox.cuh"

// The eight elements of one thread. Blocks of eight start anew in each sample.
struct MaskBlock {
  u32 sample, block;
  bool exists;

  __device__ __forceinline__ MaskBlock(u32 samples, const KilnDivider& blocks) {
    const u32 thread = blockIdx.x * KILN_BLOCK_THREADS + threadIdx.x;
    const Quotient place = divide(thread, blocks);
    sample = place.quotient;
    block = place.remainder;
    exists = sample < samples;
  }
};

// `elements` is a multiple of eight: thread t owns elements 8t to 8t + 7 of the whole array.
template <class T> KILN_DEVICE void dropout(const KilnDropoutParams& p, const Rate& rate) {
  const MaskBlock at(p.samples, p.blocks);
  if (!at.exists) return;
  const size_t first = static_cast<size_t>(blockIdx.x * KILN_BLOCK_THREADS + threadIdx.x) * kMaskBlock;
  auto chunk = load_chunk<kMaskBlock>(static_cast<const T*>(p.x) + first);
  const u32 sample = p.scalars->sample_offset * p.offset_factor + at.sample;
  const auto keep = keep_bits(p.mask, rate.threshold, p.scalars->pass, sample, at.block);
#pragma unroll
  for (float& x : chunk.v) x *= rate.scale;
  store_kept(static_cast<T*>(p.y) + first, chunk, keep);
}

// Any number of elements per sample, element by element.
template <class T> KILN_DEVICE void dropout_ragged(const KilnDropoutParams& p, const Rate& rate) {
  const MaskBlock at(p.samples, p.blocks);
  if (!at.exists) return;
  const u32 element = at.block * kMaskBlock;
  const size_t first = static_cast<size_t>(at.sample) * p.elements + element;
  const int count = static_cast<int>(min(p.elements - element, static_cast<u32>(kMaskBlock)));
  auto chunk = load_chunk_part<kMaskBlock>(static_cast<const T*>(p.x) + first, count);
  const u32 sample = p.scalars->sample_offset * p.offset_factor + at.sample;
  const auto keep = keep_bits(p.mask, rate.threshold, p.scalars->pass, sample, at.block);
#pragma unroll
  for (float& x : chunk.v) x *= rate.scale;
  select_kept(chunk, keep);
  store_chunk_part<kMaskBlock>(static_cast<T*>(p.y) + first, chunk, count);
}

// Channels are counted as elements; each (sample, channel) is kept or dropped at all positions alike.
template <class T> KILN_DEVICE void dropout_channels(const KilnChannelDropoutParams& p, const Rate& rate) {
  const u32 thread = blockIdx.x * KILN_BLOCK_THREADS + threadIdx.x;
  const Quotient at = divide(thread, p.blocks);                    // (sample and position, block of channels)
  const Quotient row = divide(at.quotient, p.rows);                // (sample, position)
  if (row.quotient >= p.samples) return;
  const u32 channel = at.remainder * kMaskBlock;
  const size_t first = static_cast<size_t>(at.quotient) * p.channels + channel;
  const int count = static_cast<int>(min(p.channels - channel, static_cast<u32>(kMaskBlock)));
  const bool whole = p.channels % kMaskBlock == 0;
  const T* x = static_cast<const T*>(p.x) + first;
  auto chunk = whole ? load_chunk<kMaskBlock>(x) : load_chunk_part<kMaskBlock>(x, count);
  const u32 sample = p.scalars->sample_offset + row.quotient;
  const auto keep = keep_bits(p.mask, rate.threshold, p.scalars->pass, sample, at.remainder);
#pragma unroll
  for (float& value : chunk.v) value *= rate.scale;
  T* y = static_cast<T*>(p.y) + first;
  if (whole) {
    store_kept(y, chunk, keep);
  } else {
    select_kept(chunk, keep);
    store_chunk_part<kMaskBlock>(y, chunk, count);
  }
}

extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) dropout_f32(const __grid_constant__ KilnDropoutParams p) {
  dropout<float>(p, constant_rate(p.mask));
}
KILN_EXPORT(dropout_f32)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) dropout_bf16(const __grid_constant__ KilnDropoutParams p) {
  dropout<Bf16>(p, constant_rate(p.mask));
}
KILN_EXPORT(dropout_bf16)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) dropout_f16(const __grid_constant__ KilnDropoutParams p) {
  dropout<F16>(p, constant_rate(p.mask));
}
KILN_EXPORT(dropout_f16)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) dropout_ragged_f32(const __grid_constant__ KilnDropoutParams p) {
  dropout_ragged<float>(p, constant_rate(p.mask));
}
KILN_EXPORT(dropout_ragged_f32)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) dropout_ragged_bf16(const __grid_constant__ KilnDropoutParams p) {
  dropout_ragged<Bf16>(p, constant_rate(p.mask));
}
KILN_EXPORT(dropout_ragged_bf16)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) dropout_ragged_f16(const __grid_constant__ KilnDropoutParams p) {
  dropout_ragged<F16>(p, constant_rate(p.mask));
}
KILN_EXPORT(dropout_ragged_f16)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) dropout_channels_f32(const __grid_constant__ KilnChannelDropoutParams p) {
  dropout_channels<float>(p, constant_rate(p.mask));
}
KILN_EXPORT(dropout_channels_f32)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) dropout_channels_bf16(const __grid_constant__ KilnChannelDropoutParams p) {
  dropout_channels<Bf16>(p, constant_rate(p.mask));
}
KILN_EXPORT(dropout_channels_bf16)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) dropout_channels_f16(const __grid_constant__ KilnChannelDropoutParams p) {
  dropout_channels<F16>(p, constant_rate(p.mask));
}
KILN_EXPORT(dropout_channels_f16)

// Rates that are not the same in every run, and as many elements as there are.
template <class T> KILN_DEVICE void scheduled_dropout(const KilnDropoutParams& p) {
  const Rate rate = scheduled_rate(p.mask, p.scalars);
  if (p.elements % kMaskBlock == 0) {
    dropout<T>(p, rate);
  } else {
    dropout_ragged<T>(p, rate);
  }
}
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) scheduled_dropout_f32(const __grid_constant__ KilnDropoutParams p) {
  scheduled_dropout<float>(p);
}
KILN_EXPORT(scheduled_dropout_f32)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) scheduled_dropout_bf16(const __grid_constant__ KilnDropoutParams p) {
  scheduled_dropout<Bf16>(p);
}
KILN_EXPORT(scheduled_dropout_bf16)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) scheduled_dropout_f16(const __grid_constant__ KilnDropoutParams p) {
  scheduled_dropout<F16>(p);
}
KILN_EXPORT(scheduled_dropout_f16)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS)
    scheduled_dropout_channels_f32(const __grid_constant__ KilnChannelDropoutParams p) {
  dropout_channels<float>(p, scheduled_rate(p.mask, p.scalars));
}
KILN_EXPORT(scheduled_dropout_channels_f32)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS)
    scheduled_dropout_channels_bf16(const __grid_constant__ KilnChannelDropoutParams p) {
  dropout_channels<Bf16>(p, scheduled_rate(p.mask, p.scalars));
}
KILN_EXPORT(scheduled_dropout_channels_bf16)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS)
    scheduled_dropout_channels_f16(const __grid_constant__ KilnChannelDropoutParams p) {
  dropout_channels<F16>(p, scheduled_rate(p.mask, p.scalars));
}
KILN_EXPORT(scheduled_dropout_channels_f16)
