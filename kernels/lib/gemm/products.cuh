// SPDX-License-Identifier: MIT OR Apache-2.0
// The three products of a linear layer, for one block: forward (nt), input gradient (nn), weight gradients (tn).
#pragma once
#include "tails.cuh"

// The corner of a tile that would reach over the matrix's edge moves inside: no predicates, some outputs twice.
template <Bounds bounds> KILN_DEVICE int corner(int owned, int size, int extent) {
  return bounds == Bounds::Inside ? min(owned, extent - size) : owned;
}

// Which part of k a block sums up, and which pair of a batch it multiplies.
struct Share {
  int part;
  size_t pair;
};
KILN_DEVICE Share share_of_block(const KilnSplitK& split) {
  return split.splits > 1 ? Share{static_cast<int>(blockIdx.z), 0} : Share{0, blockIdx.z};
}

// gemm_nt and gemm_nn: Tail is made of p.tail. Grid: (tiles along m, tiles along n, splits or batch).
template <class Product, class Tail, class Params> KILN_DEVICE void linear_product(const Params& p) {
  using T = typename Product::Element;
  using Shape = typename Product::Shape;
  constexpr Bounds kBounds = Product::kBounds;
  KILN_DYNAMIC_SHARED(u8, shared);
  const Window window{static_cast<int>(blockIdx.x) * Shape::kM, static_cast<int>(blockIdx.y) * Shape::kN, p.m, p.n};
  const int row = corner<kBounds>(window.row, Shape::kM, p.m), column = corner<kBounds>(window.column, Shape::kN, p.n);
  const Share share = share_of_block(p.split);
  const Operand<T> a{static_cast<const T*>(p.a) + share.pair * p.batch.a, p.lda};
  const Operand<T> b{static_cast<const T*>(p.b) + share.pair * p.batch.b, p.ldb};
  const Range range = split_range<T>(p.k, p.split.splits, share.part);
  Product product(shared, a, b, row, column, p.m, p.n, range);
  const Sums<Shape> sums = product.run(shared);

  const size_t index = blockIdx.y * gridDim.x + blockIdx.x;
  const TileSums<Shape> tile = tile_sums(sums, p.split, 0, index);
  if (!joins_splits(tile, p.split.tickets + index, shared)) return;
  const int first = column + Shape::column();
  const Tail tail(p.tail, static_cast<T*>(p.d) + share.pair * p.batch.d, p.ldd, first, min(8, p.n - first));
  each_chunk(tile, shared, Visitor<kBounds, Tail>{tail, row, column, window, p.ldd});
}

// Column sums of dy [k, m] for KILN_GEMM_BIAS_COLUMNS columns: eight columns per thread.
template <class T, int Threads> KILN_DEVICE void bias_gradient(const KilnWeightGradient& p, int block, u8* memory) {
  constexpr int kGroups = KILN_GEMM_BIAS_COLUMNS / 8, kRows = Threads / kGroups;
  float* const shared = reinterpret_cast<float*>(memory);  // [kRows][KILN_GEMM_BIAS_COLUMNS]
  const int group = static_cast<int>(threadIdx.x) % kGroups, row = static_cast<int>(threadIdx.x) / kGroups;
  const int column = block * KILN_GEMM_BIAS_COLUMNS + group * 8, count = min(8, p.m - column);
  const bool whole = count == 8 && p.lda % kVector<T> == 0;
  Chunk<8> sum = {};
  for (int k = row; count > 0 && k < p.k; k += kRows) {
    const T* from = static_cast<const T*>(p.a) + static_cast<size_t>(k) * p.lda + column;
    const Chunk<8> dy = whole ? load_chunk<8>(from) : load_chunk_part<8>(from, count);
#pragma unroll
    for (int i = 0; i < 8; ++i) sum.v[i] += dy.v[i];
  }
#pragma unroll
  for (int i = 0; i < 8; ++i) shared[row * KILN_GEMM_BIAS_COLUMNS + group * 8 + i] = sum.v[i];
  __syncthreads();
  const int mine = block * KILN_GEMM_BIAS_COLUMNS + static_cast<int>(threadIdx.x);
  if (threadIdx.x >= KILN_GEMM_BIAS_COLUMNS || mine >= p.m) return;
  float total = p.store == KILN_STORE_ACCUMULATE ? p.d_bias[mine] : 0.0f;
  for (int r = 0; r < kRows; ++r) total += shared[r * KILN_GEMM_BIAS_COLUMNS + threadIdx.x];
  p.d_bias[mine] = total;
}

// gemm_tn: grid.x runs over the tiles and bias blocks of all products, grid.z over the splits or the batch.
template <class Product> KILN_DEVICE void gemm_tn(const KilnWeightGradientParams& p) {
  using T = typename Product::Element;
  using Shape = typename Product::Shape;
  constexpr Bounds kBounds = Product::kBounds;
  KILN_DYNAMIC_SHARED(u8, shared);
  int index = 0;
  while (index + 1 < p.count && blockIdx.x >= p.products[index + 1].first_block) ++index;
  const KilnWeightGradient& weights = p.products[index];
  const int block = static_cast<int>(blockIdx.x - weights.first_block);
  const int across = ceil_div(weights.n, Shape::kN), tiles = ceil_div(weights.m, Shape::kM) * across;
  if (block >= tiles) {
    if (blockIdx.z == 0) bias_gradient<T, Shape::kThreads>(weights, block - tiles, shared);
    return;
  }
  const Window window{block / across * Shape::kM, block % across * Shape::kN, weights.m, weights.n};
  const int row = corner<kBounds>(window.row, Shape::kM, weights.m);
  const int column = corner<kBounds>(window.column, Shape::kN, weights.n);
  const Share share = share_of_block(p.split);
  const Operand<T> a{static_cast<const T*>(weights.a) + share.pair * p.batch.a, weights.lda};
  const Operand<T> b{static_cast<const T*>(weights.b) + share.pair * p.batch.b, weights.ldb};
  const Range range = split_range<T>(weights.k, p.split.splits, share.part);
  Product product(shared, a, b, row, column, weights.m, weights.n, range);
  const Sums<Shape> sums = product.run(shared);

  const TileSums<Shape> tile = tile_sums(sums, p.split, weights.partials, block);
  if (!joins_splits(tile, p.split.tickets + weights.ticket + block, shared)) return;
  const WeightGradientTail<kBounds> tail(weights.d + share.pair * p.batch.d, weights.store, weights.n);
  each_chunk(tile, shared, Visitor<kBounds, WeightGradientTail<kBounds>>{tail, row, column, window, weights.n});
}

// The kernels of one family on tensor cores.
template <class T, class Tile, Bounds bounds, template <class, Bounds> class Tail>
KILN_DEVICE void gemm_nt(const KilnLinearParams& p) {
  linear_product<Product<T, Tile, Along::K, Along::K, bounds>, Tail<T, bounds>>(p);
}
template <class T, class Tile, Bounds bounds> KILN_DEVICE void gemm_nn(const KilnInputGradientParams& p) {
  linear_product<Product<T, Tile, Along::K, Along::Outer, bounds>, InputGradientTail<T, bounds>>(p);
}
template <class T, class Tile, Bounds bounds> KILN_DEVICE void gemm_tn(const KilnWeightGradientParams& p) {
  gemm_tn<Product<T, Tile, Along::Outer, Along::Outer, bounds>>(p);
}
