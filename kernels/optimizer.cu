// SPDX-License-Identifier: MIT OR Apache-2.0
// Optimisers over one flat array of parameters, with PyTorch's rules, and the norm that clipping needs.
//   SGD (torch.optim.SGD); Adam (Kingma & Ba 2014, arXiv:1412.6980); AdamW (Loshchilov & Hutter 2017, arXiv:1711.05101)
// One thread per four parameters. Learning rate, momentum and bias corrections come from device memory.
#include "abi.h"
#include "lib/pack.cuh"
#include "lib/reduce.cuh"

constexpr int kStep = KILN_OPTIMIZER_VECTOR;
using Values = Chunk<kStep>;

// Learning rate, momentum, one less the momentum, correction of the first moment: 16 bytes, as the host asserts.
KILN_DEVICE Chunk<4> load_rates(const KilnOptimizerParams& p) { return load_chunk<4>(&p.scalars->learning_rate); }

KILN_DEVICE size_t first_of_thread() {
  return static_cast<size_t>(blockIdx.x * KILN_BLOCK_THREADS + threadIdx.x) * kStep;
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

KILN_DEVICE void store_values(const KilnOptimizerParams& p, size_t first, const Values& values) {
  store_chunk<kStep>(p.values + first, values);
  if (p.shadow != nullptr) {
    *reinterpret_cast<uint2*>(p.shadow + first) =
        make_uint2(pack_bf16(values.v[0], values.v[1]), pack_bf16(values.v[2], values.v[3]));
  }
}

// The gradient with the L2 penalty. 0 * infinity is NaN, so without a penalty the value does not count.
KILN_DEVICE float decayed(float gradient, float decay, float value) {
  return decay == 0.0f ? gradient : gradient + decay * value;
}

// value -= rate * (gradient + decay * value)
KILN_DEVICE void sgd_step(const KilnOptimizerParams& p) {
  const size_t first = first_of_thread();
  if (first >= p.count) return;
  Values values = load_chunk<kStep>(p.values + first);
  const Values gradients = load_gradients(p, first);
  const float rate = p.scalars->learning_rate;
#pragma unroll
  for (int i = 0; i < kStep; ++i) values.v[i] -= rate * decayed(gradients.v[i], p.weight_decay, values.v[i]);
  store_values(p, first, values);
}

// buffer = first ? g : momentum * buffer + (1 - dampening) * g;  value -= rate * (nesterov ? g + momentum * buffer : buffer)
KILN_DEVICE void sgd_momentum_step(const KilnOptimizerParams& p) {
  const size_t first = first_of_thread();
  if (first >= p.count) return;
  Values values = load_chunk<kStep>(p.values + first);
  Values buffers = load_chunk<kStep, float, Reuse::Late>(p.moment1 + first);
  const Values gradients = load_gradients(p, first);
  const Chunk<4> rates = load_rates(p);
  const float rate = rates.v[0], momentum = rates.v[1];
  const bool starts = p.scalars->update <= 1;
#pragma unroll
  for (int i = 0; i < kStep; ++i) {
    const float gradient = decayed(gradients.v[i], p.weight_decay, values.v[i]);
    buffers.v[i] = starts ? gradient : momentum * buffers.v[i] + (1.0f - p.dampening) * gradient;
    const float step = p.nesterov == KILN_NESTEROV_ON ? gradient + momentum * buffers.v[i] : buffers.v[i];
    values.v[i] -= rate * step;
  }
  store_chunk<kStep, float, Reuse::Late>(p.moment1 + first, buffers);
  store_values(p, first, values);
}

// m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) g^2;  value -= rate / (1 - b1^t) * m / (sqrt(v) / sqrt(1 - b2^t) + eps)
KILN_DEVICE void adam_step(const KilnOptimizerParams& p) {
  const size_t first = first_of_thread();
  if (first >= p.count) return;
  Values values = load_chunk<kStep>(p.values + first);
  Values means = load_chunk<kStep, float, Reuse::Late>(p.moment1 + first);
  Values squares = load_chunk<kStep, float, Reuse::Late>(p.moment2 + first);
  const Values gradients = load_gradients(p, first);
  const Chunk<4> rates = load_rates(p);
  const float rate = rates.v[0], beta1 = rates.v[1], one_minus_beta1 = rates.v[2];
  const float step = rate * rates.v[3];
  const float root_scale = p.scalars->moment2_correction_root;
  const bool decoupled = p.decay == KILN_DECAY_DECOUPLED;
  const float shrink = decoupled ? 1.0f - rate * p.weight_decay : 1.0f;
  const float penalty = decoupled ? 0.0f : p.weight_decay;
#pragma unroll
  for (int i = 0; i < kStep; ++i) {
    const float gradient = decayed(gradients.v[i], penalty, values.v[i]);
    means.v[i] = beta1 * means.v[i] + one_minus_beta1 * gradient;
    squares.v[i] = p.beta2 * squares.v[i] + p.one_minus_beta2 * gradient * gradient;
    const float denominator = sqrtf(squares.v[i]) * root_scale + p.eps;
    values.v[i] = shrink * values.v[i] - step * (means.v[i] / denominator);
  }
  store_chunk<kStep, float, Reuse::Late>(p.moment1 + first, means);
  store_chunk<kStep, float, Reuse::Late>(p.moment2 + first, squares);
  store_values(p, first, values);
}

// Two stages: each block sums the squares of a fixed set of elements, the last block adds the blocks' sums in order.
KILN_DEVICE void square_sum(const KilnNormParams& p) {
  const size_t stride = static_cast<size_t>(gridDim.x) * KILN_BLOCK_THREADS * kStep;
  float sum = 0.0f;
  for (size_t at = first_of_thread(); at < p.count; at += stride) {
    const Values x = load_chunk_upto<kStep>(p.x + at, static_cast<int>(min(p.count - at, static_cast<size_t>(kStep))));
    sum += (x.v[0] * x.v[0] + x.v[1] * x.v[1]) + (x.v[2] * x.v[2] + x.v[3] * x.v[3]);
  }
  sum = block_sum<KILN_BLOCK_THREADS>(sum);
  if (threadIdx.x == 0) p.partials[blockIdx.x] = sum;
  if (!arrives_last(p.tickets, gridDim.x)) return;

  float total = 0.0f;
  for (u32 block = threadIdx.x; block < gridDim.x; block += KILN_BLOCK_THREADS) total += __ldcg(p.partials + block);
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
extern "C" __global__ void __launch_bounds__(KILN_BLOCK_THREADS) square_sum_f32(const __grid_constant__ KilnNormParams p) {
  square_sum(p);
}
KILN_EXPORT(square_sum_f32)
