// SPDX-License-Identifier: MIT OR Apache-2.0
// The three products of a linear layer, for one block: forward (nt), input gradient (nn), weight gradients (tn).
#pragma once
#include "tails.cuh"

// The corner of a tile that would reach over the matrix's edge moves inside: no predicates, some outputs twice.
template <Bounds bounds> KILN_DEVICE int corner(int owned, int size, int extent) {
  return bounds == Bounds::Inside ? min(owned, extent - size) : owned;
}

// Which part of k a block sums up, and which pair of a batch it multiplies: the only one where tiles are larger than
// 64 x 64, since their kernels have no registers left for more.
struct Share {
  int part;
  size_t pair;
};
template <class Shape> KILN_DEVICE Share share_of_block(const KilnSplitK& split) {
  if constexpr (Shape::kM * Shape::kN > 64 * 64) return Share{static_cast<int>(blockIdx.z), 0};
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
  const Share share = share_of_block<Shape>(p.split);
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

// Adds every Step-th row of eight columns from `row` on. The loads of several rows are on their way together.
template <class T, int Step> KILN_DEVICE void add_rows(Chunk<8>& sum, const KilnWeightGradient& p, int column, int row, int end) {
  constexpr int kRows = 64 / static_cast<int>(sizeof(T)) / 4;  // 128 bytes of a thread
  const int count = min(8, p.m - column);
  const bool whole = count == 8 && p.lda % kVector<T> == 0;
  const T* const first = static_cast<const T*>(p.a) + column;
  const auto at = [&](int k) { return first + static_cast<size_t>(k) * p.lda; };
  const auto add = [&](const Chunk<8>& dy) {
#pragma unroll
    for (int i = 0; i < 8; ++i) sum.v[i] += dy.v[i];
  };
  for (; whole && row + (kRows - 1) * Step < end; row += kRows * Step) {
    Chunk<8> dy[kRows];
#pragma unroll
    for (int i = 0; i < kRows; ++i) dy[i] = load_chunk<8>(at(row + i * Step));
#pragma unroll
    for (int i = 0; i < kRows; ++i) add(dy[i]);
  }
  for (; count > 0 && row < end; row += Step) add(whole ? load_chunk<8>(at(row)) : load_chunk_part<8>(at(row), count));
}

// Column sums of dy [k, m] for KILN_GEMM_BIAS_COLUMNS columns, eight per thread, over one of p.bias_parts parts of the
// rows. The last block of the columns adds the parts in their order.
template <class T, int Threads>
KILN_DEVICE void bias_gradient(const KilnWeightGradient& p, const KilnSplitK& split, int block, u8* memory) {
  constexpr int kColumns = KILN_GEMM_BIAS_COLUMNS, kGroups = kColumns / 8, kRows = Threads / kGroups;
  float* const shared = reinterpret_cast<float*>(memory);  // [kRows][kColumns]
  const int thread = static_cast<int>(threadIdx.x), group = thread % kGroups, row = thread / kGroups;
  const int parts = static_cast<int>(p.bias_parts), run = block / parts, part = block % parts;
  const int rows = ceil_div(p.k, parts), begin = part * rows;
  Chunk<8> sum = {};
  add_rows<T, kRows>(sum, p, run * kColumns + group * 8, begin + row, min(p.k, begin + rows));
#pragma unroll
  for (int i = 0; i < 8; ++i) shared[row * kColumns + group * 8 + i] = sum.v[i];
  __syncthreads();
  const int mine = run * kColumns + thread;
  const bool writes = thread < kColumns && mine < p.m;
  float total = 0.0f;
  for (int r = 0; writes && r < kRows; ++r) total += shared[r * kColumns + thread];
  if (parts > 1) {
    float* const partials = split.partials + p.bias_partials + static_cast<size_t>(run) * parts * kColumns + thread;
    if (writes) partials[part * kColumns] = total;
    if (!arrives_last(split.tickets + p.bias_ticket + run, parts, reinterpret_cast<u32*>(shared + kRows * kColumns))) return;
    total = 0.0f;
#pragma unroll 4
    for (int other = 0; other < (writes ? parts : 0); ++other) total += __ldcg(partials + other * kColumns);
  }
  if (!writes) return;
  p.d_bias[mine] = p.store == KILN_STORE_ACCUMULATE ? p.d_bias[mine] + total : total;
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
    if (blockIdx.z == 0) bias_gradient<T, Shape::kThreads>(weights, p.split, block - tiles, shared);
    return;
  }
  const Window window{block / across * Shape::kM, block % across * Shape::kN, weights.m, weights.n};
  const int row = corner<kBounds>(window.row, Shape::kM, weights.m);
  const int column = corner<kBounds>(window.column, Shape::kN, weights.n);
  const Share share = share_of_block<Shape>(p.split);
  const Operand<T> a{static_cast<const T*>(weights.a) + share.pair * p.batch.a, weights.lda};
  const Operand<T> b{static_cast<const T*>(weights.b) + share.pair * p.batch.b, weights.ldb};
  const Range range = split_range<T>(weights.k, p.split.splits, share.part);
  Product product(shared, a, b, row, column, weights.m, weights.n, range);
  const Sums<Shape> sums = product.run(shared);

  // Looked up again: the main loop has the registers.
  const KilnWeightGradient& summed = p.products[known_from_here(index)];
  const int of_product = static_cast<int>(blockIdx.x - summed.first_block);
  const TileSums<Shape> tile = tile_sums(sums, p.split, summed.partials, of_product);
  if (!joins_splits(tile, p.split.tickets + summed.ticket + of_product, shared)) return;
  const WeightGradientTail<kBounds> tail(summed.d + share.pair * p.batch.d, summed.store, summed.n);
  each_chunk(tile, shared, Visitor<kBounds, WeightGradientTail<kBounds>>{tail, row, column, window, summed.n});
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
