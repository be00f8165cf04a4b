// SPDX-License-Identifier: MIT OR Apache-2.0
// Convolutions of images that lie channels-last, as matrix products whose operands are found where they lie: nothing is
// written down in between. Any window of up to three extents, any stride, padding and dilation, any groups.
//
// conv: y [places, outputs] = x [places, taps * inputs] * weights^T; conv_pool the same with the places of a pool's window one
// behind the other. conv_input_gradient: dx [elements, inputs] = dy [elements, taps * outputs] * weights, where a tap finds the
// place that it was used at; conv_unpool the same where the images come from a pool. conv_statistics and
// conv_input_gradient_sums sum up the columns for batch norm along.
#include "lib/gemm/conv_columns.cuh"

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

// The largest of the rows of each window of a pool, on their way out: they follow each other in a thread that owns rows, else
// in neighbouring lanes. NaN is larger than all numbers; of equal elements the first counts, of several NaNs the last.
template <class Shape, class Tail> struct Largest {
  static constexpr bool kRowsOfThread = Shape::kStagingBytes == 0;
  static_assert(Shape::kOrder == Order::Plain, "rows that follow each other are in lanes that do");
  static constexpr int kUnroll = 1;
  const Tail& tail;
  int row, column;  // the tile's corner
  Window window;
  u32 bits;
  Chunk<8> largest;
  int from[8];  // elements of the window

  __device__ __forceinline__ Largest(const Tail& tail, int row, int column, const Window& window)
      : tail(tail), row(row), column(column), window(window), bits(bits_of_window(tail.p.windows)), largest{}, from{} {}

  __device__ __forceinline__ void operator()(int r, int c, const Chunk<8>& sum) {
    const int at_row = row + r, at_column = column + c;
    const u32 element = static_cast<u32>(at_row) & ((1u << bits) - 1);
    const Chunk<8> value = tail.activated(sum);
    if constexpr (kRowsOfThread) {
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        if (element == 0) largest.v[i] = -infinity();
        take(i, value.v[i], static_cast<int>(element), element == 0);
      }
      if (element != (1u << bits) - 1) return;
    } else {
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        largest.v[i] = value.v[i];
        from[i] = static_cast<int>(element);
      }
#pragma unroll 1
      for (u32 bit = 0; bit < bits; ++bit) {
        const int lanes = Shape::kWarpN / 8 << bit;
        const bool is_first = (element >> bit & 1) == 0;
#pragma unroll
        for (int i = 0; i < 8; ++i) {
          const float other = __shfl_xor_sync(kWholeWarp, largest.v[i], lanes);
          const int there = __shfl_xor_sync(kWholeWarp, from[i], lanes);
          if (is_first) {
            take(i, other, there, false);
          } else if (!(largest.v[i] > other) && largest.v[i] == largest.v[i]) {
            largest.v[i] = other;
            from[i] = there;
          }
        }
      }
      if (element != 0) return;
    }
    if (at_row >= window.row_end || at_column >= window.column_end) return;
    tail.finish(static_cast<u32>(at_row) >> bits, at_column, min(8, window.column_end - at_column), largest, from);
  }

 private:
  // A later element of the window.
  __device__ __forceinline__ void take(int i, float value, int element, bool is_first) {
    if (!is_first && !(value > largest.v[i]) && value == value) return;
    largest.v[i] = value;
    from[i] = element;
  }
};

// The product of a gathered operand and weights, for one block.
template <class Way, class Tail, Along along_b, bool pools, class B>
KILN_DEVICE void conv_product(const KilnConvParams& p, const ConvTile<typename Way::Shape>& tile, const B& weights) {
  using T = typename Way::Element;
  using A = GatheredRows<T>;
  using Product = typename Way::template Product<Along::K, A, along_b, B>;
  using Shape = typename Product::Shape;
  KILN_DYNAMIC_SHARED(u8, shared);
  KILN_SHARED(uint4, rows, Shape::kM);
  for (int i = static_cast<int>(threadIdx.x); i < Shape::kM; i += Shape::kThreads) {
    rows[i] = gather_row(p.gather, tile.row + i, p.m, pools ? &p.windows : nullptr);
  }
  __syncthreads();
  const u32 group_of_a = tile.group * p.gather.channels.divisor * p.gather.channel;
  const A a{p.gather, static_cast<const T*>(p.a) + group_of_a, rows, tile.row, finds_whole_chunks<T>(p.gather)};
  const Range k = split_range<T>(p.k, p.split.splits, static_cast<int>(blockIdx.z));
  Product product(
      shared, typename Way::template Loader<Along::K, Side::A, A>(a, tile.row, p.m, k),
      typename Way::template Loader<along_b, Side::B, B>(weights, tile.column, p.n, k), k);
  const Sums<Shape> sums = product.run(shared);

  const TileSums<Shape> parts = tile_sums(sums, p.split, 0, tile.index());
  if (!joins_splits(parts, p.split.tickets + tile.index(), shared)) return;
  const int group = tile.group * p.n, column = group + tile.column, end = group + p.n;
  const int first = column + Shape::column();
  const Tail tail(p, whole_chunks<T>(p.n, p.ld), first, min(8, end - first));
  const Window window{tile.row, column, p.m, end};
  if constexpr (pools) {
    each_chunk(parts, shared, Largest<Shape, Tail>(tail, tile.row, column, window));
  } else {
    each_chunk(parts, shared, Visitor<Bounds::Guarded, Tail>{tail, tile.row, column, window, p.ld});
  }
  if constexpr (kSumsColumns<Tail>) {
    constexpr int kWidth = Shape::kN / 8;
    const u32 place = static_cast<u32>(Shape::team() * kWidth + Shape::column() / 8);
    finish_columns(tail, p.columns, kWidth, place, first, min(8, end - first), reinterpret_cast<float*>(shared));
  }
}

template <class Way, class Tail, bool pools> KILN_DEVICE void conv(const KilnConvParams& p) {
  using T = typename Way::Element;
  const ConvTile<typename Way::Shape> tile(p);
  const T* const weights = static_cast<const T*>(p.b) + static_cast<size_t>(tile.group) * p.n * p.k;
  conv_product<Way, Tail, Along::K, pools>(p, tile, PlainMatrix<T, Along::K>{weights, p.k, p.k % kVector<T> == 0});
}

template <class Way, class Tail> KILN_DEVICE void conv_input_gradient(const KilnConvParams& p) {
  using T = typename Way::Element;
  const ConvTile<typename Way::Shape> tile(p);
  const T* const weights = static_cast<const T*>(p.b) + static_cast<size_t>(tile.group) * p.n * p.k;
  const WeightsByTap<T> b{p.gather, weights, static_cast<int>(taps_of(p.gather)), p.n, p.n % kVector<T> == 0};
  conv_product<Way, Tail, Along::Outer, false>(p, tile, b);
}

extern "C" __global__ void __launch_bounds__(KILN_GEMM_THREADS, 3) conv_f32(const __grid_constant__ KilnConvParams p) {
  conv<InFullF32, ConvTail<float>, false>(p);
}
KILN_EXPORT(conv_f32)
extern "C" __global__ void __launch_bounds__(KILN_GEMM_THREADS, 3) conv_tf32(const __grid_constant__ KilnConvParams p) {
  conv<OnTensorCores<float>, ConvTail<float>, false>(p);
}
KILN_EXPORT(conv_tf32)
extern "C" __global__ void __launch_bounds__(KILN_GEMM_THREADS, 3) conv_bf16(const __grid_constant__ KilnConvParams p) {
  conv<OnTensorCores<Bf16>, ConvTail<Bf16>, false>(p);
}
KILN_EXPORT(conv_bf16)
extern "C" __global__ void __launch_bounds__(KILN_GEMM_THREADS, 3) conv_f16(const __grid_constant__ KilnConvParams p) {
  conv<OnTensorCores<F16>, ConvTail<F16>, false>(p);
}
KILN_EXPORT(conv_f16)
extern "C" __global__ void __launch_bounds__(KILN_GEMM_THREADS, 3) conv_pool_f32(const __grid_constant__ KilnConvParams p) {
  conv<InFullF32, ConvPoolTail<float>, true>(p);
}
KILN_EXPORT(conv_pool_f32)
extern "C" __global__ void __launch_bounds__(KILN_GEMM_THREADS, 3) conv_pool_tf32(const __grid_constant__ KilnConvParams p) {
  conv<OnTensorCores<float>, ConvPoolTail<float>, true>(p);
}
KILN_EXPORT(conv_pool_tf32)
extern "C" __global__ void __launch_bounds__(KILN_GEMM_THREADS, 3) conv_pool_bf16(const __grid_constant__ KilnConvParams p) {
  conv<OnTensorCores<Bf16>, ConvPoolTail<Bf16>, true>(p);
}
KILN_EXPORT(conv_pool_bf16)
extern "C" __global__ void __launch_bounds__(KILN_GEMM_THREADS, 3) conv_pool_f16(const __grid_constant__ KilnConvParams p) {
  conv<OnTensorCores<F16>, ConvPoolTail<F16>, true>(p);
}
KILN_EXPORT(conv_pool_f16)
extern "C" __global__ void __launch_bounds__(KILN_GEMM_THREADS, 3) conv_input_gradient_f32(const __grid_constant__ KilnConvParams p) {
  conv_input_gradient<InFullF32, ConvInputGradientTail<float>>(p);
}
KILN_EXPORT(conv_input_gradient_f32)
extern "C" __global__ void __launch_bounds__(KILN_GEMM_THREADS, 3) conv_input_gradient_tf32(const __grid_constant__ KilnConvParams p) {
  conv_input_gradient<OnTensorCores<float>, ConvInputGradientTail<float>>(p);
}
KILN_EXPORT(conv_input_gradient_tf32)
extern "C" __global__ void __launch_bounds__(KILN_GEMM_THREADS, 3) conv_input_gradient_bf16(const __grid_constant__ KilnConvParams p) {
  conv_input_gradient<OnTensorCores<Bf16>, ConvInputGradientTail<Bf16>>(p);
}
KILN_EXPORT(conv_input_gradient_bf16)
extern "C" __global__ void __launch_bounds__(KILN_GEMM_THREADS, 3) conv_input_gradient_f16(const __grid_constant__ KilnConvParams p) {
  conv_input_gradient<OnTensorCores<F16>, ConvInputGradientTail<F16>>(p);
}
KILN_EXPORT(conv_input_gradient_f16)
extern "C" __global__ void __launch_bounds__(KILN_GEMM_THREADS, 3) conv_unpool_f32(const __grid_constant__ KilnConvParams p) {
  conv_input_gradient<InFullF32, ConvUnpoolTail<float>>(p);
}
KILN_EXPORT(conv_unpool_f32)
extern "C" __global__ void __launch_bounds__(KILN_GEMM_THREADS, 3) conv_unpool_tf32(const __grid_constant__ KilnConvParams p) {
  conv_input_gradient<OnTensorCores<float>, ConvUnpoolTail<float>>(p);
}
KILN_EXPORT(conv_unpool_tf32)
extern "C" __global__ void __launch_bounds__(KILN_GEMM_THREADS, 3) conv_unpool_bf16(const __grid_constant__ KilnConvParams p) {
  conv_input_gradient<OnTensorCores<Bf16>, ConvUnpoolTail<Bf16>>(p);
}
KILN_EXPORT(conv_unpool_bf16)
extern "C" __global__ void __launch_bounds__(KILN_GEMM_THREADS, 3) conv_unpool_f16(const __grid_constant__ KilnConvParams p) {
  conv_input_gradient<OnTensorCores<F16>, ConvUnpoolTail<F16>>(p);
}
KILN_EXPORT(conv_unpool_f16)
extern "C" __global__ void __launch_bounds__(KILN_GEMM_THREADS, 3) conv_statistics_f32(const __grid_constant__ KilnConvParams p) {
  conv<InFullF32, ConvStatisticsTail<float>, false>(p);
}
KILN_EXPORT(conv_statistics_f32)
extern "C" __global__ void __launch_bounds__(KILN_GEMM_THREADS, 3) conv_statistics_tf32(const __grid_constant__ KilnConvParams p) {
  conv<OnTensorCores<float>, ConvStatisticsTail<float>, false>(p);
}
KILN_EXPORT(conv_statistics_tf32)
extern "C" __global__ void __launch_bounds__(KILN_GEMM_THREADS, 3) conv_statistics_bf16(const __grid_constant__ KilnConvParams p) {
  conv<OnTensorCores<Bf16>, ConvStatisticsTail<Bf16>, false>(p);
}
KILN_EXPORT(conv_statistics_bf16)
extern "C" __global__ void __launch_bounds__(KILN_GEMM_THREADS, 3) conv_statistics_f16(const __grid_constant__ KilnConvParams p) {
  conv<OnTensorCores<F16>, ConvStatisticsTail<F16>, false>(p);
}
KILN_EXPORT(conv_statistics_f16)
extern "C" __global__ void __launch_bounds__(KILN_GEMM_THREADS, 3) conv_input_gradient_sums_f32(const __grid_constant__ KilnConvParams p) {
  conv_input_gradient<InFullF32, ConvInputGradientSumsTail<float>>(p);
}
KILN_EXPORT(conv_input_gradient_sums_f32)
extern "C" __global__ void __launch_bounds__(KILN_GEMM_THREADS, 3) conv_input_gradient_sums_tf32(const __grid_constant__ KilnConvParams p) {
  conv_input_gradient<OnTensorCores<float>, ConvInputGradientSumsTail<float>>(p);
}
KILN_EXPORT(conv_input_gradient_sums_tf32)
extern "C" __global__ void __launch_bounds__(KILN_GEMM_THREADS, 3) conv_input_gradient_sums_bf16(const __grid_constant__ KilnConvParams p) {
  conv_input_gradient<OnTensorCores<Bf16>, ConvInputGradientSumsTail<Bf16>>(p);
}
KILN_EXPORT(conv_input_gradient_sums_bf16)
extern "C" __global__ void __launch_bounds__(KILN_GEMM_THREADS, 3) conv_input_gradient_sums_f16(const __grid_constant__ KilnConvParams p) {
  conv_input_gradient<OnTensorCores<F16>, ConvInputGradientSumsTail<F16>>(p);
}
KILN_EXPORT(conv_input_gradient_sums_f16)
