// SPDX-License-Identifier: MIT OR Apache-2.0
// Matrix products in full f32, for any sizes and alignments. The algorithm is in lib/gemm/ffma.cuh,
// what whole tiles of aligned rows take in lib/gemm/ffma_whole.cuh.
//
// nt: d = tail(a b^T), forward; nn: d = tail(a b), input gradient; tn: d = a^T b for a group of layers, weight gradients.
#include "lib/gemm/ffma_whole.cuh"
#include "lib/gemm/products.cuh"

template <class Tile> KILN_DEVICE void gemm_f32_nt(const KilnLinearParams& p) {
  linear_product<F32Product<Tile, Along::K, Along::K>, LinearTail<float, Bounds::Guarded>>(p);
}
template <class Tile> KILN_DEVICE void gemm_f32_nn(const KilnInputGradientParams& p) {
  linear_product<F32Product<Tile, Along::K, Along::Outer>, InputGradientTail<float, Bounds::Guarded>>(p);
}
template <class Tile> KILN_DEVICE void gemm_f32_tn(const KilnWeightGradientParams& p) {
  gemm_tn<F32Product<Tile, Along::Outer, Along::Outer>>(p);
}

extern "C" __global__ void __launch_bounds__(256, 2) gemm_nt_f32_128x128(const __grid_constant__ KilnLinearParams p) {
  gemm_f32_nt<FfmaTile128>(p);
}
KILN_EXPORT(gemm_nt_f32_128x128)
extern "C" __global__ void __launch_bounds__(256, 2) gemm_nn_f32_128x128(const __grid_constant__ KilnInputGradientParams p) {
  gemm_f32_nn<FfmaTile128>(p);
}
KILN_EXPORT(gemm_nn_f32_128x128)
extern "C" __global__ void __launch_bounds__(256, 2) gemm_tn_f32_128x128(const __grid_constant__ KilnWeightGradientParams p) {
  gemm_f32_tn<FfmaTile128>(p);
}
KILN_EXPORT(gemm_tn_f32_128x128)
extern "C" __global__ void __launch_bounds__(128, 3) gemm_nt_f32_128x64(const __grid_constant__ KilnLinearParams p) {
  gemm_f32_nt<FfmaTile128x64>(p);
}
KILN_EXPORT(gemm_nt_f32_128x64)
extern "C" __global__ void __launch_bounds__(128, 3) gemm_nn_f32_128x64(const __grid_constant__ KilnInputGradientParams p) {
  gemm_f32_nn<FfmaTile128x64>(p);
}
KILN_EXPORT(gemm_nn_f32_128x64)
extern "C" __global__ void __launch_bounds__(128, 3) gemm_tn_f32_128x64(const __grid_constant__ KilnWeightGradientParams p) {
  gemm_f32_tn<FfmaTile128x64>(p);
}
KILN_EXPORT(gemm_tn_f32_128x64)
extern "C" __global__ void __launch_bounds__(128, 3) gemm_nt_f32_64x128(const __grid_constant__ KilnLinearParams p) {
  gemm_f32_nt<FfmaTile64x128>(p);
}
KILN_EXPORT(gemm_nt_f32_64x128)
extern "C" __global__ void __launch_bounds__(128, 3) gemm_nn_f32_64x128(const __grid_constant__ KilnInputGradientParams p) {
  gemm_f32_nn<FfmaTile64x128>(p);
}
KILN_EXPORT(gemm_nn_f32_64x128)
extern "C" __global__ void __launch_bounds__(128, 3) gemm_tn_f32_64x128(const __grid_constant__ KilnWeightGradientParams p) {
  gemm_f32_tn<FfmaTile64x128>(p);
}
KILN_EXPORT(gemm_tn_f32_64x128)
extern "C" __global__ void __launch_bounds__(128, 4) gemm_nt_f32_64x64(const __grid_constant__ KilnLinearParams p) {
  gemm_f32_nt<FfmaTile64>(p);
}
KILN_EXPORT(gemm_nt_f32_64x64)
extern "C" __global__ void __launch_bounds__(128, 4) gemm_nn_f32_64x64(const __grid_constant__ KilnInputGradientParams p) {
  gemm_f32_nn<FfmaTile64>(p);
}
KILN_EXPORT(gemm_nn_f32_64x64)
extern "C" __global__ void __launch_bounds__(128, 4) gemm_tn_f32_64x64(const __grid_constant__ KilnWeightGradientParams p) {
  gemm_f32_tn<FfmaTile64>(p);
}
KILN_EXPORT(gemm_tn_f32_64x64)
