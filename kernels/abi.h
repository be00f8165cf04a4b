// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * What the host and the kernels agree on: one parameter structure per family of kernels, passed by value, the enums and
 * the sizes of tiles. Plain C with fixed-size types; the Rust side is generated from this file.
 *
 * Pointers are device addresses. Buffers are aligned to 16 bytes. Matrices are row-major; `ld*` are row strides in
 * elements. T is the storage type in the kernel's name: f32, bf16 or f16. "null" pointers switch their feature off.
 */
#ifndef KILN_ABI_H
#define KILN_ABI_H

/* Threads per block of every kernel that is not a matrix product. */
#define KILN_BLOCK_THREADS 256
/* Rows per block of the kernels that give each row a warp. */
#define KILN_ROWS_PER_BLOCK 8
/* Longest row, in elements, that the warp_per_row kernels hold in registers. */
#define KILN_ROW_REGISTERS 1024
/* Elements per thread and step of the flat optimisers. */
#define KILN_OPTIMIZER_VECTOR 4
/* Most stretches of one launch of a flat optimiser. */
#define KILN_OPTIMIZER_STRETCHES 32
/* Edge of the square tiles of the transposing copy; its block is KILN_TRANSPOSE_TILE x KILN_TRANSPOSE_ROWS threads. */
#define KILN_TRANSPOSE_TILE 32
#define KILN_TRANSPOSE_ROWS 8
/* Most extents of a strided copy. */
#define KILN_MAX_RANK 6

#define KILN_PHILOX_ROUNDS 10
/* Updates of which the host need not know whether they were skipped. */
#define KILN_LATER_RATES 4

/* What the host gives with each run while a captured graph stays: read from device memory by each kernel. What every
 * optimiser needs lies in 16 bytes. */
typedef struct KilnScalars {
  float learning_rate;
  float momentum;           /* of SGD; Adam's beta1 */
  float one_minus_momentum; /* rounded once: 1 - momentum in f32 is off by 2e-7 of itself at 0.9 */
  float share;              /* this micro-batch's share of the whole batch's loss */
  double exact_momentum;    /* what momentum was rounded from */
  unsigned int pass;          /* number of this train-mode pass; Monte Carlo passes set bit 31 */
  unsigned int sample_offset; /* index in the global batch of this run's first sample */
  float average;              /* weight of new values in their moving averages; 1 where these begin */
} KilnScalars;

/* What KilnScalars says of an update, in its terms; words, as nothing but 4 bytes is aligned. */
typedef struct KilnRates {
  float learning_rate;
  float momentum;
  float one_minus_momentum;
  float average;
  unsigned int exact_momentum[2]; /* a double as it lies in memory */
} KilnRates;

/* The same where more updates were skipped than the host knew of: 1, 2, ... more. */
typedef struct KilnLaterRates {
  unsigned int skipped; /* updates that the host knows to have been skipped */
  KilnRates rates[KILN_LATER_RATES];
} KilnLaterRates;

/* What the device keeps of a training and advances by itself, once per update. Zeros before the first, but for a scale. */
typedef struct KilnProgress {
  unsigned int updates;   /* made so far */
  unsigned int found_inf; /* not 0: a gradient of the update under way is not finite, so nothing is updated */
  float loss_scale;       /* the loss of the next step is multiplied by it; 0 where it is not */
  unsigned int growth;    /* updates that were made with this loss_scale */
  unsigned int skipped;   /* updates that were skipped */
  unsigned int unused[3];
} KilnProgress;

/* The mask function of one dropout site. Its seed is fixed for a network's life, so the round keys are launch parameters
 * and lie in constant memory; pass and sample offset are in KilnScalars. */
typedef struct KilnMask {
  unsigned int round_keys[2 * KILN_PHILOX_ROUNDS]; /* [2r], [2r+1]: seed words + r * (0x9e3779b9, 0xbb67ae85) */
  unsigned int site;                               /* FNV-1a of the layer's path and call */
  unsigned int threshold;                          /* (32768 - drop15) * 0x00010001; if scheduled: where both stand */
  float scale;                                     /* 32768 / (32768 - drop15), 0 if everything is dropped */
} KilnMask;

/* Whether a kernel drops anything, and where the rate stands. */
enum KilnRate {
  KILN_RATE_NONE = 0,     /* nothing is dropped */
  KILN_RATE_CONSTANT = 1, /* in the mask */
  KILN_RATE_SCHEDULED = 2 /* behind the scalars of the run, threshold words from their beginning on */
};

/* A divisor known to the host: n / divisor == (umulhi(n, multiplier) + n) >> shift, in 64 bits. */
typedef struct KilnDivider {
  unsigned int divisor;
  unsigned int multiplier; /* ceil(2^(32 + shift) / divisor) - 2^32, for 2^shift the next power of two >= divisor */
  unsigned int shift;
} KilnDivider;

/* Functions of one element. Gradients take the function's output where noted, else its input. */
enum KilnUnary {
  KILN_UNARY_NONE = 0,
  KILN_UNARY_RELU = 1,       /* gradient from the output */
  KILN_UNARY_LEAKY_RELU = 2, /* parameter: slope */
  KILN_UNARY_GELU = 3,
  KILN_UNARY_GELU_TANH = 4,
  KILN_UNARY_SILU = 5, KILN_UNARY_TANH = 6, /* gradient from the output */
  KILN_UNARY_SIGMOID = 7, /* gradient from the output */
  KILN_UNARY_SOFTPLUS = 8,
  KILN_UNARY_EXP = 9, /* gradient from the output */
  KILN_UNARY_LOG = 10,
  KILN_UNARY_SQUARE = 11,
  KILN_UNARY_SCALE = 12,  /* parameter: factor */
  KILN_UNARY_OFFSET = 13, /* parameter: what is added */
  KILN_UNARY_ABS = 14,
  KILN_UNARY_SQRT = 15,       /* gradient from the output */
  KILN_UNARY_RSQRT = 16,      /* gradient from the output */
  KILN_UNARY_RECIPROCAL = 17, /* gradient from the output */
  KILN_UNARY_SIN = 18, KILN_UNARY_COS = 19, KILN_UNARY_ERF = 20,
  KILN_UNARY_POW = 21,   /* parameter: exponent */
  KILN_UNARY_CLAMP = 22, /* parameters: least, most */
  KILN_UNARY_NOT = 23    /* 1 for 0, else 0 */
};

enum KilnBinary {
  KILN_BINARY_ADD = 0, KILN_BINARY_SUBTRACT = 1, KILN_BINARY_MULTIPLY = 2, KILN_BINARY_DIVIDE = 3,
  KILN_BINARY_LOGISTIC_LOSS = 4, /* log(1 + exp(a)) - a b */
  KILN_BINARY_LOGISTIC_SLOPE = 5, /* sigmoid(a) - b */
  KILN_BINARY_MINIMUM = 6, KILN_BINARY_MAXIMUM = 7, KILN_BINARY_POWER = 8,
  KILN_BINARY_POWER_SLOPE = 9, /* a^b log(a), 0 where a is 0 and b is not negative */
  KILN_BINARY_LESS = 10,       /* 1 or 0, as the others */
  KILN_BINARY_LESS_EQUAL = 11,
  KILN_BINARY_EQUAL = 12,
  KILN_BINARY_MAXIMUM_SHARE = 13 /* 0 where a < b, 1/2 where they are equal, else 1 */
};

/* What a link of a chain does with its arguments x, y and z. */
enum KilnLinkKind {
  KILN_LINK_COPY = 0,           /* x */
  KILN_LINK_UNARY = 1,          /* KilnUnary of x */
  KILN_LINK_UNARY_GRADIENT = 2, /* derivative of KilnUnary, from x, times y */
  KILN_LINK_BINARY = 3,         /* KilnBinary of x and y */
  KILN_LINK_MASK_NONZERO = 4,   /* x != 0 ? parameter * y : 0 */
  KILN_LINK_WHERE = 5           /* x != 0 ? y : z */
};

/* How the elements of one thread are read. */
enum KilnChainAccess {
  KILN_CHAIN_DENSE = 0,   /* as many as the results have, in their order: 16 bytes at a time */
  KILN_CHAIN_NUMBER = 1,  /* one number */
  KILN_CHAIN_ALIGNED = 2, /* strided; a thread's elements are neighbours, aligned to their size */
  KILN_CHAIN_ROW = 3,     /* strided; a thread's elements lie within the innermost extent */
  KILN_CHAIN_SINGLE = 4   /* strided, element by element */
};

/* How numbers of a chain lie in memory. */
enum KilnChainStorage {
  KILN_CHAIN_T = 0,      /* T */
  KILN_CHAIN_F32 = 1,    /* f32 */
  KILN_CHAIN_ROUNDED = 2 /* f32, rounded to T; results alone */
};

/* Whether a result replaces what its buffer holds or is added to it. */
enum KilnStore { KILN_STORE_OVERWRITE = 0, KILN_STORE_ACCUMULATE = 1 };

/* Most operands, links, results, kept values and extents of an operand of chain_T. */
#define KILN_CHAIN_OPERANDS 8
#define KILN_CHAIN_LINKS 24
#define KILN_CHAIN_RESULTS 8
#define KILN_CHAIN_KEPT 4
#define KILN_CHAIN_AXES 8
/* Arguments of a link: the value of the link before, kept values from here on, operands from there on. */
#define KILN_CHAIN_LAST 0
#define KILN_CHAIN_FIRST_KEPT 1
#define KILN_CHAIN_FIRST_OPERAND 8
/* A link's value is not kept, or not stored. */
#define KILN_CHAIN_NOWHERE 255

typedef struct KilnChainOperand {
  const void* x;
  enum KilnChainStorage storage;
  enum KilnChainAccess access;
  unsigned int axes;                    /* of the extents below; none for dense operands and numbers */
  KilnDivider extents[KILN_CHAIN_AXES]; /* of the results, innermost first */
  unsigned int strides[KILN_CHAIN_AXES]; /* of x, in elements */
} KilnChainOperand;

typedef struct KilnChainResult {
  void* y; /* [count]; may be a dense operand of the same storage */
  enum KilnChainStorage storage;
} KilnChainResult;

typedef struct KilnChainLink {
  unsigned char kind;         /* KilnLinkKind */
  unsigned char function;     /* KilnUnary or KilnBinary */
  unsigned char arguments[3]; /* KILN_CHAIN_LAST, .. */
  unsigned char keep;         /* which kept value it becomes */
  unsigned char store;        /* which result it is */
  float parameters[2];
} KilnChainLink;

/* chain_T: a run of operations on each element. */
typedef struct KilnChainParams {
  unsigned int count; /* elements of each result */
  unsigned int length;
  KilnChainLink links[KILN_CHAIN_LINKS];
  KilnChainOperand operands[KILN_CHAIN_OPERANDS];
  KilnChainResult results[KILN_CHAIN_RESULTS];
} KilnChainParams;

/* dropout_T: y = kept ? scale * x : 0. The gradient is the same kernel on dy. y may be x. */
typedef struct KilnDropoutParams {
  void* y;                    /* T [samples, elements] */
  const void* x;              /* T [samples, elements] */
  const KilnScalars* scalars; /* pass, sample_offset */
  unsigned int samples;
  unsigned int elements; /* per sample, in mask order */
  KilnDivider blocks;    /* ceil(elements / 8), the Philox calls per sample */
  unsigned int offset_factor; /* 0 for weights, whose mask all runs of a pass share; else 1 */
  KilnMask mask;
} KilnDropoutParams;

/* sum_rows_T, sum_middle_T: y[o, i] = (accumulate ? y : 0) + scale * sum over r of x[o, r, i], always in the same order. */
typedef struct KilnReduceParams {
  float* y;              /* [outer, inner] */
  const void* x;         /* T [outer, reduced, inner]; sum_rows_T needs inner == 1 */
  float* partials;       /* [splits, outer, inner], if splits > 1 */
  unsigned int* tickets; /* one per block of (x, y), zero before and after, if splits > 1 */
  unsigned int outer;
  unsigned int reduced;
  unsigned int inner;
  unsigned int splits;
  float scale;
  enum KilnStore store;
} KilnReduceParams;

/* What becomes of the numbers along an extent. */
enum KilnFold { KILN_FOLD_SUM = 0, KILN_FOLD_MAX = 1, KILN_FOLD_MIN = 2 };

/* fold_rows_T, fold_columns_T, fold_any_T: sums or extremes along the middle of x. place_T: where the first of the most
 * extreme ones is. NaN is more extreme than any number. */
typedef struct KilnFoldParams {
  void* y;               /* f32 [outer, inner], of place_T u32 */
  const void* x;         /* T [outer, reduced, inner] */
  float* partials;       /* [splits, outer, inner], if splits > 1 */
  unsigned int* places;  /* the same, of place_T */
  unsigned int* tickets; /* one per block of x, zero before and after, if splits > 1 */
  enum KilnFold function;
  unsigned int lines; /* outer * inner */
  unsigned int reduced;
  unsigned int inner;
  unsigned int turns;  /* threads of a line, a power of two up to 256 */
  unsigned int splits; /* grid.z: parts of the reduced extent */
  KilnDivider columns; /* inner, of fold_columns_T inner / V */
} KilnFoldParams;

/* square_sum_f32: the Euclidean norm of one or more flat arrays, one launch each, and PyTorch's clipping factor
 * min(max_norm / (norm + 1e-6), 1). The last block of all launches writes both. Gaps between parameters count too and
 * must hold zeros. */
typedef struct KilnNormParams {
  const float* x;        /* [count] */
  float* norm;           /* [1] */
  float* coefficient;    /* [1] or null */
  float* partials;       /* [blocks] */
  unsigned int* tickets; /* [1], zero before the first launch and after the last */
  unsigned int count;
  unsigned int first_block; /* of this launch among those of all */
  unsigned int blocks;      /* of all launches */
  float max_norm;
} KilnNormParams;

/* unscale_f32: over gradients of a scaled loss in one or more flat arrays, one launch each. The last block of all launches
 * says whether one of them is not finite, what makes them the loss's own and clips them, and what their norm is then; it
 * lets the loss scale go on and puts the rates of the update in their place. */
typedef struct KilnUnscaleParams {
  const float* x;               /* [count] */
  float* coefficient;           /* [1]: 0 where the update is skipped */
  float* overflow;              /* [1]: the scale if a gradient is not finite, else 0 */
  float* norm;                  /* [1] or null */
  float* partials;              /* [2 * blocks] */
  unsigned int* tickets;        /* [1], zero before the first launch and after the last */
  KilnProgress* progress;       /* loss_scale, growth, skipped, found_inf */
  KilnScalars* scalars;         /* learning_rate, momentum, average: changed where more was skipped */
  const KilnLaterRates* later;  /* [1] */
  unsigned int count;
  unsigned int first_block; /* of this launch among those of all */
  unsigned int blocks;      /* of all launches */
  float max_norm;           /* 0: nothing is clipped */
  float growth_factor;
  float backoff_factor;
  unsigned int growth_interval; /* 0: the scale stays */
} KilnUnscaleParams;

/* count_pass_i64: state + 1. running_average_f32: kept * state + taken * statistic, or, with a count,
 * state + (taken * statistic - state) / count. */
typedef struct KilnStateParams {
  void* state;            /* i64 [1] or f32 [elements] */
  const float* statistic; /* [elements] */
  const long long* count; /* [1] or null */
  unsigned int elements;
  float kept;
  float taken;
} KilnStateParams;

/* softmax_T over the innermost extent, y may be x; softmax_gradient_T: (y, dy) -> dx, dx may be dy. */
typedef struct KilnSoftmaxParams {
  void* out;      /* T [rows, columns]: y or dx */
  const void* a;  /* T [rows, columns]: x or y */
  const void* dy; /* T [rows, columns], gradient only */
  unsigned int rows;
  unsigned int columns;
  unsigned int logarithm; /* 0: softmax, 1: log_softmax */
} KilnSoftmaxParams;

enum KilnReduction { KILN_REDUCTION_MEAN = 0, KILN_REDUCTION_SUM = 1, KILN_REDUCTION_NONE = 2 };

/* What PyTorch's CrossEntropyLoss is told. */
typedef struct KilnCrossEntropyLoss {
  const int* labels;          /* [rows] */
  const float* class_weights; /* [classes] or null */
  const float* dloss;         /* [1], [rows] for KILN_REDUCTION_NONE, or null for scalars->share */
  const float* loss_scale;    /* [1] factor of scalars->share, or null */
  const KilnScalars* scalars; /* share, if dloss is null; may be null where no gradient is wanted */
  const float* divisor;       /* [1] what a mean divides by, NaN for 0; or null: it is summed up */
  float* loss;                /* [1], or [rows] for KILN_REDUCTION_NONE */
  float* partials;            /* [grid.x], unused for KILN_REDUCTION_NONE */
  unsigned int* tickets;      /* [1], zero before and after, unused for KILN_REDUCTION_NONE */
  unsigned int rows;
  unsigned int classes;
  int ignore_index;
  float smoothing;
  enum KilnReduction reduction;
} KilnCrossEntropyLoss;

/* nll_T: the loss of logarithms in `scores`; nll_gradient_f32: its gradient, f32, to `d_scores`.
 * cross_entropy_T: loss and gradient in one launch. A label outside [0, classes) that is not ignored makes the loss NaN. */
typedef struct KilnCrossEntropyParams {
  KilnCrossEntropyLoss loss;
  const void* scores; /* T [rows, classes] */
  void* d_scores;     /* T [rows, classes] or null; may be scores */
} KilnCrossEntropyParams;

/* linear_cross_entropy_T: scores = x * weight^T + bias never leave the chip; classes <= KILN_LINEAR_LOSS_CLASSES. */
typedef struct KilnLinearCrossEntropyParams {
  KilnCrossEntropyLoss loss;
  const void* x;      /* T [rows, features] */
  const void* weight; /* T [classes, features] */
  const float* bias;  /* [classes] or null */
  void* d_scores;     /* T [rows, classes] or null */
  void* scores;       /* T [rows, classes] or null */
  unsigned int features;
  unsigned int rows_per_block; /* a multiple of 4, at most KILN_LINEAR_LOSS_ROWS */
} KilnLinearCrossEntropyParams;

enum KilnNesterov { KILN_NESTEROV_OFF = 0, KILN_NESTEROV_ON = 1 };
enum KilnDecay { KILN_DECAY_GRADIENT = 0, KILN_DECAY_DECOUPLED = 1 };

/* Neighbouring parameters that are trained alike: a part of flat arrays, with blocks of its own. */
typedef struct KilnStretch {
  unsigned int first_block; /* in the launch */
  unsigned int count;       /* elements, a multiple of KILN_OPTIMIZER_VECTOR */
  unsigned int start;       /* its first element in values, gradients, averages and shadow */
  unsigned int moments;     /* its first element in moments */
  unsigned int skipped;     /* updates that were made without it */
  float rate_factor;        /* of the learning rate */
  float weight_decay;       /* 0: values do not count, not even infinite ones */
} KilnStretch;

/* How copies of parameters lie in memory. */
enum KilnCopyType { KILN_COPY_F32 = 0, KILN_COPY_BF16 = 1, KILN_COPY_F16 = 2 };

/* A copy of a parameter whose rows and columns change places: [batch, columns, rows]. */
typedef struct KilnTurned {
  unsigned int start; /* the parameter's first element in values, a multiple of KILN_OPTIMIZER_VECTOR */
  unsigned int count; /* its elements: [batch, rows, columns] */
  KilnDivider columns, rows;
  enum KilnCopyType type;
  unsigned int unused;
  void* copy;
} KilnTurned;

/* sgd, sgd_momentum, adam over stretches of flat arrays, with PyTorch's rules. All launches of an update read the same
 * progress; the last of their blocks to have read it advances it. average_f32: the moving averages alone. */
typedef struct KilnOptimizerParams {
  float* values;
  const float* gradients;
  float* moment1;          /* momentum buffer or first moment; unused by sgd */
  float* moment2;          /* second moment; adam only */
  float* averages;         /* moving averages of the values, or null */
  unsigned short* shadow;  /* copy of the new values in 16 bits, or null */
  const KilnTurned* turned; /* [turned_count], by start: copies of the new values of some parameters */
  const float* coefficient; /* [1] factor of all gradients, or null */
  const float* overflow;    /* of average_f32: [1] nothing is moved unless it is 0, or null */
  const KilnScalars* scalars; /* learning_rate, momentum, average */
  KilnProgress* progress;     /* updates, found_inf; unused by average_f32, as the next three */
  unsigned int* tickets;      /* [1] of all launches of the update, zero before and after */
  double exact_beta2;         /* what beta2 was rounded from */
  unsigned int blocks;        /* of all launches of the update */
  float dampening;
  float beta2;
  float one_minus_beta2; /* rounded once: 1 - beta2 in f32 is off by 5e-5 of itself at 0.999 */
  float eps;
  enum KilnNesterov nesterov;
  enum KilnDecay decay;
  enum KilnCopyType shadow_type;
  unsigned int turned_count;
  unsigned int stretch_count;
  KilnStretch stretches[KILN_OPTIMIZER_STRETCHES];
} KilnOptimizerParams;

/* cast_S_T: y = x in another format. */
typedef struct KilnCastParams {
  void* y;
  const void* x;
  unsigned int count;
} KilnCastParams;

/* transpose_16, transpose_32: y = x^T for elements of 16 or 32 bits. */
typedef struct KilnTransposeParams {
  void* y;       /* [batch, columns, rows] */
  const void* x; /* [batch, rows, columns] */
  unsigned int rows;
  unsigned int columns;
} KilnTransposeParams;

/* Pieces of one copy_pieces launch. */
#define KILN_COPY_PIECES 8

/* A box of elements, outermost extent first, with the distances of neighbours in elements. */
typedef struct KilnBox {
  unsigned int rank;
  KilnDivider extents[KILN_MAX_RANK];
  unsigned int from[KILN_MAX_RANK]; /* 0 repeats */
  unsigned int to[KILN_MAX_RANK];
} KilnBox;

typedef struct KilnPiece {
  void* y;            /* the first element's place */
  const void* x;      /* the first element, or null for zeros */
  unsigned int count; /* product of the extents */
  KilnBox moved;
} KilnPiece;

/* copy_pieces_16, _32, _128: each piece to its place, in units of so many bits. grid.y: the pieces. */
typedef struct KilnCopyParams {
  KilnPiece pieces[KILN_COPY_PIECES];
} KilnCopyParams;

/* turn_16, turn_32: y[o, c, r] = x[o, r, c], where neighbours along c neighbour in x, and along r in y. */
typedef struct KilnTurnParams {
  void* y;
  const void* x;
  KilnBox outer;
  KilnDivider column_tiles; /* ceil(columns, KILN_TRANSPOSE_TILE); grid.x: these, the next, and the outer box */
  KilnDivider row_tiles;
  unsigned int columns;
  unsigned int rows;
  unsigned int from; /* distance of rows in x */
  unsigned int to;   /* distance of columns in y */
} KilnTurnParams;

/* take_16, _32, _128, gather_16, _32: slices or elements that indices name, in units of so many bits.
 * take_dropout_T: take, and dropout of what it yields. */
typedef struct KilnChoiceParams {
  void* y;            /* [outer, picks, inner] */
  const void* x;      /* [outer, rows, inner] */
  const int* index;   /* [picks]; of gather [outer, picks, inner] */
  unsigned int count; /* elements of y */
  unsigned int rows;
  KilnDivider inner;
  KilnDivider picks;
  unsigned int nan;           /* what an index without a row gives, repeated over a word */
  KilnDivider elements;       /* of take_dropout, as what follows: of a sample of y */
  const KilnScalars* scalars; /* pass, sample_offset */
  KilnMask mask;
} KilnChoiceParams;

/* Sums that a block of take_gradient_T holds, and indices that it lists at a time. */
#define KILN_CHOICE_SUMS 8192
#define KILN_CHOICE_LIST 1024

/* take_gradient_T, gather_gradient_T: the sums of what was taken from each row; T is the type of dy. */
typedef struct KilnChoiceGradientParams {
  float* dx;        /* [outer, rows, inner]; of gather zero before */
  const int* index; /* [picks]; of gather [outer, picks, inner] */
  const void* dy;   /* T [outer, picks, inner] */
  unsigned int rows;
  unsigned int picks;
  unsigned int inner;
  unsigned int lines;  /* outer * inner */
  KilnDivider columns; /* inner */
  unsigned int width;  /* of take: lines of a block, a power of two up to 256 */
  unsigned int group;  /* of take: rows of a block; group * width <= KILN_CHOICE_SUMS */
  KilnDivider groups;  /* of take: ceil(rows, group) */
  unsigned int drops;  /* of take, as what follows: whether dy is the gradient of what dropout left */
  KilnDivider elements; /* of a sample of dy */
  const KilnScalars* scalars;
  KilnMask mask;
} KilnChoiceGradientParams;

/* ---- matrix products ---- */

/* Tiles: rows x columns of the output per block, 64 or 128 each. On tensor cores they need aligned operands and extents no
 * smaller than the tile; `any` takes the rest. Depth in bytes of a k-step, so 32 elements of 16 bits or 16 of 32 bits. */
#define KILN_GEMM_DEPTH_BYTES 64
#define KILN_GEMM_STAGES 4
/* On devices with 100 KB of shared memory per multiprocessor (8.6, 8.9, 12.x), so that two blocks fit. */
#define KILN_GEMM_STAGES_SMALL 3
/* Threads per block of every tensor-core product. */
#define KILN_GEMM_THREADS 128
/* gemm_*_f32: depth in elements; 256 threads for the 128x128 tile, 128 for the others. */
#define KILN_GEMM_F32_DEPTH 16
#define KILN_GEMM_F32_STAGES 2
/* Elements that pad a row of the f32 product's shared tiles. */
#define KILN_GEMM_F32_PAD 4
/* Most classes of linear_cross_entropy_T, and most of its rows per block. */
#define KILN_LINEAR_LOSS_CLASSES 64
#define KILN_LINEAR_LOSS_ROWS 32
/* Most products of one gemm_tn launch. */
#define KILN_GEMM_GROUP 8
/* Columns of dy whose sums one block of a gemm_tn launch computes. */
#define KILN_GEMM_BIAS_COLUMNS 64

/* What gemm_nt does with a sum before it is stored: bias, activation, dropout, residual, in this order. */
typedef struct KilnLinearTail {
  const float* bias;          /* [n] or null */
  void* pre_activation;       /* T [m, n], receives sum + bias, or null */
  const void* residual;       /* T [m, n], added last, or null */
  const KilnScalars* scalars; /* pass, sample_offset, if there is dropout */
  enum KilnUnary activation;
  float activation_parameter;
  enum KilnRate dropout;
  KilnDivider rows; /* rows per sample: sample = sample_offset + row / rows, element = row % rows * columns + column */
  unsigned int columns; /* n */
  KilnMask mask;
} KilnLinearTail;

/* What gemm_nn does with a sum before it is stored: mask, then residual. */
typedef struct KilnInputGradientTail {
  const void* mask_source; /* T [m, n]: sums where it is zero become zero, others are scaled; or null */
  const void* residual;    /* T [m, n], added last, or null */
  float mask_scale;
} KilnInputGradientTail;

/* Partial sums of a product that is split along k. The last block to arrive adds them in the order of the splits. */
typedef struct KilnSplitK {
  float* partials;       /* [splits * padded m * padded n], if splits > 1; also of biases in parts */
  unsigned int* tickets; /* one per tile, zero before and after, if splits > 1; also of biases in parts */
  int splits;            /* grid.z; 1 for none */
} KilnSplitK;

/* Distances in elements between the matrices of a batch. Where a product is not split, grid.z counts the matrices. */
typedef struct KilnBatch {
  unsigned long long a, b, d;
} KilnBatch;

/* gemm_nt_*: d = tail(a [m, k] * b [n, k]^T); T is the type of a, b and d. Tails of batches are empty. */
typedef struct KilnLinearParams {
  void* d;
  const void* a;
  const void* b;
  int m, n, k;
  int lda, ldb, ldd;
  KilnSplitK split;
  KilnBatch batch;
  KilnLinearTail tail;
} KilnLinearParams;

/* gemm_nn_*: d = tail(a [m, k] * b [k, n]). */
typedef struct KilnInputGradientParams {
  void* d;
  const void* a;
  const void* b;
  int m, n, k;
  int lda, ldb, ldd;
  KilnSplitK split;
  KilnBatch batch;
  KilnInputGradientTail tail;
} KilnInputGradientParams;

/* One product of a gemm_tn launch: d = a [k, m]^T * b [k, n], in f32, and the column sums of a. */
typedef struct KilnWeightGradient {
  float* d;       /* [m, n] */
  float* d_bias;  /* [m] or null */
  const void* a;  /* T: dy */
  const void* b;  /* T: x */
  int m, n, k;
  int lda, ldb;
  unsigned int first_block; /* of this product in the launch: its tiles, row of tiles by row, then its bias blocks, run of
                             * columns by run */
  int ticket;               /* its first in split.tickets */
  enum KilnStore store;
  unsigned long long partials; /* its first element in split.partials */
  unsigned long long bias_partials; /* the same of [runs of columns, parts, KILN_GEMM_BIAS_COLUMNS], if bias_parts > 1 */
  int bias_ticket;                  /* in split.tickets, one per run of columns, if bias_parts > 1 */
  unsigned int bias_parts;          /* parts of the rows, each with blocks of its own; 1 or more where there is a bias */
} KilnWeightGradient;

/* gemm_tn_*: grid.x runs over the blocks of all products, grid.z over the splits, or a batch of each without a bias. */
typedef struct KilnWeightGradientParams {
  KilnWeightGradient products[KILN_GEMM_GROUP];
  KilnSplitK split;
  KilnBatch batch;
  int count;
} KilnWeightGradientParams;

#endif
