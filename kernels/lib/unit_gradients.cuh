// SPDX-License-Identifier: MIT OR Apache-2.0
// A sample's unit in a step back: what is made of its hidden state's gradient. The equations are in lib/cells.cuh.
#pragma once
#include "lib/cells.cuh"
#include "lib/recurrent.cuh"

// A sample's unit in a step in which it takes part.
template <class T> struct UnitBack {
  const KilnRecurrentGradientParams& p;
  const KilnStep& step;
  u32 sample, unit;
  u32 before;    // the forward walk's step before, if it made one
  bool is_last;  // of the sample's steps
  size_t row;
  float dy;  // of the hidden state after the step, but for what a GRU's next step passes on

  __device__ __forceinline__ size_t of_sample() const { return static_cast<size_t>(sample) * p.units + unit; }
  __device__ __forceinline__ float saved(u32 block, u32 blocks) const { return p.saved[(row * blocks + block) * p.units + unit]; }
  __device__ __forceinline__ float output(u32 time) const {
    return to_f32(static_cast<const T*>(p.output)[step_row(step, sample, time) * p.state + unit]);
  }
  __device__ __forceinline__ float hidden_before() const {
    return before != kNoStep ? output(before) : or_zero(p.initial_hidden, static_cast<size_t>(sample) * p.state + unit);
  }

  __device__ __forceinline__ void lstm() const {
    LstmUnit unit_now{saved(0, 5), saved(1, 5), saved(2, 5), saved(3, 5), saved(4, 5), 0.0f};
    const float cell = before != kNoStep ? p.saved[(step_row(step, sample, before) * 5 + 4) * p.units + unit]
                                         : or_zero(p.initial_cell, of_sample());
    const float d_cell = is_last ? or_zero(p.d_cell, of_sample()) : p.cell_slope[of_sample()];
    const LstmSlopes slopes = lstm_slopes(unit_now, cell, dy, d_cell);
    T* const dx = static_cast<T*>(p.dx) + row * 4 * p.units + unit;
#pragma unroll
    for (u32 block = 0; block < 4; ++block) dx[block * p.units] = from_f32<T>(slopes.sums[block]);
    p.cell_slope[of_sample()] = slopes.cell;
    if (p.unprojected != nullptr) p.unprojected[row * p.units + unit] = unit_now.o * tanhf(unit_now.cell);
  }

  __device__ __forceinline__ void gru() const {
    const GruUnit unit_now{saved(0, 4), saved(1, 4), saved(2, 4), saved(3, 4), 0.0f};
    const GruSlopes slopes = gru_slopes(unit_now, hidden_before(), is_last ? dy : dy + p.direct[of_sample()]);
    const size_t at = row * 3 * p.units + unit;
#pragma unroll
    for (u32 block = 0; block < 3; ++block) {
      const float recurrent = block == 2 ? slopes.h : slopes.sums[block];
      static_cast<T*>(p.dx)[at + block * p.units] = from_f32<T>(slopes.sums[block]);
      static_cast<T*>(p.carried)[at + block * p.units] = from_f32<T>(recurrent);
      if (p.recurrent != nullptr) p.recurrent[at + block * p.units] = recurrent;
    }
    p.direct[of_sample()] = slopes.before;
  }

  __device__ __forceinline__ void elman() const {
    const float y = output(step.time);
    const float kept = p.cell == KILN_CELL_TANH ? dy * ((1.0f - y) * (1.0f + y)) : y != 0.0f ? dy : 0.0f;
    static_cast<T*>(p.dx)[row * p.units + unit] = from_f32<T>(kept);
  }

  __device__ __forceinline__ void state() const {
    static_cast<T*>(p.total)[static_cast<size_t>(sample) * p.state + unit] = from_f32<T>(dy);
    if (p.d_output != nullptr) p.d_output[row * p.state + unit] = dy;
  }

  __device__ __forceinline__ void run() const {
    switch (p.cell) {
      case KILN_CELL_LSTM: lstm(); break;
      case KILN_CELL_GRU: gru(); break;
      case KILN_CELL_STATE: state(); break;
      default: elman();
    }
    if (p.previous != nullptr) p.previous[row * p.state + unit] = hidden_before();
  }
};

// Past a sequence's end there are no gradients.
template <class T>
KILN_DEVICE void no_step(const KilnRecurrentGradientParams& p, const KilnStep& step, u32 sample, u32 unit, u32 length) {
  const u32 blocks = p.cell == KILN_CELL_LSTM ? 4 : p.cell == KILN_CELL_GRU ? 3 : p.cell == KILN_CELL_STATE ? 0 : 1;
  if (length == 0 && p.cell == KILN_CELL_LSTM) {
    const size_t at = static_cast<size_t>(sample) * p.units + unit;
    p.cell_slope[at] = or_zero(p.d_cell, at);
  }
  if (step.time >= step.steps) return;
  const size_t row = step_row(step, sample, step.time);
  for (u32 block = 0; block < blocks; ++block) {
    const size_t at = (row * blocks + block) * p.units + unit;
    static_cast<T*>(p.dx)[at] = from_f32<T>(0.0f);
    if (p.cell == KILN_CELL_GRU) static_cast<T*>(p.carried)[at] = from_f32<T>(0.0f);
    if (p.recurrent != nullptr) p.recurrent[at] = 0.0f;
  }
  if (p.previous != nullptr) p.previous[row * p.state + unit] = 0.0f;
  if (p.unprojected != nullptr) p.unprojected[row * p.units + unit] = 0.0f;
  if (p.d_output != nullptr) p.d_output[row * p.state + unit] = 0.0f;
}

// The gradient of the last hidden state, through its dropout.
KILN_DEVICE float of_last(const KilnRecurrentGradientParams& p, u32 sample, u32 unit) {
  const float slope = or_zero(p.d_hidden, static_cast<size_t>(sample) * p.state + unit);
  return p.drops_hidden ? dropped(slope, p.hidden_mask, p.scalars, sample, unit) : slope;
}

// What comes of a hidden state's gradient past the steps: where the walk ends behind the first.
KILN_DEVICE void behind(const KilnRecurrentGradientParams& p, u32 sample, u32 unit, float sum, u32 length) {
  const float direct = length == 0 ? of_last(p, sample, unit) : or_zero(p.direct, static_cast<size_t>(sample) * p.units + unit);
  p.d_initial[static_cast<size_t>(sample) * p.state + unit] = length == 0 ? direct : sum + direct;
}

template <class T>
KILN_DEVICE void unit_back(const KilnRecurrentGradientParams& p, const KilnStep& step, u32 sample, u32 unit, float sum) {
  const u32 length = length_of(step, sample), time = step.time;
  if (p.source == KILN_ROWS_BEHIND) return behind(p, sample, unit, sum, length);
  if (time >= length) return no_step<T>(p, step, sample, unit, length);
  const size_t row = step_row(step, sample, time);
  const bool is_last = step_after(step, length) == kNoStep;
  float dy = sum;
  if (p.dy != nullptr) {
    const float slope = to_f32(static_cast<const T*>(p.dy)[row * p.state + unit]);
    dy += p.drops_output ? dropped(slope, p.output_mask, p.scalars, sample, time * p.state + unit) : slope;
  }
  if (is_last && p.d_hidden != nullptr) dy += of_last(p, sample, unit);
  UnitBack<T>{p, step, sample, unit, step_before(step, length), is_last, row, dy}.run();
}

// The gradients of the products that the step after brings; null for zeros.
template <class T> KILN_DEVICE const T* row_after(const KilnRecurrentGradientParams& p, const KilnStep& step, u32 sample) {
  const u32 length = length_of(step, sample);
  const u32 after = step.time < length ? step_after(step, length) : kNoStep;
  return after == kNoStep ? nullptr : static_cast<const T*>(p.rows) + step_row(step, sample, after) * p.k;
}
