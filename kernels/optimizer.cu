// SPDX-License-Identifier: MIT OR Apache-2.0
// Optimisers over flat arrays of parameters, with PyTorch's rules, moving averages, and the norm that clipping needs.
//   SGD (torch.optim.SGD); Adam (Kingma & Ba 2014, arXiv:1412.6980); AdamW (Loshchilov & Hutter 2017, arXiv:1711.05101)
// One thread per four parameters. Learning rate, momentum and the number of the update come from device memory.
#include "abi.h"
#include "lib/divide.cuh"
#include "lib/pack.cuh"
#include "lib/progress.cuh"
#include "lib/reduce.cuh"

constexpr int kStep = KILN_OPTIMIZER_VECTOR;
using Values = Chunk<kStep>;

// Learning rate, momentum, one less the momentum: 16 bytes, as the host asserts.
KILN_DEVICE Chunk<4> load_rates(const KilnOptimizerParams& p) { return load_chunk<4>(&p.scalars->learning_rate); }

KILN_DEVICE size_t first_of_thread(u32 block) {
  return static_cast<size_t>(block * KILN_BLOCK_THREADS + threadIdx.x) * kStep;
}

// What a thread works on: elements of a stretch, if any are left for it.
struct Own {
  const KilnStretch& stretch;
  size_t first;   // in values, gradients, averages and shadow
  size_t moment;  // in moments
  bool any;
};

KILN_DEVICE Own own_elements(const KilnOptimizerParams& p) {
  u32 index = 0;
  while (index + 1 < p.stretch_count && blockIdx.x >= p.stretches[index + 1].first_block) ++index;
  const KilnStretch& stretch = p.stretches[index];
  const size_t first = first_of_thread(blockIdx.x - stretch.first_block);
  return {stretch, stretch.start + first, stretch.moments + first, first < stretch.count};
}

KILN_DEVICE Values load_gradients(const KilnOptimizerParams& p, size_t first) {
  Values gradients = load_chunk<kStep, float, Reuse::Late>(p.gradients + first);
  if (p.coefficient != nullptr) {
    const float coefficient = *p.coefficient;
#pragma unroll
    for (float& gradient : gradients.v) gradient *= coefficient;
  }
  return gradients;
}

// average + weight * (value - average), as torch.lerp has it.
KILN_DEVICE void move_averages(const KilnOptimizerParams& p, size_t first, const Values& values) {
  Values averages = load_chunk<kStep, float, Reuse::Late>(p.averages + first);
  const float weight = p.scalars->average;
#pragma unroll
  for (int i = 0; i < kStep; ++i) {
    const float way = values.v[i] - averages.v[i];
    const float moved = weight < 0.5f ? averages.v[i] + weight * way : values.v[i] - (1.0f - weight) * way;
    // Selected: where averages begin, what was there does not matter.
    averages.v[i] = weight == 1.0f ? values.v[i] : moved;
  }
  store_chunk<kStep, float, Reuse::Late>(p.averages + first, averages);
}

KILN_DEVICE uint2 in_16_bits(const Values& values, KilnCopyType type) {
  return type == KILN_COPY_BF16 ? make_uint2(pack_bf16(values.v[0], values.v[1]), pack_bf16(values.v[2], values.v[3]))
                                : make_uint2(pack_f16(values.v[0], values.v[1]), pack_f16(values.v[2], values.v[3]));
}

// New values to the copy of their parameter, if it has one, so that nothing has to make it again.
KILN_DEVICE void store_turned(const KilnOptimizerParams& p, size_t first, const Values& values) {
  u32 index = 0;
#pragma unroll 1
  for (u32 end = p.turned_count; end - index > 1;) {
    const u32 middle = (index + end) / 2;
    if (p.turned[middle].start <= first) {
      index = middle;
    } else {
      end = middle;
    }
  }
  const KilnTurned& turned = p.turned[index];
  const u32 begin = static_cast<u32>(first) - turned.start;  // wraps in front of the first
  const uint2 words = in_16_bits(values, turned.type);
#pragma unroll
  for (int i = 0; i < kStep; ++i) {
    if (begin + i >= turned.count) return;
    const Quotient line = divide(begin + i, turned.columns), row = divide(line.quotient, turned.rows);
    const u32 to = (row.quotient * turned.columns.divisor + line.remainder) * turned.rows.divisor + row.remainder;
    if (turned.type == KILN_COPY_F32) {
      static_cast<float*>(turned.copy)[to] = values.v[i];
    } else {
      const u32 word = i < 2 ? words.x : words.y;
      static_cast<u16*>(turned.copy)[to] = static_cast<u16>(i % 2 == 0 ? word : word >> 16);
    }
  }
}

KILN_DEVICE void store_values(const KilnOptimizerParams& p, size_t first, const Values& values) {
  store_chunk<kStep>(p.values + first, values);
  if (p.averages != nullptr) move_averages(p, first, values);
  if (p.shadow != nullptr) *reinterpret_cast<uint2*>(p.shadow + first) = in_16_bits(values, p.shadow_type);
  if (p.turned_count != 0) store_turned(p, first, values);
}

// The gradient with the L2 penalty. 0 * infinity is NaN, so without a penalty the value does not count.
KILN_DEVICE float decayed(float gradient, float decay, float value) {
  return decay == 0.0f ? gradient : gradient + decay * value;
}

// value -= rate * (gradient + decay * value)
KILN_DEVICE void sgd_step(const KilnOptimizerParams& p) {
  const Own own = own_elements(p);
  Values values, gradients;
  if (own.any) {
    values = load_chunk<kStep>(p.values + own.first);
    gradients = load_gradients(p, own.first);
  }
  const float rate = load_rates(p).v[0] * own.stretch.rate_factor, decay = own.stretch.weight_decay;
  const Update update = begin_update<Moments::Plain>(p, own.stretch.skipped);
  if (!own.any || update.skipped) return;
#pragma unroll
  for (int i = 0; i < kStep; ++i) values.v[i] -= rate * decayed(gradients.v[i], decay, values.v[i]);
  store_values(p, own.first, values);
}

// buffer = first ? g : momentum * buffer + (1 - dampening) * g;  value -= rate * (nesterov ? g + momentum * buffer : buffer)
KILN_DEVICE void sgd_momentum_step(const KilnOptimizerParams& p) {
  const Own own = own_elements(p);
  Values values, buffers, gradients;
  if (own.any) {
    values = load_chunk<kStep>(p.values + own.first);
    buffers = load_chunk<kStep, float, Reuse::Late>(p.moment1 + own.moment);
    gradients = load_gradients(p, own.first);
  }
  const Chunk<4> rates = load_rates(p);
  const float rate = rates.v[0] * own.stretch.rate_factor, momentum = rates.v[1];
  const Update update = begin_update<Moments::Plain>(p, own.stretch.skipped);
  if (!own.any || update.skipped) return;
#pragma unroll
  for (int i = 0; i < kStep; ++i) {
    const float gradient = decayed(gradients.v[i], own.stretch.weight_decay, values.v[i]);
    buffers.v[i] = update.first ? gradient : momentum * buffers.v[i] + (1.0f - p.dampening) * gradient;
    const float step = p.nesterov == KILN_NESTEROV_ON ? gradient + momentum * buffers.v[i] : buffers.v[i];
    values.v[i] -= rate * step;
  }
  store_chunk<kStep, float, Reuse::Late>(p.moment1 + own.moment, buffers);
  store_values(p, own.first, values);
}

// m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) g^2;  value -= rate / (1 - b1^t) * m / (sqrt(v) / sqrt(1 - b2^t) + eps)
KILN_DEVICE void adam_step(const KilnOptimizerParams& p) {
  const Own own = own_elements(p);
  Values values, means, squares, gradients;
  if (own.any) {
    values = load_chunk<kStep>(p.values + own.first);
    means = load_chunk<kStep, float, Reuse::Late>(p.moment1 + own.moment);
    squares = load_chunk<kStep, float, Reuse::Late>(p.moment2 + own.moment);
    gradients = load_gradients(p, own.first);
  }
  const Chunk<4> rates = load_rates(p);
  const Update update = begin_update<Moments::Corrected>(p, own.stretch.skipped);
  if (!own.any || update.skipped) return;
  const float rate = rates.v[0] * own.stretch.rate_factor, beta1 = rates.v[1], one_minus_beta1 = rates.v[2];
  const float step = rate * update.correction1;
  const bool decoupled = p.decay == KILN_DECAY_DECOUPLED;
  const float shrink = decoupled ? 1.0f - rate * own.stretch.weight_decay : 1.0f;
  const float penalty = decoupled ? 0.0f : own.stretch.weight_decay;
#pragma unroll
  for (int i = 0; i < kStep; ++i) {
    const float gradient = decayed(gradients.v[i], penalty, values.v[i]);
    means.v[i] = beta1 * means.v[i] + one_minus_beta1 * gradient;
    squares.v[i] = p.beta2 * squares.v[i] + p.one_minus_beta2 * gradient * gradient;
    const float denominator = sqrtf(squares.v[i]) * update.correction2_root + p.eps;
    values.v[i] = shrink * values.v[i] - step * (means.v[i] / denominator);
  }
  store_chunk<kStep, float, Reuse::Late>(p.moment1 + own.moment, means);
  store_chunk<kStep, float, Reuse::Late>(p.moment2 + own.moment, squares);
  store_values(p, own.first, values);
}

KILN_DEVICE void average_step(const KilnOptimizerParams& p) {
  const Own own = own_elements(p);
  if (p.overflow != nullptr && *p.overflow != 0.0f) return;
  if (own.any) move_averages(p, own.first, load_chunk<kStep>(p.values + own.first));
}

// Two stages: each block sums the squares of a fixed set of elements, the last block adds the blocks' sums in order.
KILN_DEVICE void square_sum(const KilnNormParams& p) {
  const size_t stride = static_cast<size_t>(gridDim.x) * KILN_BLOCK_THREADS * kStep;
  const auto square = [](const Values& x) { return (x.v[0] * x.v[0] + x.v[1] * x.v[1]) + (x.v[2] * x.v[2] + x.v[3] * x.v[3]); };
  constexpr int kTogether = 4;  // loads that are on their way together
  float sum = 0.0f;
  size_t at = first_of_thread(blockIdx.x);
  for (; at + (kTogether - 1) * stride + kStep <= p.count; at += kTogether * stride) {
    Values x[kTogether];
#pragma unroll
    for (int i = 0; i < kTogether; ++i) x[i] = load_chunk<kStep>(p.x + at + i * stride);
#pragma unroll
    for (int i = 0; i < kTogether; ++i) sum += square(x[i]);
  }
  for (; at < p.count; at += stride) {
    const Values x = load_chunk_upto<kStep>(p.x + at, static_cast<int>(min(p.count - at, static_cast<size_t>(kStep))));
    sum += square(x);
  }
  sum = block_sum<KILN_BLOCK_THREADS>(sum);
  if (threadIdx.x == 0) p.partials[p.first_block + blockIdx.x] = sum;
  if (!arrives_last(p.tickets, p.blocks)) return;

  float total = 0.0f;
  for (u32 block = threadIdx.x; block < p.blocks; block += KILN_BLOCK_THREADS) total += __ldcg(p.partials + block);
  total = block_sum<KILN_BLOCK_THREADS>(total);
  if (threadIdx.x != 0) return;
  const float norm = sqrtf(total);
  *p.norm = norm;
  if (p.coefficient != nullptr) {
    const float coefficient = p.max_norm / (norm + 1e-6f);
    // Written so that a NaN norm stays NaN.
    *p.coefficient = coefficient > 1.0f ? 1.0f : coefficient;
  }
}

extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) sgd(const __grid_constant__ KilnOptimizerParams p) {
  sgd_step(p);
}
KILN_EXPORT(sgd)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) sgd_momentum(const __grid_constant__ KilnOptimizerParams p) {
  sgd_momentum_step(p);
}
KILN_EXPORT(sgd_momentum)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) adam(const __grid_constant__ KilnOptimizerParams p) {
  adam_step(p);
}
KILN_EXPORT(adam)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) average_f32(const __grid_constant__ KilnOptimizerParams p) {
  average_step(p);
}
KILN_EXPORT(average_f32)
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) square_sum_f32(const __grid_constant__ KilnNormParams p) {
  square_sum(p);
}
KILN_EXPORT(square_sum_f32)
