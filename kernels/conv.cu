// SPDX-License-Identifier: MIT OR Apache-2.0
// Convolutions of images that lie channels-last, as matrix products whose operands are found where they lie: nothing is
// written down in between. Any window of up to three extents, any stride, padding and dilation, any groups.
//
// conv: y [places, outputs] = x [places, taps * inputs] * weights^T. conv_input_gradient: dx [elements, inputs] = dy [elements,
// taps * outputs] * weights, where a tap finds the place that it was used at. conv_weight_gradient: dw [outputs, taps *
// inputs] = dy^T * x.
#include "lib/gemm/find.cuh"
#include "lib/gemm/tails.cuh"

// The tile of a block, and its group.
template <class Shape> struct ConvTile {
  int group, row, column;  // column within the group

  template <class Params> __device__ __forceinline__ explicit ConvTile(const Params& p) {
    const Quotient tile = divide(blockIdx.y, p.column_tiles);
    group = static_cast<int>(tile.quotient);
    row = static_cast<int>(blockIdx.x) * Shape::kM;
    column = static_cast<int>(tile.remainder) * Shape::kN;
  }
  __device__ __forceinline__ static size_t index() { return static_cast<size_t>(blockIdx.y) * gridDim.x + blockIdx.x; }
};

// Whether chunks of so many elements begin at 16 bytes in both a group and a row.
template <class T> KILN_DEVICE bool whole_chunks(u32 of_group, u32 of_row) {
  return of_group % kVector<T> == 0 && of_row % kVector<T> == 0;
}

// Bias, activation, dropout. Columns count the channels of all groups.
template <class T> struct ConvTail {
  static constexpr int kUnroll = 1;
  const KilnConvParams& p;
  T* d;
  Access<T, Bounds::Guarded> access;
  Chunk<8> bias;

  __device__ __forceinline__ ConvTail(const KilnConvParams& params, bool aligned, int column, int count)
      : p(params), d(static_cast<T*>(params.d)), access{aligned}, bias{} {
    if (p.bias != nullptr && count > 0) bias = load_chunk_part<8>(p.bias + column, count);
  }
  __device__ __forceinline__ void finish(const Spot& spot, Chunk<8> sum) const {
#pragma unroll
    for (int i = 0; i < 8; ++i) sum.v[i] += bias.v[i];
    activate(sum, p.activation, p.activation_parameter);
    if (p.dropout) {
#pragma unroll
      for (float& x : sum.v) x *= p.mask.scale;
      const Quotient place = divide(static_cast<u32>(spot.row), p.places);
      // Elements are counted through all places of a sample, channels in each anew.
      const u32 first = p.dropout == 1 ? place.remainder * static_cast<u32>(p.ld) : 0;
      const u32 element = first + static_cast<u32>(spot.column);
      select_kept(sum, keep_bits(p.mask, p.scalars->pass, p.scalars->sample_offset + place.quotient, element / kMaskBlock));
    }
    access.store(d + spot.at, sum, spot.count);
  }
};

template <class T> struct ConvInputGradientTail {
  static constexpr int kUnroll = 2;
  const KilnConvParams& p;
  T* d;
  Access<T, Bounds::Guarded> access;

  __device__ __forceinline__ ConvInputGradientTail(const KilnConvParams& params, bool aligned, int, int)
      : p(params), d(static_cast<T*>(params.d)), access{aligned} {}
  __device__ __forceinline__ void finish(const Spot& spot, Chunk<8> sum) const {
    if (p.mask_source != nullptr) {
      const Chunk<8> y = access.load(static_cast<const T*>(p.mask_source) + spot.at, spot.count);
#pragma unroll
      for (int i = 0; i < 8; ++i) sum.v[i] = y.v[i] != 0.0f ? sum.v[i] * p.mask_scale : 0.0f;
    }
    access.store(d + spot.at, sum, spot.count);
  }
};

// Weights lie [outputs, inputs, taps], sums come [outputs, taps * inputs].
struct ConvWeightTail {
  static constexpr int kUnroll = 1;
  const KilnConvParams& p;
  float* d;  // of the group
  u32 taps;

  __device__ __forceinline__ void finish(const Spot& spot, const Chunk<8>& sum) const {
    const u32 inputs = p.gather.channels.divisor;
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      if (i >= spot.count) continue;
      const Quotient column = divide(static_cast<u32>(spot.column + i), p.gather.channels);
      float* const to = d + (static_cast<size_t>(spot.row) * inputs + column.remainder) * taps + column.quotient;
      *to = p.store == KILN_STORE_ACCUMULATE ? *to + sum.v[i] : sum.v[i];
    }
  }
};

KILN_DEVICE u32 taps_of(const KilnGather& gather) {
  return gather.taps[0].divisor * gather.taps[1].divisor * gather.taps[2].divisor;
}

// The product of a gathered operand and weights, for one block.
template <class Way, class Tail, Along along_b, class B>
KILN_DEVICE void conv_product(const KilnConvParams& p, const ConvTile<typename Way::Shape>& tile, const B& weights) {
  using T = typename Way::Element;
  using Shape = typename Way::Shape;
  using A = GatheredRows<T>;
  KILN_DYNAMIC_SHARED(u8, shared);
  KILN_SHARED(uint4, rows, Shape::kM);
  for (int i = static_cast<int>(threadIdx.x); i < Shape::kM; i += Shape::kThreads) rows[i] = gather_row(p.gather, tile.row + i, p.m);
  __syncthreads();
  const u32 channels = p.gather.channels.divisor;
  const A a{p.gather, static_cast<const T*>(p.a) + tile.group * channels, rows, tile.row, whole_chunks<T>(channels, p.gather.stride)};
  const Range k = split_range<T>(p.k, p.split.splits, static_cast<int>(blockIdx.z));
  typename Way::template Product<Along::K, A, along_b, B> product(
      shared, typename Way::template Loader<Along::K, Side::A, A>(a, tile.row, p.m, k),
      typename Way::template Loader<along_b, Side::B, B>(weights, tile.column, p.n, k), k);
  const Sums<Shape> sums = product.run(shared);

  const TileSums<Shape> parts = tile_sums(sums, p.split, 0, tile.index());
  if (!joins_splits(parts, p.split.tickets + tile.index(), shared)) return;
  const int group = tile.group * p.n, column = group + tile.column, end = group + p.n;
  const int first = column + Shape::column();
  const Tail tail(p, whole_chunks<T>(p.n, p.ld), first, min(8, end - first));
  const Window window{tile.row, column, p.m, end};
  each_chunk(parts, shared, Visitor<Bounds::Guarded, Tail>{tail, tile.row, column, window, p.ld});
}

template <class Way> KILN_DEVICE void conv(const KilnConvParams& p) {
  using T = typename Way::Element;
  const ConvTile<typename Way::Shape> tile(p);
  const T* const weights = static_cast<const T*>(p.b) + static_cast<size_t>(tile.group) * p.n * p.k;
  conv_product<Way, ConvTail<T>, Along::K>(p, tile, PlainMatrix<T, Along::K>{weights, p.k, p.k % kVector<T> == 0});
}

template <class Way> KILN_DEVICE void conv_input_gradient(const KilnConvParams& p) {
  using T = typename Way::Element;
  const ConvTile<typename Way::Shape> tile(p);
  const T* const weights = static_cast<const T*>(p.b) + static_cast<size_t>(tile.group) * p.n * p.k;
  const WeightsByTap<T> b{p.gather, weights, static_cast<int>(taps_of(p.gather)), p.n, p.n % kVector<T> == 0};
  conv_product<Way, ConvInputGradientTail<T>, Along::Outer>(p, tile, b);
}

template <class Way> KILN_DEVICE void conv_weight_gradient(const KilnConvParams& p) {
  using T = typename Way::Element;
  using Shape = typename Way::Shape;
  using A = PlainMatrix<T, Along::Outer>;
  using B = GatheredColumns<T>;
  KILN_DYNAMIC_SHARED(u8, shared);
  const ConvTile<Shape> tile(p);
  const u32 channels = p.gather.channels.divisor;
  const A a{static_cast<const T*>(p.a) + tile.group * p.m, p.ld, whole_chunks<T>(p.m, p.ld)};
  const B b{p.gather, static_cast<const T*>(p.b) + tile.group * channels, p.k, whole_chunks<T>(channels, p.gather.stride)};
  const Range k = split_range<T>(p.k, p.split.splits, static_cast<int>(blockIdx.z));
  typename Way::template Product<Along::Outer, A, Along::Outer, B> product(
      shared, typename Way::template Loader<Along::Outer, Side::A, A>(a, tile.row, p.m, k),
      typename Way::template Loader<Along::Outer, Side::B, B>(b, tile.column, p.n, k), k);
  const Sums<Shape> sums = product.run(shared);

  const TileSums<Shape> parts = tile_sums(sums, p.split, 0, tile.index());
  if (!joins_splits(parts, p.split.tickets + tile.index(), shared)) return;
  const ConvWeightTail tail{p, static_cast<float*>(p.d) + static_cast<size_t>(tile.group) * p.m * p.n, taps_of(p.gather)};
  const Window window{tile.row, tile.column, p.m, p.n};
  each_chunk(parts, shared, Visitor<Bounds::Guarded, ConvWeightTail>{tail, tile.row, tile.column, window, p.n});
}

extern "C" __global__ void __launch_bounds__(KILN_GEMM_THREADS, 3) conv_f32(const __grid_constant__ KilnConvParams p) {
  conv<InFullF32>(p);
}
KILN_EXPORT(conv_f32)
extern "C" __global__ void __launch_bounds__(KILN_GEMM_THREADS, 3) conv_tf32(const __grid_constant__ KilnConvParams p) {
  conv<OnTensorCores<float>>(p);
}
KILN_EXPORT(conv_tf32)
extern "C" __global__ void __launch_bounds__(KILN_GEMM_THREADS, 3) conv_bf16(const __grid_constant__ KilnConvParams p) {
  conv<OnTensorCores<Bf16>>(p);
}
KILN_EXPORT(conv_bf16)
extern "C" __global__ void __launch_bounds__(KILN_GEMM_THREADS, 3) conv_f16(const __grid_constant__ KilnConvParams p) {
  conv<OnTensorCores<F16>>(p);
}
KILN_EXPORT(conv_f16)
extern "C" __global__ void __launch_bounds__(KILN_GEMM_THREADS, 3) conv_input_gradient_f32(const __grid_constant__ KilnConvParams p) {
  conv_input_gradient<InFullF32>(p);
}
KILN_EXPORT(conv_input_gradient_f32)
extern "C" __global__ void __launch_bounds__(KILN_GEMM_THREADS, 3) conv_input_gradient_tf32(const __grid_constant__ KilnConvParams p) {
  conv_input_gradient<OnTensorCores<float>>(p);
}
KILN_EXPORT(conv_input_gradient_tf32)
extern "C" __global__ void __launch_bounds__(KILN_GEMM_THREADS, 3) conv_input_gradient_bf16(const __grid_constant__ KilnConvParams p) {
  conv_input_gradient<OnTensorCores<Bf16>>(p);
}
KILN_EXPORT(conv_input_gradient_bf16)
extern "C" __global__ void __launch_bounds__(KILN_GEMM_THREADS, 3) conv_input_gradient_f16(const __grid_constant__ KilnConvParams p) {
  conv_input_gradient<OnTensorCores<F16>>(p);
}
KILN_EXPORT(conv_input_gradient_f16)
extern "C" __global__ void __launch_bounds__(KILN_GEMM_THREADS, 3) conv_weight_gradient_f32(const __grid_constant__ KilnConvParams p) {
  conv_weight_gradient<InFullF32>(p);
}
KILN_EXPORT(conv_weight_gradient_f32)
extern "C" __global__ void __launch_bounds__(KILN_GEMM_THREADS, 3) conv_weight_gradient_tf32(const __grid_constant__ KilnConvParams p) {
  conv_weight_gradient<OnTensorCores<float>>(p);
}
KILN_EXPORT(conv_weight_gradient_tf32)
extern "C" __global__ void __launch_bounds__(KILN_GEMM_THREADS, 3) conv_weight_gradient_bf16(const __grid_constant__ KilnConvParams p) {
  conv_weight_gradient<OnTensorCores<Bf16>>(p);
}
KILN_EXPORT(conv_weight_gradient_bf16)
extern "C" __global__ void __launch_bounds__(KILN_GEMM_THREADS, 3) conv_weight_gradient_f16(const __grid_constant__ KilnConvParams p) {
  conv_weight_gradient<OnTensorCores<F16>>(p);
}
KILN_EXPORT(conv_weight_gradient_f16)
