// SPDX-License-Identifier: MIT OR Apache-2.0
// Gradients of the weights of convolutions, and of their biases: dw [outputs, taps * inputs] = dy^T * x, for several layers in
// one launch. The sums over the places of all samples are long, so each layer's are split as its own work asks for.
// conv_weight_gradient_thin: some of the layers have results that see few channels each; thin_weights.cuh says how they are summed
// up. That takes more registers, so launches without such layers have a kernel of their own.
#include "lib/gemm/find.cuh"
#include "lib/gemm/tails.cuh"
#include "lib/gemm/thin_weights.cuh"

// Weights lie [outputs, inputs, taps], sums come [outputs, taps * inputs].
struct ConvWeightTail {
  static constexpr int kUnroll = 1;
  const KilnConvWeightGradient& layer;
  float* d;  // of the group
  u32 taps;

  __device__ __forceinline__ void finish(const Spot& spot, const Chunk<8>& sum) const {
    const u32 inputs = layer.gather.channels.divisor;
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      if (i >= spot.count) continue;
      const Quotient column = divide(static_cast<u32>(spot.column + i), layer.gather.channels);
      float* const to = d + (static_cast<size_t>(spot.row) * inputs + column.remainder) * taps + column.quotient;
      *to = layer.store == KILN_STORE_ACCUMULATE ? *to + sum.v[i] : sum.v[i];
    }
  }
};

// A block's share of a layer.
struct LayerShare {
  u32 tiles;  // of the layer
  u32 unit;   // tile, or behind those columns
  u32 part;   // of k
};

// Column sums of dy for 64 columns: eight columns per thread.
template <class T, int Threads>
KILN_DEVICE void channel_sums(const KilnConvWeightGradientParams& p, const KilnConvWeightGradient& layer, const LayerShare& share,
                              const Range& k, size_t tile_area, u8* memory) {
  constexpr int kColumns = KILN_GEMM_BIAS_COLUMNS, kGroups = kColumns / 8, kRows = Threads / kGroups;
  float* const shared = reinterpret_cast<float*>(memory);  // [kRows][kColumns]
  const u32 block = share.unit - share.tiles;
  const int group = static_cast<int>(threadIdx.x) % kGroups, row = static_cast<int>(threadIdx.x) / kGroups;
  const int column = static_cast<int>(block) * kColumns + group * 8, count = min(8, layer.ld - column);
  const bool whole = count == 8 && layer.ld % kVector<T> == 0;
  Chunk<8> sum = {};
  for (int at = k.begin + row; count > 0 && at < k.end; at += kRows) {
    const T* const from = static_cast<const T*>(layer.a) + static_cast<size_t>(at) * layer.ld + column;
    const Chunk<8> dy = whole ? load_chunk<8>(from) : load_chunk_part<8>(from, count);
#pragma unroll
    for (int i = 0; i < 8; ++i) sum.v[i] += dy.v[i];
  }
#pragma unroll
  for (int i = 0; i < 8; ++i) shared[row * kColumns + group * 8 + i] = sum.v[i];
  __syncthreads();
  const int mine = static_cast<int>(block) * kColumns + static_cast<int>(threadIdx.x);
  const bool sums = threadIdx.x < kColumns;
  float total = 0.0f;
  if (sums) {
    for (int r = 0; r < kRows; ++r) total += shared[r * kColumns + threadIdx.x];
  }
  if (layer.splits > 1) {
    const size_t first = static_cast<size_t>(share.tiles) * layer.splits * tile_area;
    float* const parts = p.partials + layer.partials + first + static_cast<size_t>(block) * layer.splits * kColumns;
    if (sums) parts[share.part * kColumns + threadIdx.x] = total;
    u32* const slot = reinterpret_cast<u32*>(shared + kRows * kColumns);
    if (!arrives_last(p.tickets + layer.ticket + share.unit, layer.splits, slot)) return;
    total = 0.0f;
    if (sums) {
      for (u32 part = 0; part < layer.splits; ++part) total += __ldcg(parts + part * kColumns + threadIdx.x);
    }
  }
  if (!sums || mine >= layer.ld) return;
  layer.d_bias[mine] = layer.store == KILN_STORE_ACCUMULATE ? layer.d_bias[mine] + total : total;
}

template <class Way, bool some_thin> KILN_DEVICE void conv_weight_gradient(const KilnConvWeightGradientParams& p) {
  using T = typename Way::Element;
  using A = PlainMatrix<T, Along::Outer>;
  using B = GatheredColumns<T>;
  using Product = typename Way::template Product<Along::Outer, A, Along::Outer, B>;
  using Shape = typename Product::Shape;
  constexpr size_t kTileArea = Shape::kM * Shape::kN;
  KILN_DYNAMIC_SHARED(u8, shared);
  u32 index = 0;
  while (index + 1 < p.count && blockIdx.x >= p.layers[index + 1].first_block) ++index;
  const KilnConvWeightGradient& layer = p.layers[index];
  const u32 block = blockIdx.x - layer.first_block;
  if constexpr (some_thin) {
    if (layer.thin) {
      thin_gradient<T, Way::kCuts>(p, layer, block / layer.splits, block % layer.splits, shared);
      return;
    }
  }
  const u32 rows = ceil_div(layer.m, Shape::kM), columns = ceil_div(layer.n, Shape::kN);
  const LayerShare share{rows * columns * layer.groups, block / layer.splits, block % layer.splits};
  const Range k = split_range<T>(layer.k, static_cast<int>(layer.splits), static_cast<int>(share.part));
  if (share.unit >= share.tiles) {
    channel_sums<T, Shape::kThreads>(p, layer, share, k, kTileArea, shared);
    return;
  }
  const u32 across = share.unit / rows, group = across / columns;
  const int row = static_cast<int>(share.unit % rows) * Shape::kM, column = static_cast<int>(across % columns) * Shape::kN;
  const u32 group_of_b = group * layer.gather.channels.divisor * layer.gather.channel;
  const A a{static_cast<const T*>(layer.a) + group * layer.m, layer.ld, whole_chunks<T>(layer.m, layer.ld)};
  const B b{layer.gather, static_cast<const T*>(layer.b) + group_of_b, layer.k, finds_whole_chunks<T>(layer.gather)};
  Product product(
      shared, typename Way::template Loader<Along::Outer, Side::A, A>(a, row, layer.m, k),
      typename Way::template Loader<Along::Outer, Side::B, B>(b, column, layer.n, k), k);
  const Sums<Shape> sums = product.run(shared);

  const KilnSplitK split{p.partials, p.tickets, static_cast<int>(layer.splits)};
  const TileSums<Shape> parts = tile_sums(sums, split, layer.partials, share.unit);
  if (!joins_splits(parts, p.tickets + layer.ticket + share.unit, shared, share.part)) return;
  const ConvWeightTail tail{layer, layer.d + static_cast<size_t>(group) * layer.m * layer.n, taps_of(layer.gather)};
  const Window window{row, column, layer.m, layer.n};
  each_chunk(parts, shared, Visitor<Bounds::Guarded, ConvWeightTail>{tail, row, column, window, layer.n});
}

extern "C" __global__ void __launch_bounds__(KILN_GEMM_THREADS, 3)
    conv_weight_gradient_f32(const __grid_constant__ KilnConvWeightGradientParams p) {
  conv_weight_gradient<InFullF32, false>(p);
}
KILN_EXPORT(conv_weight_gradient_f32)
extern "C" __global__ void __launch_bounds__(KILN_GEMM_THREADS, 3)
    conv_weight_gradient_tf32(const __grid_constant__ KilnConvWeightGradientParams p) {
  conv_weight_gradient<OnTensorCores<float>, false>(p);
}
KILN_EXPORT(conv_weight_gradient_tf32)
extern "C" __global__ void __launch_bounds__(KILN_GEMM_THREADS, 3)
    conv_weight_gradient_bf16(const __grid_constant__ KilnConvWeightGradientParams p) {
  conv_weight_gradient<OnTensorCores<Bf16>, false>(p);
}
KILN_EXPORT(conv_weight_gradient_bf16)
extern "C" __global__ void __launch_bounds__(KILN_GEMM_THREADS, 3)
    conv_weight_gradient_f16(const __grid_constant__ KilnConvWeightGradientParams p) {
  conv_weight_gradient<OnTensorCores<F16>, false>(p);
}
KILN_EXPORT(conv_weight_gradient_f16)
extern "C" __global__ void __launch_bounds__(KILN_GEMM_THREADS, 3)
    conv_weight_gradient_thin_f32(const __grid_constant__ KilnConvWeightGradientParams p) {
  conv_weight_gradient<InFullF32, true>(p);
}
KILN_EXPORT(conv_weight_gradient_thin_f32)
extern "C" __global__ void __launch_bounds__(KILN_GEMM_THREADS, 3)
    conv_weight_gradient_thin_tf32(const __grid_constant__ KilnConvWeightGradientParams p) {
  conv_weight_gradient<OnTensorCores<float>, true>(p);
}
KILN_EXPORT(conv_weight_gradient_thin_tf32)
extern "C" __global__ void __launch_bounds__(KILN_GEMM_THREADS, 3)
    conv_weight_gradient_thin_bf16(const __grid_constant__ KilnConvWeightGradientParams p) {
  conv_weight_gradient<OnTensorCores<Bf16>, true>(p);
}
KILN_EXPORT(conv_weight_gradient_thin_bf16)
extern "C" __global__ void __launch_bounds__(KILN_GEMM_THREADS, 3)
    conv_weight_gradient_thin_f16(const __grid_constant__ KilnConvWeightGradientParams p) {
  conv_weight_gradient<OnTensorCores<F16>, true>(p);
}
KILN_EXPORT(conv_weight_gradient_thin_f16)
