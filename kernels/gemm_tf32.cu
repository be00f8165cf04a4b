// SPDX-License-Identifier: MIT OR Apache-2.0
// Matrix products on tensor cores: f32 cut off to tf32 by the tensor cores, f32 sums. The algorithm is in lib/gemm/.
//
// nt: d = tail(a b^T), forward; nn: d = tail(a b), input gradient; tn: d = a^T b for a group of layers, weight gradients.
// 128x128, 64x64: operands aligned, extents at least the tile's. any: no such demand.
#include "lib/gemm/products.cuh"

extern "C" __global__ void __launch_bounds__(KILN_GEMM_THREADS, 2) gemm_nt_tf32_128x128(const __grid_constant__ KilnLinearParams p) {
  gemm_nt<float, Tile128, Bounds::Inside, LinearTail>(p);
}
KILN_EXPORT(gemm_nt_tf32_128x128)
extern "C" __global__ void __launch_bounds__(KILN_GEMM_THREADS, 2) gemm_nt_relu_dropout_tf32_128x128(const __grid_constant__ KilnLinearParams p) {
  gemm_nt<float, Tile128, Bounds::Inside, ReluDropoutTail>(p);
}
KILN_EXPORT(gemm_nt_relu_dropout_tf32_128x128)
extern "C" __global__ void __launch_bounds__(KILN_GEMM_THREADS, 2) gemm_nn_tf32_128x128(const __grid_constant__ KilnInputGradientParams p) {
  gemm_nn<float, Tile128, Bounds::Inside>(p);
}
KILN_EXPORT(gemm_nn_tf32_128x128)
extern "C" __global__ void __launch_bounds__(KILN_GEMM_THREADS, 2) gemm_tn_tf32_128x128(const __grid_constant__ KilnWeightGradientParams p) {
  gemm_tn<float, Tile128, Bounds::Inside>(p);
}
KILN_EXPORT(gemm_tn_tf32_128x128)
extern "C" __global__ void __launch_bounds__(KILN_GEMM_THREADS, 3) gemm_nt_tf32_128x64(const __grid_constant__ KilnLinearParams p) {
  gemm_nt<float, Tile128x64, Bounds::Inside, LinearTail>(p);
}
KILN_EXPORT(gemm_nt_tf32_128x64)
extern "C" __global__ void __launch_bounds__(KILN_GEMM_THREADS, 3) gemm_nt_relu_dropout_tf32_128x64(const __grid_constant__ KilnLinearParams p) {
  gemm_nt<float, Tile128x64, Bounds::Inside, ReluDropoutTail>(p);
}
KILN_EXPORT(gemm_nt_relu_dropout_tf32_128x64)
extern "C" __global__ void __launch_bounds__(KILN_GEMM_THREADS, 3) gemm_nn_tf32_128x64(const __grid_constant__ KilnInputGradientParams p) {
  gemm_nn<float, Tile128x64, Bounds::Inside>(p);
}
KILN_EXPORT(gemm_nn_tf32_128x64)
extern "C" __global__ void __launch_bounds__(KILN_GEMM_THREADS, 3) gemm_tn_tf32_128x64(const __grid_constant__ KilnWeightGradientParams p) {
  gemm_tn<float, Tile128x64, Bounds::Inside>(p);
}
KILN_EXPORT(gemm_tn_tf32_128x64)
extern "C" __global__ void __launch_bounds__(KILN_GEMM_THREADS, 3) gemm_nt_tf32_64x128(const __grid_constant__ KilnLinearParams p) {
  gemm_nt<float, Tile64x128, Bounds::Inside, LinearTail>(p);
}
KILN_EXPORT(gemm_nt_tf32_64x128)
extern "C" __global__ void __launch_bounds__(KILN_GEMM_THREADS, 3) gemm_nt_relu_dropout_tf32_64x128(const __grid_constant__ KilnLinearParams p) {
  gemm_nt<float, Tile64x128, Bounds::Inside, ReluDropoutTail>(p);
}
KILN_EXPORT(gemm_nt_relu_dropout_tf32_64x128)
extern "C" __global__ void __launch_bounds__(KILN_GEMM_THREADS, 3) gemm_nn_tf32_64x128(const __grid_constant__ KilnInputGradientParams p) {
  gemm_nn<float, Tile64x128, Bounds::Inside>(p);
}
KILN_EXPORT(gemm_nn_tf32_64x128)
extern "C" __global__ void __launch_bounds__(KILN_GEMM_THREADS, 3) gemm_tn_tf32_64x128(const __grid_constant__ KilnWeightGradientParams p) {
  gemm_tn<float, Tile64x128, Bounds::Inside>(p);
}
KILN_EXPORT(gemm_tn_tf32_64x128)
extern "C" __global__ void __launch_bounds__(KILN_GEMM_THREADS, 4) gemm_nt_tf32_64x64(const __grid_constant__ KilnLinearParams p) {
  gemm_nt<float, Tile64, Bounds::Inside, LinearTail>(p);
}
KILN_EXPORT(gemm_nt_tf32_64x64)
extern "C" __global__ void __launch_bounds__(KILN_GEMM_THREADS, 4) gemm_nt_relu_dropout_tf32_64x64(const __grid_constant__ KilnLinearParams p) {
  gemm_nt<float, Tile64, Bounds::Inside, ReluDropoutTail>(p);
}
KILN_EXPORT(gemm_nt_relu_dropout_tf32_64x64)
extern "C" __global__ void __launch_bounds__(KILN_GEMM_THREADS, 4) gemm_nn_tf32_64x64(const __grid_constant__ KilnInputGradientParams p) {
  gemm_nn<float, Tile64, Bounds::Inside>(p);
}
KILN_EXPORT(gemm_nn_tf32_64x64)
extern "C" __global__ void __launch_bounds__(KILN_GEMM_THREADS, 4) gemm_tn_tf32_64x64(const __grid_constant__ KilnWeightGradientParams p) {
  gemm_tn<float, Tile64, Bounds::Inside>(p);
}
KILN_EXPORT(gemm_tn_tf32_64x64)
extern "C" __global__ void __launch_bounds__(KILN_GEMM_THREADS, 2) gemm_nt_tf32_any(const __grid_constant__ KilnLinearParams p) {
  gemm_nt<float, Tile64, Bounds::Guarded, LinearTail>(p);
}
KILN_EXPORT(gemm_nt_tf32_any)
extern "C" __global__ void __launch_bounds__(KILN_GEMM_THREADS, 2) gemm_nn_tf32_any(const __grid_constant__ KilnInputGradientParams p) {
  gemm_nn<float, Tile64, Bounds::Guarded>(p);
}
KILN_EXPORT(gemm_nn_tf32_any)
extern "C" __global__ void __launch_bounds__(KILN_GEMM_THREADS, 2) gemm_tn_tf32_any(const __grid_constant__ KilnWeightGradientParams p) {
  gemm_tn<float, Tile64, Bounds::Guarded>(p);
}
KILN_EXPORT(gemm_tn_tf32_any)
