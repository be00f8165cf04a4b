// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * Recurrent layers, in the manner of abi.h: one launch makes a step of all samples. Blocks of units stand in the order of
 * the weights: i, f, g, o of an LSTM, r, z, n of a GRU.
 */
#ifndef KILN_ABI_RECURRENT_H
#define KILN_ABI_RECURRENT_H

#include "abi.h"

/* Samples of a block, and sums that it adds up for each. */
#define KILN_RECURRENT_ROWS 32
#define KILN_RECURRENT_COLUMNS 64
/* Units of a block of recurrent_T where a unit takes several sums; KILN_RECURRENT_COLUMNS where it takes one. */
#define KILN_RECURRENT_UNITS 16

/* recurrent_walk_T and recurrent_walk_gradient_T make all steps in one launch. Threads of a block, samples and units that are
 * its own in every step. */
#define KILN_WALK_THREADS 256
#define KILN_WALK_ROWS 16
#define KILN_WALK_UNITS 8
/* Words of rows that are brought to shared memory at a time, if the sum has several parts. */
#define KILN_WALK_PASS_WORDS 512
/* Words from the counters of a group of blocks to those of the next. */
#define KILN_WALK_COUNTERS 32

/* What is made of a unit's sums. */
enum KilnCell {
  KILN_CELL_LSTM = 0,
  KILN_CELL_GRU = 1,
  KILN_CELL_TANH = 2,
  KILN_CELL_RELU = 3,
  KILN_CELL_STATE = 4 /* they are hidden states, or their gradients: what a projection, or a gradient's end, needs */
};

/* What the rows are that a launch multiplies, one for each sample that takes part in its step. */
enum KilnRecurrentRows {
  KILN_ROWS_OF_STEP = 0, /* [samples, steps, k]: of the step that the walk made before; where it made none, `first`'s, or zeros */
  KILN_ROWS_OWN = 1,     /* [samples, k] */
  KILN_ROWS_BEHIND = 2   /* [samples, steps, k]: of the last step of a gradient's walk; `time` is `steps` */
};

/* A step of a batch of sequences. Forward walks make the steps in their order, or, reversed, from each sequence's last to its
 * first; gradients walk back. */
typedef struct KilnStep {
  const int* lengths; /* [samples] or null: all have all steps; others than there are count as the nearest */
  unsigned int samples, steps;
  unsigned int time;
  unsigned int reversed;
} KilnStep;

/* recurrent_T: a forward step. States that are not wanted are null; where `made` is not, units are projected by a launch
 * of KILN_CELL_STATE behind.
 * recurrent_walk_T: all steps; `step.time` and `source` are not looked at, `split.tickets` are counters of groups. */
typedef struct KilnRecurrentParams {
  KilnStep step;
  enum KilnCell cell;
  enum KilnRecurrentRows source;
  unsigned int units, state, k;
  const void* rows;   /* T */
  const void* first;  /* T [samples, k] or null */
  const void* weight; /* T [blocks * units, k]; of KILN_CELL_STATE [state, k] */
  KilnSplitK split;
  const void* x;               /* T [samples, steps, blocks * units] */
  const float* bias;           /* [blocks * units] or null */
  const float* initial_hidden; /* [samples, state] or null for zeros */
  const float* initial_cell;   /* [samples, units] or null for zeros */
  float* hidden;               /* [samples, state]: after the step; of a GRU also before */
  float* cell_state;           /* [samples, units]: before, then after; LSTM */
  void* output;                /* T [samples, steps, state] */
  void* made;                  /* T [samples, units] */
  float* saved;                /* [samples, steps, blocks]: i, f, g, o, cell state, or r, z, n, h of n */
  void* dropped_output;        /* T, as output */
  void* dropped_hidden;        /* T [samples, state], after the last step of each */
  const KilnScalars* scalars;  /* pass, sample_offset, if anything is dropped */
  KilnMask output_mask, hidden_mask;
} KilnRecurrentParams;

/* recurrent_gradient_T: a step back. Gradients of nothing are null.
 * recurrent_walk_gradient_T: all steps back, as recurrent_walk_T. */
typedef struct KilnRecurrentGradientParams {
  KilnStep step;
  enum KilnCell cell;
  enum KilnRecurrentRows source;
  unsigned int units, state, k;
  const void* rows;   /* T: gradients of recurrent products; KILN_ROWS_OWN: of projected states */
  const void* weight; /* T [k, units]; of KILN_CELL_STATE [k, state] */
  KilnSplitK split;
  const void* dy;              /* T [samples, steps, state]: of outputs */
  const float* d_hidden;       /* [samples, state]: of the last hidden state */
  const float* d_cell;         /* [samples, units]: of the last cell state */
  const void* output;          /* T [samples, steps, state] */
  const float* saved;          /* as recurrent_T's */
  const float* initial_hidden; /* [samples, state] or null for zeros */
  const float* initial_cell;   /* [samples, units] or null for zeros */
  void* dx;                    /* T [samples, steps, blocks * units] */
  void* carried;               /* T, as dx: of recurrent products; GRU */
  float* recurrent;            /* the same once more in f32, or null */
  float* direct;               /* [samples, units]: past the products to the step before; GRU */
  float* cell_slope;           /* [samples, units]: of the cell state after the step, then before it; LSTM */
  float* previous;             /* [samples, steps, state]: the hidden state before the step, or null */
  float* unprojected;          /* [samples, steps, units]: what units yielded, or null */
  void* total;                 /* T [samples, state]: of the hidden state after the step; KILN_CELL_STATE, as what follows */
  float* d_output;             /* the same of all steps, or null */
  float* d_initial;            /* [samples, state], KILN_ROWS_BEHIND: of the hidden state before the first step */
  const KilnScalars* scalars;  /* pass, sample_offset, if anything was dropped */
  unsigned int drops_output, drops_hidden; /* whether dy and d_hidden are gradients of what dropout left */
  KilnMask output_mask, hidden_mask;
} KilnRecurrentGradientParams;

#endif
