// SPDX-License-Identifier: MIT OR Apache-2.0
// What recurrent units make of their sums, and the gradients of that.
#pragma once
#include "math.cuh"

// Of an LSTM's sums i, f, g, o.
struct LstmUnit {
  float i, f, g, o, cell, hidden;
};
KILN_DEVICE LstmUnit lstm_unit(const float (&sum)[4], float cell) {
  const float i = sigmoid(sum[0]), f = sigmoid(sum[1]), g = tanhf(sum[2]), o = sigmoid(sum[3]);
  const float after = f * cell + i * g;
  return LstmUnit{i, f, g, o, after, o * tanhf(after)};
}

// Gradients of an LSTM's sums and of the cell state before the step.
struct LstmSlopes {
  float sums[4], cell;
};
// `cell` is the state before the step, `d_cell` the gradient of that after it but for what the hidden state adds.
KILN_DEVICE LstmSlopes lstm_slopes(const LstmUnit& unit, float cell, float dy, float d_cell) {
  const float reached = tanhf(unit.cell);
  const float after = d_cell + dy * unit.o * ((1.0f - reached) * (1.0f + reached));
  LstmSlopes slopes;
  slopes.sums[0] = after * unit.g * (unit.i * (1.0f - unit.i));
  slopes.sums[1] = after * cell * (unit.f * (1.0f - unit.f));
  slopes.sums[2] = after * unit.i * ((1.0f - unit.g) * (1.0f + unit.g));
  slopes.sums[3] = dy * reached * (unit.o * (1.0f - unit.o));
  slopes.cell = after * unit.f;
  return slopes;
}

// Of a GRU's sums: those of inputs, and those of hidden states, of which that of n is multiplied by r.
struct GruUnit {
  float r, z, n, h, hidden;
};
KILN_DEVICE GruUnit gru_unit(const float (&x)[3], const float (&h)[3], float before) {
  const float r = sigmoid(x[0] + h[0]), z = sigmoid(x[1] + h[1]);
  const float n = tanhf(x[2] + r * h[2]);
  return GruUnit{r, z, n, h[2], n + z * (before - n)};
}

// Gradients of a GRU's sums of inputs, of that of n of hidden states, whose others are the inputs', and of the hidden
// state before the step past all sums.
struct GruSlopes {
  float sums[3], h, before;
};
KILN_DEVICE GruSlopes gru_slopes(const GruUnit& unit, float before, float dy) {
  const float dn = dy * (1.0f - unit.z) * ((1.0f - unit.n) * (1.0f + unit.n));
  GruSlopes slopes;
  slopes.sums[0] = dn * unit.h * (unit.r * (1.0f - unit.r));
  slopes.sums[1] = dy * (before - unit.n) * (unit.z * (1.0f - unit.z));
  slopes.sums[2] = dn;
  slopes.h = dn * unit.r;
  slopes.before = dy * unit.z;
  return slopes;
}
