// SPDX-License-Identifier: MIT OR Apache-2.0
// Recurrent layers whose steps are all made by one launch, of which all blocks are on the device at the same time. A block makes
// the same units of the same samples in every step, so that their weights stay in its shared memory. The blocks of the same
// samples are a group: a step needs what all of them made in the step before, and waits for that by a counter.
//
// Sums are added up as the launches of single steps do it: parts of k as split_range cuts them, each in the order of k by the
// same instructions, and then the parts in their order.
#pragma once
#include "lib/recurrent.cuh"

constexpr int kWalkRows = KILN_WALK_ROWS, kWalkUnits = KILN_WALK_UNITS, kWalkWarps = KILN_WALK_THREADS / 32;
// Sums that a warp adds up at a time: a fragment of 16 rows and 8 columns.
constexpr int kWalkTile = kWalkRows * kWalkUnits;
static_assert(kWalkRows == 16 && kWalkUnits == 8 && kWalkRows == 2 * kWalkWarps, "a tile is a fragment; a warp brings two rows");

// How far the blocks of a group are.
struct Group {
  u32* counter;  // steps that they have made, added up; behind it how many of them have left

  __device__ __forceinline__ explicit Group(u32* counters) : counter(counters + blockIdx.x * KILN_WALK_COUNTERS) {}

  // Called when all threads of the block have written what others need of a step.
  __device__ __forceinline__ void made_step() const {
    __syncthreads();
    if (threadIdx.x == 0) add_release(counter, 1);
  }
  // Returns when all blocks have made so many steps.
  __device__ __forceinline__ void wait_for(u32 steps) const {
    if (threadIdx.x == 0) wait_until(counter, steps * gridDim.y);
    __syncthreads();
  }
  // The last block that leaves puts the counters back to zero: by then each has waited for all.
  __device__ __forceinline__ void leave() const {
    if (threadIdx.x != 0 || atomicAdd(counter + 1, 1u) != gridDim.y - 1) return;
    counter[0] = 0;
    counter[1] = 0;
  }
};

// A block's factors in shared memory, in words of 4 bytes: weights, a row for each column of the product, then rows of a pass,
// then sums. Rows are an odd number of 16 bytes apart, so that the eight rows of a fragment meet no bank conflict.
template <class Way> class Walk {
  using T = typename Way::Element;

 public:
  // Products of `tiles` times 8 columns, sums of k terms in so many parts.
  __device__ __forceinline__ Walk(u8* shared, u32 k, u32 splits, u32 tiles) : tiles_(tiles), splits_(splits) {
    const int depth = ceil_div(ceil_div(static_cast<int>(k), kDepth<T>), static_cast<int>(splits)) * kDepth<T>;
    words_ = k * static_cast<u32>(sizeof(T)) / 4;
    padded_ = (words_ + 7) / 8 * 8;
    split_ = static_cast<u32>(depth) * static_cast<u32>(sizeof(T)) / 4;
    pass_ = min(max(1u, KILN_WALK_PASS_WORDS / split_), splits);
    weight_pitch_ = padded_ + 4;
    row_pitch_ = min(pass_ * split_, padded_) + 4;
    weights_ = reinterpret_cast<u32*>(shared);
    rows_ = weights_ + tiles * kWalkUnits * weight_pitch_;
    sums_ = reinterpret_cast<float*>(rows_ + kWalkRows * row_pitch_);
  }

  // Keeps weights whose rows run along k; `find(column)` says where they are.
  template <class Find> __device__ __forceinline__ void keep_rows(Find find) const {
    for (u32 column = warp(); column < tiles_ * kWalkUnits; column += kWalkWarps) {
      copy_row(weights_ + column * weight_pitch_, find(column), nullptr, words_, padded_);
    }
    cp_async_commit();
  }

  // Keeps weights [k, columns], of which eight begin at `first`.
  __device__ __forceinline__ void keep_columns(const T* weight, u32 columns, u32 first) const {
    constexpr u32 kPerWord = 4 / sizeof(T);
    T* const to = reinterpret_cast<T*>(weights_);
    for (u32 k = threadIdx.x; k < padded_ * kPerWord; k += KILN_WALK_THREADS) {
      const T* const from = weight + static_cast<size_t>(k) * columns + first;
      const Chunk<8> chunk = k < words_ * kPerWord ? load_chunk<8>(from) : Chunk<8>{};
#pragma unroll
      for (int column = 0; column < kWalkUnits; ++column) {
        to[column * weight_pitch_ * kPerWord + k] = from_f32<T>(chunk.v[column]);
      }
    }
  }

  // The products of a step. `find_row(sample)` says where a sample's row is, null for zeros. All threads see the sums behind it.
  template <class FindRow> __device__ __forceinline__ void multiply(const void* any, u32 samples, FindRow find_row) const {
    const T* rows[2];
#pragma unroll
    for (u32 i = 0; i < 2; ++i) {
      const u32 sample = blockIdx.x * kWalkRows + warp() + i * kWalkWarps;
      rows[i] = sample < samples ? find_row(sample) : nullptr;
    }
#pragma unroll 1
    for (u32 first = 0; first < splits_; first += pass_) {
      if (first > 0) __syncthreads();  // the rows of the pass before have been read
      const u32 begin = min(first * split_, words_), end = min(begin + pass_ * split_, words_);
#pragma unroll
      for (u32 i = 0; i < 2; ++i) {
        const u32* const row = reinterpret_cast<const u32*>(rows[i]);
        u32* const to = rows_ + (warp() + i * kWalkWarps) * row_pitch_;
        copy_row(to, row == nullptr ? nullptr : row + begin, any, end - begin, (end - begin + 7) / 8 * 8);
      }
      cp_async_commit();
      cp_async_wait<0>();
      __syncthreads();
      multiply_pass(first);
    }
    __syncthreads();
  }

  // The sum of a row and a column of a tile.
  __device__ __forceinline__ float sum(u32 tile, u32 row, u32 column) const {
    const float* const part = sums_ + tile * kWalkTile + row * kWalkUnits + column;
    if (splits_ == 1) return *part;
    float total = 0.0f;
#pragma unroll 1
    for (u32 split = 0; split < splits_; ++split) total += part[split * tiles_ * kWalkTile];
    return total;
  }

 private:
  __device__ __forceinline__ static u32 warp() { return threadIdx.x / 32; }

  // A warp's copy of a row, zeros behind it up to `padded` words; of zeros alone if there is none.
  __device__ __forceinline__ static void copy_row(u32* to, const void* from, const void* any, u32 words, u32 padded) {
    const u8* const bytes = static_cast<const u8*>(from == nullptr ? any : from);
    for (u32 word = threadIdx.x % 32 * 4; word < padded; word += 128) {
      const bool exists = from != nullptr && word < words;
      cp_async_16(to + word, exists ? bytes + static_cast<size_t>(word) * 4 : bytes, exists ? 16 : 0);
    }
  }

  // Parts of sums from `first` on whose rows are there, one after another by each warp.
  __device__ __forceinline__ void multiply_pass(u32 first) const {
    const u32 lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
    const u32 items = min(pass_, splits_ - first) * tiles_;
    for (u32 item = warp(); item < items; item += kWalkWarps) {
      const u32 split = item / tiles_, tile = item % tiles_;
      const u32 begin = min((first + split) * split_, padded_), end = min(begin + split_, padded_);
      const u32* const weights = weights_ + tile * kWalkUnits * weight_pitch_ + begin;
      const u32* const rows = rows_ + split * split_;
      float sums[4] = {};
      add_up(sums, rows + g * row_pitch_, weights, static_cast<int>(end - begin), g, t, T{}, Way{});
      float* const to = sums_ + (first * tiles_ + item) * kWalkTile + g * kWalkUnits + 2 * t;
      *reinterpret_cast<float2*>(to) = make_float2(sums[0], sums[1]);
      *reinterpret_cast<float2*>(to + 8 * kWalkUnits) = make_float2(sums[2], sums[3]);
    }
  }

  // A lane's sums (g, 2t), (g, 2t + 1), (g + 8, 2t), (g + 8, 2t + 1) over so many words.
  template <class Multiplied>
  __device__ __forceinline__ void add_up(float (&sums)[4], const u32* row, const u32* weights, int words, u32 g, u32 t, T,
                                         StepOnTensorCores<Multiplied>) const {
    const u32* a = row + t;
    const u32* b = weights + g * weight_pitch_ + t;
    const u32 down = 8 * row_pitch_;
#pragma unroll 4
    for (int word = 0; word < words; word += 8, a += 8, b += 8) {
      const u32 rows[4] = {a[0], a[down], a[4], a[down + 4]};
      multiply_add(sums, rows, b[0], b[4], T{});
    }
  }
  __device__ __forceinline__ void add_up(float (&sums)[4], const u32* row, const u32* weights, int words, u32, u32 t, float,
                                         StepInFullF32) const {
    const float* a = reinterpret_cast<const float*>(row);
    const float* b = reinterpret_cast<const float*>(weights + 2 * t * weight_pitch_);
    const u32 down = 8 * row_pitch_;
#pragma unroll 4
    for (int word = 0; word < words; word += 4, a += 4, b += 4) {
      const float4 a0 = four(a), a1 = four(a + down), b0 = four(b), b1 = four(b + weight_pitch_);
      add_four(sums[0], a0, b0);
      add_four(sums[1], a0, b1);
      add_four(sums[2], a1, b0);
      add_four(sums[3], a1, b1);
    }
  }
  __device__ __forceinline__ static float4 four(const float* at) { return *reinterpret_cast<const float4*>(at); }
  __device__ __forceinline__ static void add_four(float& sum, const float4& a, const float4& b) {
    sum += a.x * b.x;
    sum += a.y * b.y;
    sum += a.z * b.z;
    sum += a.w * b.w;
  }

  u32 tiles_, splits_, pass_;           // pass_: parts whose rows are in shared memory at the same time
  u32 words_, padded_, split_;          // of k, of k in whole fragments, of a part
  u32 weight_pitch_, row_pitch_;
  u32* weights_;
  u32* rows_;
  float* sums_;  // [splits][tiles][16][8]
};
