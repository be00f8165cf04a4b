// SPDX-License-Identifier: MIT OR Apache-2.0
// Ways for a warp to walk along a row: held in registers (one read), or read again at each pass.
// `each(f)` calls f(column, value) for the columns of this lane.
#pragma once
#include "pack.cuh"
#include "reduce.cuh"

// Up to KILN_ROW_REGISTERS elements; the row's length is a multiple of the elements in 16 bytes.
template <class T> struct CachedRow {
  using Sum = ShortSum;  // of a lane's columns
  static constexpr int kStep = kVector<T>;
  static constexpr int kChunks = KILN_ROW_REGISTERS / 32 / kStep;
  Chunk<kStep> chunks[kChunks];  // (chunks per lane)
  int columns;

  __device__ __forceinline__ CachedRow(const T* row, int columns) : columns(columns) {
#pragma unroll
    for (int i = 0; i < kChunks; ++i) {
      const int column = first_column(i);
      if (column < columns) chunks[i] = load_chunk<kStep>(row + column);
    }
  }
  template <class F> __device__ __forceinline__ void each(F f) const {
#pragma unroll
    for (int i = 0; i < kChunks; ++i) {
      const int column = first_column(i);
      if (column < columns) {
#pragma unroll
        for (int k = 0; k < kStep; ++k) f(column + k, chunks[i].v[k]);
      }
    }
  }
  // Writes f(column, value) to another row.
  template <class F> __device__ __forceinline__ void write(T* row, F f) const {
#pragma unroll
    for (int i = 0; i < kChunks; ++i) {
      const int column = first_column(i);
      if (column < columns) {
        Chunk<kStep> out;
#pragma unroll
        for (int k = 0; k < kStep; ++k) out.v[k] = f(column + k, chunks[i].v[k]);
        store_chunk<kStep>(row + column, out);
      }
    }
  }

 private:
  __device__ __forceinline__ static int first_column(int i) { return (static_cast<int>(threadIdx.x % 32) + i * 32) * kStep; }
};

// Any length and alignment.
template <class T> struct StridedRow {
  using Sum = LongSum;
  const T* row;
  int columns;

  __device__ __forceinline__ StridedRow(const T* row, int columns) : row(row), columns(columns) {}
  template <class F> __device__ __forceinline__ void each(F f) const {
    for (int column = threadIdx.x % 32; column < columns; column += 32) f(column, to_f32(row[column]));
  }
  template <class F> __device__ __forceinline__ void write(T* out, F f) const {
    for (int column = threadIdx.x % 32; column < columns; column += 32) {
      out[column] = from_f32<T>(f(column, to_f32(row[column])));
    }
  }
};
