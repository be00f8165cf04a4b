// SPDX-License-Identifier: MIT OR Apache-2.0
// A sample's unit in a forward step: what is made of its sums, and what is kept. The equations are in lib/cells.cuh.
#pragma once
#include "lib/cells.cuh"
#include "lib/recurrent.cuh"

KILN_DEVICE u32 blocks_of(KilnCell cell) { return cell == KILN_CELL_LSTM ? 4 : cell == KILN_CELL_GRU ? 3 : 1; }

// Numbers that are saved of a unit in a step.
KILN_DEVICE u32 saved_of(KilnCell cell) { return cell == KILN_CELL_LSTM ? 5 : cell == KILN_CELL_GRU ? 4 : 0; }

// What inputs add to a unit's sums in a step.
struct UnitInputs {
  float v[4];
};
template <class T> KILN_DEVICE UnitInputs unit_inputs(const KilnRecurrentParams& p, const KilnStep& step, u32 sample, u32 unit) {
  UnitInputs inputs = {};
  if (p.cell == KILN_CELL_STATE || step.time >= length_of(step, sample)) return inputs;
  const u32 blocks = blocks_of(p.cell);
  const T* const x = static_cast<const T*>(p.x) + step_row(step, sample, step.time) * blocks * p.units + unit;
#pragma unroll
  for (u32 block = 0; block < 4; ++block) {
    if (block < blocks) inputs.v[block] = to_f32(x[block * p.units]);
  }
  return inputs;
}

// What a sample's unit becomes in a step in which it takes part.
template <class T> struct UnitStep {
  const KilnRecurrentParams& p;
  u32 sample, unit;
  bool is_first;  // of the sample's steps
  size_t row;
  const UnitInputs& inputs;
  const float* sums;  // of the unit's blocks, `width` apart
  u32 width;

  __device__ __forceinline__ float x(u32 block) const { return inputs.v[block]; }
  __device__ __forceinline__ float h(u32 block) const {
    return sums[block * width] + or_zero(p.bias, p.bias == nullptr ? 0 : block * p.units + unit);
  }
  __device__ __forceinline__ void save(u32 block, float value) const {
    if (p.saved != nullptr) p.saved[(row * saved_of(p.cell) + block) * p.units + unit] = value;
  }

  __device__ __forceinline__ float lstm() const {
    const size_t at = static_cast<size_t>(sample) * p.units + unit;
    const float sum[4] = {x(0) + h(0), x(1) + h(1), x(2) + h(2), x(3) + h(3)};
    const LstmUnit made = lstm_unit(sum, is_first ? or_zero(p.initial_cell, at) : p.cell_state[at]);
    save(0, made.i);
    save(1, made.f);
    save(2, made.g);
    save(3, made.o);
    save(4, made.cell);
    p.cell_state[at] = made.cell;
    return made.hidden;
  }

  __device__ __forceinline__ float gru() const {
    const size_t at = static_cast<size_t>(sample) * p.state + unit;
    const float of_x[3] = {x(0), x(1), x(2)}, of_h[3] = {h(0), h(1), h(2)};
    const GruUnit made = gru_unit(of_x, of_h, is_first ? or_zero(p.initial_hidden, at) : p.hidden[at]);
    save(0, made.r);
    save(1, made.z);
    save(2, made.n);
    save(3, made.h);
    return made.hidden;
  }

  __device__ __forceinline__ float made() const {
    switch (p.cell) {
      case KILN_CELL_LSTM: return lstm();
      case KILN_CELL_GRU: return gru();
      case KILN_CELL_TANH: return tanhf(x(0) + h(0));
      case KILN_CELL_RELU: return Relu{}.f(x(0) + h(0));
      default: return sums[0];
    }
  }
};

// The hidden state of a sample behind its last step, or, if it has none, that before the first.
template <class T> KILN_DEVICE void hand_on(const KilnRecurrentParams& p, u32 sample, u32 unit, float hidden) {
  const size_t at = static_cast<size_t>(sample) * p.state + unit;
  if (p.dropped_hidden != nullptr) {
    static_cast<T*>(p.dropped_hidden)[at] = from_f32<T>(dropped(hidden, p.hidden_mask, p.scalars, sample, unit));
  }
}

template <class T>
KILN_DEVICE void unit_step(const KilnRecurrentParams& p, const KilnStep& step, u32 sample, u32 unit, const UnitInputs& inputs,
                           const float* sums, u32 width) {
  const u32 length = length_of(step, sample), time = step.time;
  const size_t row = step_row(step, sample, time), at = static_cast<size_t>(sample) * p.state + unit;
  const bool is_in = time < length;
  float hidden = 0.0f;
  if (is_in) {
    hidden = UnitStep<T>{p, sample, unit, step_before(step, length) == kNoStep, row, inputs, sums, width}.made();
    if (p.made != nullptr) {
      static_cast<T*>(p.made)[static_cast<size_t>(sample) * p.units + unit] = from_f32<T>(hidden);
      return;  // what follows is the projection's
    }
    if (p.hidden != nullptr) p.hidden[at] = hidden;
    if (step_after(step, length) == kNoStep) hand_on<T>(p, sample, unit, hidden);
  } else {
    // Past a sequence's end everything is 0. Of one without steps the last states are the initial ones.
    if (length == 0 && p.cell == KILN_CELL_LSTM) {
      const size_t of_cell = static_cast<size_t>(sample) * p.units + unit;
      p.cell_state[of_cell] = or_zero(p.initial_cell, of_cell);
    }
    if (time < step.steps && p.saved != nullptr) {
      const u32 blocks = saved_of(p.cell);
      for (u32 block = 0; block < blocks; ++block) p.saved[(row * blocks + block) * p.units + unit] = 0.0f;
    }
    if (p.made != nullptr) return;
    if (length == 0) {
      const float initial = or_zero(p.initial_hidden, at);
      if (p.hidden != nullptr) p.hidden[at] = initial;
      hand_on<T>(p, sample, unit, initial);
    }
  }
  if (time >= step.steps) return;
  const size_t of_step = row * p.state + unit;
  static_cast<T*>(p.output)[of_step] = from_f32<T>(hidden);
  if (p.dropped_output != nullptr) {
    const float left = is_in ? dropped(hidden, p.output_mask, p.scalars, sample, time * p.state + unit) : 0.0f;
    static_cast<T*>(p.dropped_output)[of_step] = from_f32<T>(left);
  }
}

// The hidden state that a sample's step begins with; null for zeros.
template <class T> KILN_DEVICE const T* row_before(const KilnRecurrentParams& p, const KilnStep& step, u32 sample) {
  const u32 length = length_of(step, sample);
  if (step.time >= length) return nullptr;
  const u32 before = step_before(step, length);
  if (before != kNoStep) return static_cast<const T*>(p.rows) + step_row(step, sample, before) * p.k;
  return p.first == nullptr ? nullptr : static_cast<const T*>(p.first) + static_cast<size_t>(sample) * p.k;
}
