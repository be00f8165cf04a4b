// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * What the host and the kernels of images agree on, beside abi.h and in its terms. Images are [samples, depth, height, width,
 * channels], leading extents of flat ones 1.
 */
#ifndef KILN_ABI_IMAGES_H
#define KILN_ABI_IMAGES_H

#include "abi.h"

/* dropout_channels_T: whole channels of x are dropped; y may be x. */
typedef struct KilnChannelDropoutParams {
  void* y;                    /* T [samples, positions, channels], channels last */
  const void* x;              /* T, the same */
  const KilnScalars* scalars; /* pass, sample_offset */
  unsigned int samples;
  unsigned int positions;
  unsigned int channels;
  KilnDivider blocks; /* ceil(channels / 8) */
  KilnDivider rows;   /* positions */
  KilnMask mask;
} KilnChannelDropoutParams;

/* take_bytes, take_bytes_ragged: samples by their numbers, of elements that bytes tell. take_bytes counts in units of four. */
typedef struct KilnTakeBytesParams {
  float* y;                    /* [picks, row] */
  const unsigned char* x;      /* [rows, row] */
  const unsigned int* palette; /* [channels, 256], bits of f32 */
  const int* index;            /* [picks] */
  unsigned int count;          /* units of y */
  unsigned int rows;
  KilnDivider row;   /* units of a sample */
  KilnDivider plane; /* units of a channel */
} KilnTakeBytesParams;

/* A window along one extent: elements of its image, places and their distance, taps and theirs, padding on either side. */
typedef struct KilnWindowAxis {
  KilnDivider image, places, stride;
  unsigned int kernel, dilation, before, after;
} KilnWindowAxis;

/* max_pool_T, avg_pool_T: x -> y; max_pool_gradient_T, avg_pool_gradient_T: y (dy) -> x (dx). If planar, y lies [samples,
 * channels, places]. */
typedef struct KilnPoolParams {
  void *y, *x; /* T [samples, places, channels], [samples, image, channels] */
  int* index;  /* of max_pool_T, [samples, places, channels]: the largest element's number in its image, or null */
  unsigned int samples, channels;
  KilnDivider chunks;       /* ceil(channels, V) */
  KilnWindowAxis window[3]; /* depth, height, width */
  unsigned int fixed, padded; /* sums are divided by `fixed`, or, if 0, by elements under the window, with or without padding */
  unsigned int planar;
} KilnPoolParams;

/* A matrix whose columns or rows are normalised. Of _columns_T: `width` threads along the columns, a power of two up to
 * 256, and `splits` parts of the rows, grid.y, merged by the last block. */
typedef struct KilnGroups {
  unsigned int rows, columns, width, splits;
  KilnDivider chunks;    /* ceil(columns, V) */
  float* partials;       /* [grid.x, splits, 2 V + 1, width], if splits > 1 */
  unsigned int* tickets; /* [grid.x], zero before and after, if splits > 1 */
} KilnGroups;

/* State that statistics move along: kept * state + taken * statistic, and the count of batches. Each may be null. */
typedef struct KilnRunning {
  float *mean, *variance;
  long long* count;
  float kept_mean, taken_mean, kept_variance, taken_variance;
} KilnRunning;

/* statistics_*: x -> mean, variance. line_*: y = (x - mean) * (gamma or 1) / sqrt(variance + eps) + (shift or 0), or, if
 * is_gradient, (2 * variance * (x - mean) + shift) / elements of a group, where variance and shift are the gradients of
 * variance and mean. normalize_gradient_*: dy -> y and the sums, gradients of the former line. What is not
 * needed may be null. */
typedef struct KilnNormalizeParams {
  void* y;             /* T [rows, columns]; may be dy */
  const void *x, *dy;  /* T [rows, columns] */
  float *mean, *variance, *gamma, *shift, *d_mean, *d_variance, *d_gamma, *d_beta; /* a number per group */
  float eps;
  unsigned int is_gradient;
  KilnGroups groups;
  KilnRunning running; /* of statistics_columns_T */
} KilnNormalizeParams;

/* Parts of what blocks along rows find of their columns that meet at a time. */
#define KILN_PARTS_TOGETHER 16

/* Batch norm over columns, with its neighbours. batch_apply_T: x -> y, normalised, then the residual added, then ReLU, then
 * dropout. batch_sums_T: dy -> d_gamma, d_beta, and d_mean, d_variance, the gradients of the statistics; with a source, dy
 * is zero where that is, and scaled elsewhere, and y, if not null, receives it. batch_gradient_T: dy, d_mean, d_variance ->
 * y, the gradient of x; with the same source. */
typedef struct KilnBatchNormParams {
  void* y;                                   /* T [rows, columns]; may be dy or the residual */
  const void *x, *dy, *source, *residual;    /* T [rows, columns]; the last two may be null */
  const float *mean, *variance, *gamma, *beta; /* [columns]; the last two may be null */
  float *d_mean, *d_variance, *d_gamma, *d_beta; /* [columns]; the last two may be null */
  const KilnScalars* scalars;                /* pass, sample_offset, if there is dropout */
  float eps, source_scale;
  enum KilnStore store; /* of d_gamma and d_beta */
  unsigned int relu, dropout; /* dropout as of KilnConvParams */
  KilnDivider places; /* rows of a sample */
  KilnMask mask;
  KilnGroups groups;
} KilnBatchNormParams;

/* classifier_head_T: y = batch_apply_T of x with ReLU, pooled = its means under windows that cover the image, plane by plane,
 * and as linear_cross_entropy_T goes on; and back: dy, zero where y is and scaled elsewhere, with the sums of batch_sums_T. */
typedef struct KilnHeadParams {
  KilnBatchNormParams batch; /* y: dy. groups: width = columns / V, a power of two; partials [grid.x + g, 2 V, width] and
                              * tickets [g + 1], where g = ceil(grid.x, KILN_PARTS_TOGETHER) */
  KilnCrossEntropyLoss loss; /* of a row for each block */
  const void* weight;        /* T [classes, columns, places] */
  const float* bias;         /* [classes] or null */
  void *pooled, *d_scores;   /* T [samples, columns, places], [samples, classes] */
  void* scores;              /* T [samples, classes] or null */
  unsigned int places[2], window[2]; /* along height and width; an image has their products */
} KilnHeadParams;

/* A term of a weighted sum: the operand's place, and its weight. */
typedef struct KilnTerm {
  unsigned int from;
  float weight;
} KilnTerm;

/* blend_T, blend_ragged_T: weighted sums along the middle extent, in chunks of V elements and one by one. */
typedef struct KilnBlendParams {
  void* y;                    /* T [outer, places, inner] */
  const void* x;              /* T [outer, extent, inner] */
  const unsigned int* starts; /* [places + 1]: where each place's terms begin */
  const KilnTerm* terms;
  unsigned int outer, extent;
  KilnDivider chunks, places; /* chunks of inner */
} KilnBlendParams;

/* Where an operand of a convolution lies in a tensor. Rows are positions, columns taps and, innermost, channels of the group;
 * along each extent it is at (position * scale + offset + tap * reach) / step, if that is whole, or zero. */
typedef struct KilnGather {
  KilnDivider positions[3], taps[3], steps[3]; /* depth, height, width; positions within a sample */
  int scales[3], offsets[3], reaches[3];
  unsigned int extents[3];                       /* positions of the tensor */
  unsigned int sample, position, channel;        /* distances of neighbours in elements */
  KilnDivider channels;                          /* those of a group */
} KilnGather;

/* Windows of a pool that follow each other without a gap, at most 4 elements each: an image's rows by window, and by place
 * within it. The gather's positions are windows. */
typedef struct KilnWindows {
  unsigned int shifts[3];   /* logarithms of the window's extents */
  unsigned int height, width; /* of the whole image */
  int* index;               /* like the pooled images: the largest element's number in its image, or null */
} KilnWindows;

/* Where results see few channels each, up to KILN_THIN_CHANNELS: most columns of a block, places of a thread, products that
 * are summed up for a result, floats between rows of weights in shared memory, and sums of a thread for a column. */
#define KILN_THIN_CHANNELS 4
#define KILN_THIN_COLUMNS 64
#define KILN_THIN_STRIP 4
#define KILN_THIN_PRODUCTS 180
#define KILN_THIN_PAD 4
#define KILN_THIN_HELD 9

/* What conv_statistics_T and conv_input_gradient_sums_T find of the columns of d, as statistics_columns_T and batch_sums_T
 * do. Where `blocks` is grid.x and `groups` ceil(blocks, KILN_PARTS_TOGETHER): */
typedef struct KilnColumnSums {
  float *mean, *variance; /* of statistics: [ld]; the second may be null */
  KilnRunning running;
  const void* x;          /* of sums: T [m, ld], of which mean, variance and gamma of the convolution are */
  float *d_mean, *d_variance, *d_gamma, *d_beta; /* [ld]; the last two may be null */
  enum KilnStore store;   /* of these */
  float* partials;        /* [grid.y, blocks + groups, 17, 8] */
  unsigned int* tickets;  /* [grid.y, groups + 1], zero before and after */
} KilnColumnSums;

/* conv_T: y from x, then bias, normalisation with known statistics, the residual, activation and dropout. conv_pool_T: y from x, then bias, ReLU, the largest of each window, and
 * dropout; m counts elements before they are pooled. conv_input_gradient_T: dx from dy, then the residual, then the mask.
 * conv_unpool_T: the same, then each result to the element of its window that the index names, zeros to the others.
 * d [m, ld] from a [m, k] and b; extents are those of a group. Those of _thin_T are not split.
 * conv_statistics_T: y from x, then bias; and the statistics of y. conv_input_gradient_sums_T: as without _sums; and the sums
 * of batch norm's gradient, of which dx is the result's. */
typedef struct KilnConvParams {
  void* d;       /* T [m, ld] */
  const void* a; /* T: gathered x or dy */
  const void* b; /* T [outputs, taps, inputs of a group]; of _thin_T [outputs, inputs of a group, taps] */
  KilnGather gather;
  int m, n, k, ld;
  KilnDivider column_tiles, places; /* ceil(n, 64); rows of a sample, where pooled those of results */
  KilnDivider strips; /* of _thin_T: ceil(the last of the gather's positions, KILN_THIN_STRIP) */
  KilnSplitK split;
  KilnWindows windows;
  unsigned int planar;        /* of conv_pool_T: whether d lies [samples, ld, places] */
  const float* bias;          /* [ld] or null */
  const void* residual;       /* T [m, ld] or null */
  const float *mean, *variance, *gamma, *beta; /* of conv_T: [ld] or null; the last two may be null alone */
  const void* mask_source;    /* T [m, ld] or null */
  const KilnScalars* scalars; /* pass, sample_offset, if there is dropout */
  enum KilnUnary activation;
  float activation_parameter, mask_scale, eps;
  unsigned int dropout; /* 0: off. 1: of elements, 2: of whole channels; channels of a group are a multiple of 8 */
  KilnMask mask;
  KilnColumnSums columns;
} KilnConvParams;

/* Most layers of one conv_weight_gradient launch. */
#define KILN_CONV_GROUP 4

/* What makes the gradient behind a batch norm's mask that of what was normalised, as batch_gradient_T does. */
typedef struct KilnBatchLine {
  const void* x; /* T [rows, columns]; null: there is no batch norm */
  const float *mean, *variance, *gamma, *d_mean, *d_variance; /* [columns]; gamma may be null */
  float eps;
} KilnBatchLine;

/* One layer's gradients: d = a^T b, f32, extents those of a group, and the sums of a's columns. The layer's blocks are those
 * of its tiles, rows of tiles first, then one for every 64 columns of a if d_bias is not null, each `splits` times. If thin, in _thin_T alone,
 * they are those of its units: for each width * 8 columns, ceil(n, KILN_THIN_HELD), with d_bias among them. */
typedef struct KilnConvWeightGradient {
  float* d;      /* [outputs, inputs of a group, taps] */
  float* d_bias; /* [ld] or null */
  const void* a; /* T [k, ld]: dy */
  const void* b; /* T: gathered x, [k, n] */
  KilnBatchLine line; /* of a, if thin */
  KilnGather gather;
  int m, n, k, ld;
  unsigned int groups, splits, thin;
  unsigned int first_block; /* in the launch */
  unsigned int ticket;      /* its first in tickets: one per tile, then one per 64 columns */
  /* Its first in partials: [tiles, splits, 64 * 64], then [ceil(ld, 64), splits, 64]; if thin, [units, splits,
   * KILN_THIN_HELD + 1, KILN_THIN_COLUMNS] */
  unsigned long long partials;
  enum KilnStore store;
} KilnConvWeightGradient;

typedef struct KilnConvWeightGradientParams {
  KilnConvWeightGradient layers[KILN_CONV_GROUP];
  unsigned int count;
  float* partials;
  unsigned int* tickets; /* zero before and after */
} KilnConvWeightGradientParams;

#endif
