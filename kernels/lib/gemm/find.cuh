// SPDX-License-Identifier: MIT OR Apache-2.0
// Operands of convolutions as matrices that nobody writes down: finders say where an element lies, and loaders bring
// tiles of what they find to shared memory.
//
// A finder: at(outer, k), the element's address or null for a zero, and `whole`: 16 bytes of elements along its memory's
// order lie together and aligned, and begin where multiples of their number are.
#pragma once
#include "ffma.cuh"
#include "abi_images.h"
#include "lib/divide.cuh"

// The sample and the place with this number among those of all samples.
struct Spread {
  u32 sample, at[3];
};
KILN_DEVICE Spread spread(const KilnDivider (&extents)[3], u32 number) {
  const Quotient width = divide(number, extents[2]);
  const Quotient height = divide(width.quotient, extents[1]);
  const Quotient depth = divide(height.quotient, extents[0]);
  return Spread{depth.quotient, {depth.remainder, height.remainder, width.remainder}};
}

// Elements of a pool's window, and where the one with this number lies in it.
KILN_DEVICE u32 bits_of_window(const KilnWindows& windows) { return windows.shifts[0] + windows.shifts[1] + windows.shifts[2]; }
KILN_DEVICE u32 element_along(const KilnWindows& windows, int axis, u32 element) {
  const u32 below = axis == 2 ? 0 : axis == 1 ? windows.shifts[2] : windows.shifts[2] + windows.shifts[1];
  return element >> below & ((1u << windows.shifts[axis]) - 1);
}
// The numbers within their image of a window's first element, and how far another lies from it.
KILN_DEVICE u32 first_of_window(const KilnWindows& windows, const Spread& window) {
  const u32 row = (window.at[0] << windows.shifts[0]) * windows.height + (window.at[1] << windows.shifts[1]);
  return row * windows.width + (window.at[2] << windows.shifts[2]);
}
KILN_DEVICE u32 within_window(const KilnWindows& windows, u32 element) {
  const u32 row = element_along(windows, 0, element) * windows.height + element_along(windows, 1, element);
  return row * windows.width + element_along(windows, 2, element);
}

// What a row of a gathered operand is: where its sample begins, and where its tap 0 lies along each extent. 16 bytes, so that
// a block keeps those of its tile in shared memory. With windows, rows are their elements.
constexpr int kNowhere = -(1 << 30);

KILN_DEVICE uint4 gather_row(const KilnGather& gather, int row, int rows, const KilnWindows* windows = nullptr) {
  if (row >= rows) return make_uint4(0, static_cast<u32>(kNowhere), 0, 0);
  const u32 bits = windows != nullptr ? bits_of_window(*windows) : 0;
  const Spread place = spread(gather.positions, static_cast<u32>(row) >> bits);
  const auto begin = [&](int axis) {
    u32 at = place.at[axis];
    if (windows != nullptr) at = (at << windows->shifts[axis]) + element_along(*windows, axis, static_cast<u32>(row));
    return at * static_cast<u32>(gather.scales[axis]) + static_cast<u32>(gather.offsets[axis]);
  };
  return make_uint4(place.sample * gather.sample, begin(0), begin(1), begin(2));
}

// How far a tap lies from tap 0.
struct GatherTap {
  int at[3];
};
KILN_DEVICE GatherTap gather_tap(const KilnGather& gather, u32 tap) {
  const Quotient width = divide(tap, gather.taps[2]);
  const Quotient height = divide(width.quotient, gather.taps[1]);
  return GatherTap{{static_cast<int>(height.quotient) * gather.reaches[0], static_cast<int>(height.remainder) * gather.reaches[1],
                    static_cast<int>(width.remainder) * gather.reaches[2]}};
}

// Where the first channel of a row's pixel under a tap lies, in elements; negative in the padding.
KILN_DEVICE int gather_pixel(const KilnGather& gather, const uint4& row, const GatherTap& tap) {
  const u32 begins[3] = {row.y, row.z, row.w};
  u32 pixel = 0;
#pragma unroll
  for (int axis = 0; axis < 3; ++axis) {
    u32 at = begins[axis] + static_cast<u32>(tap.at[axis]);
    if (gather.steps[axis].divisor != 1) {
      const Quotient step = divide(at, gather.steps[axis]);
      if (static_cast<int>(at) < 0 || step.remainder != 0) return -1;
      at = step.quotient;
    }
    if (at >= gather.extents[axis]) return -1;
    pixel = pixel * gather.extents[axis] + at;
  }
  return static_cast<int>(row.x + pixel * gather.position);
}

// Whether chunks of so many elements begin at 16 bytes in both a group and a row.
template <class T> KILN_DEVICE bool whole_chunks(u32 of_group, u32 of_row) {
  return of_group % kVector<T> == 0 && of_row % kVector<T> == 0;
}
template <class T> KILN_DEVICE bool finds_whole_chunks(const KilnGather& gather) {
  return gather.channel == 1 && whole_chunks<T>(gather.channels.divisor, gather.position);
}

KILN_DEVICE u32 taps_of(const KilnGather& gather) {
  return gather.taps[0].divisor * gather.taps[1].divisor * gather.taps[2].divisor;
}

// [positions, taps * channels], the rows of a tile in shared memory.
template <class T> struct GatheredRows {
  const KilnGather& gather;
  const T* data;      // the group's first channel
  const uint4* rows;  // the tile's
  int first;          // row of the tile
  bool whole;

  __device__ __forceinline__ const T* at(int outer, int k) const {
    const Quotient column = divide(static_cast<u32>(k), gather.channels);
    const int pixel = gather_pixel(gather, rows[outer - first], gather_tap(gather, column.quotient));
    return pixel < 0 ? nullptr : data + (static_cast<u32>(pixel) + column.remainder * gather.channel);
  }
};

// The same with positions along k.
template <class T> struct GatheredColumns {
  const KilnGather& gather;
  const T* data;
  int rows;
  bool whole;

  __device__ __forceinline__ const T* at(int outer, int k) const {
    const Quotient column = divide(static_cast<u32>(outer), gather.channels);
    const int pixel = gather_pixel(gather, gather_row(gather, k, rows), gather_tap(gather, column.quotient));
    return pixel < 0 ? nullptr : data + (static_cast<u32>(pixel) + column.remainder * gather.channel);
  }
};

// A matrix with rows along k, or along the outer extent.
template <class T, Along along> struct PlainMatrix {
  const T* data;
  int stride;
  bool whole;

  __device__ __forceinline__ const T* at(int outer, int k) const {
    return data + (along == Along::K ? static_cast<size_t>(outer) * stride + k : static_cast<size_t>(k) * stride + outer);
  }
};

// Weights [outputs, taps, inputs] as [taps * outputs, inputs].
template <class T> struct WeightsByTap {
  const KilnGather& gather;  // of results: its channels are the outputs
  const T* data;
  int taps, inputs;
  bool whole;

  __device__ __forceinline__ const T* at(int outer, int k) const {
    const Quotient row = divide(static_cast<u32>(k), gather.channels);
    return data + static_cast<size_t>(row.remainder * taps + row.quotient) * inputs + outer;
  }
};

// Brings tiles of what a finder finds to tensor cores: 16 bytes at a time where they lie together, else element by element.
template <class T, int Extent, Along along, class Finder> class FoundLoader {
  using Shared = SharedTile<T, Extent, along>;
  static constexpr int kPasses = Shared::kRows * Shared::kChunks / KILN_GEMM_THREADS;
  static constexpr int kStep = kVector<T>;

 public:
  __device__ __forceinline__ FoundLoader(const Finder& find, int outer, int outer_end, Range k)
      : find_(find), outer_(outer), outer_end_(outer_end), k_(k.begin), k_end_(k.end) {}

  __device__ __forceinline__ void first(u8* stage) { next(stage); }
  __device__ __forceinline__ void next(u8* stage) {
#pragma unroll
    for (int pass = 0; pass < kPasses; ++pass) {
      const int index = static_cast<int>(threadIdx.x) + pass * KILN_GEMM_THREADS;
      const int row = index / Shared::kChunks, chunk = index % Shared::kChunks;
      u8* const to = stage + Shared::offset(row, chunk);
      if (along == Along::K) {
        copy(to, outer_ + row, k_ + chunk * kStep);
      } else {
        copy(to, outer_ + chunk * kStep, k_ + row);
      }
    }
    k_ += kDepth<T>;
  }

 private:
  __device__ __forceinline__ void copy(u8* shared, int outer, int k) const {
    const bool exists = outer < outer_end_ && k < k_end_;
    if (find_.whole) {
      const T* const from = exists ? find_.at(outer, k) : nullptr;
      cp_async_16(shared, from != nullptr ? from : find_.data, from != nullptr ? 16 : 0);
      return;
    }
    const int count = !exists ? 0 : along == Along::K ? k_end_ - k : outer_end_ - outer;
#pragma unroll 1
    for (int i = 0; i < kStep; ++i) {
      const T* const from = i < count ? find_.at(along == Along::K ? outer : outer + i, along == Along::K ? k + i : k) : nullptr;
      reinterpret_cast<T*>(shared)[i] = from != nullptr ? *from : T{};
    }
  }

  Finder find_;
  int outer_, outer_end_, k_, k_end_;
};

// The same for products in full f32: four bytes at a time, upright.
template <int Extent, Along along, int Threads, Side side, class Finder> class UprightFound {
  static constexpr int kDepth = KILN_GEMM_F32_DEPTH;
  static constexpr int kInner = along == Along::K ? 8 : 32;
  static constexpr int kOuter = Threads / kInner;
  static constexpr int kColumns = along == Along::K ? kDepth : Extent, kRows = along == Along::K ? Extent : kDepth;

 public:
  using Part = Upright<Extent, side>;

  __device__ __forceinline__ UprightFound(const Finder& find, int outer, int outer_end, Range k)
      : find_(find), outer_(outer), outer_end_(outer_end), k_(k.begin), k_end_(k.end) {}

  __device__ __forceinline__ void next(float* stage) {
    const int inner = static_cast<int>(threadIdx.x) % kInner, start = static_cast<int>(threadIdx.x) / kInner;
#pragma unroll
    for (int row = 0; row < kRows; row += kOuter) {
#pragma unroll
      for (int column = 0; column < kColumns; column += kInner) {
        const int across = start + row, along_row = inner + column;
        const int outer = along == Along::K ? across : along_row, k = along == Along::K ? along_row : across;
        const bool exists = outer_ + outer < outer_end_ && k_ + k < k_end_;
        const float* const from = exists ? find_.at(outer_ + outer, k_ + k) : nullptr;
        cp_async_4(stage + k * Part::kPitch + Part::position(outer), from != nullptr ? from : find_.data, from != nullptr ? 4 : 0);
      }
    }
    k_ += kDepth;
  }

 private:
  Finder find_;
  int outer_, outer_end_, k_, k_end_;
};

// Products of what two finders find, 64 x 64 outputs per block: on tensor cores, and in full f32.
template <class T> struct OnTensorCores {
  using Element = T;
  using Shape = Tile64;
  static constexpr bool kCuts = sizeof(T) == 4;  // tf32
  template <Along along, Side, class Finder> using Loader = FoundLoader<T, 64, along, Finder>;
  template <Along along_a, class A, Along along_b, class B>
  using Product = ::Product<T, Shape, along_a, along_b, Bounds::Guarded, Loader<along_a, Side::A, A>, Loader<along_b, Side::B, B>>;
};
struct InFullF32 {
  using Element = float;
  using Shape = FfmaTile64;
  static constexpr bool kCuts = false;
  template <Along along, Side side, class Finder> using Loader = UprightFound<64, along, Shape::kThreads, side, Finder>;
  template <Along along_a, class A, Along along_b, class B>
  using Product = FfmaProduct<Shape, along_a, along_b, Loader<along_a, Side::A, A>, Loader<along_b, Side::B, B>>;
};
