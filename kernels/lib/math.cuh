// SPDX-License-Identifier: MIT OR Apache-2.0
// Functions of one element as functors: `f` the value, `df` the derivative from what backward keeps (the input, or the
// output where it says so). Element-wise kernels and the tails of matrix products share them.
#pragma once
#include "abi.h"
#include "device.cuh"

KILN_DEVICE float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

struct Identity {
  __device__ __forceinline__ float f(float x) const { return x; }
  __device__ __forceinline__ float df(float) const { return 1.0f; }
};

// max(x, 0); NaN stays NaN. `df` takes the output.
struct Relu {
  __device__ __forceinline__ float f(float x) const { return max_or_nan(x, 0.0f); }
  __device__ __forceinline__ float df(float y) const { return y != 0.0f ? 1.0f : 0.0f; }
};

struct LeakyRelu {
  float slope;
  __device__ __forceinline__ float f(float x) const { return x > 0.0f ? x : slope * x; }
  __device__ __forceinline__ float df(float x) const { return x > 0.0f ? 1.0f : slope; }
};

// x * Phi(x) (Hendrycks & Gimpel 2016, arXiv:1606.08415).
struct Gelu {
  __device__ __forceinline__ static float distribution(float x) { return 0.5f + 0.5f * erff(x * 0.70710678f); }
  __device__ __forceinline__ float f(float x) const { return x * distribution(x); }
  __device__ __forceinline__ float df(float x) const {
    return distribution(x) + x * 0.39894228f * expf(-0.5f * x * x);
  }
};

// GELU by its tanh approximation, from the same paper.
struct GeluTanh {
  static constexpr float kRoot = 0.79788456f;  // sqrt(2 / pi)
  static constexpr float kCubic = 0.044715f;
  __device__ __forceinline__ static float inner_tanh(float x) { return tanhf(kRoot * (x + kCubic * x * x * x)); }
  __device__ __forceinline__ float f(float x) const { return 0.5f * x * (1.0f + inner_tanh(x)); }
  __device__ __forceinline__ float df(float x) const {
    const float t = inner_tanh(x);
    return 0.5f * (1.0f + t) + 0.5f * x * (1.0f - t * t) * kRoot * (1.0f + 3.0f * kCubic * x * x);
  }
};

// x * sigmoid(x) (Elfwing et al. 2017, arXiv:1702.03118).
struct Silu {
  __device__ __forceinline__ float f(float x) const { return x * sigmoid(x); }
  __device__ __forceinline__ float df(float x) const {
    const float s = sigmoid(x);
    return s * (1.0f + x * (1.0f - s));
  }
};

// `df` takes the output.
struct Tanh {
  __device__ __forceinline__ float f(float x) const { return tanhf(x); }
  __device__ __forceinline__ float df(float y) const { return 1.0f - y * y; }
};

// `df` takes the output.
struct Sigmoid {
  __device__ __forceinline__ float f(float x) const { return sigmoid(x); }
  __device__ __forceinline__ float df(float y) const { return y * (1.0f - y); }
};

// log(1 + exp(x)) without overflow.
struct Softplus {
  __device__ __forceinline__ float f(float x) const { return fmaxf(x, 0.0f) + log1pf(expf(-fabsf(x))); }
  __device__ __forceinline__ float df(float x) const { return sigmoid(x); }
};

// `df` takes the output.
struct Exp {
  __device__ __forceinline__ float f(float x) const { return expf(x); }
  __device__ __forceinline__ float df(float y) const { return y; }
};

struct Log {
  __device__ __forceinline__ float f(float x) const { return logf(x); }
  __device__ __forceinline__ float df(float x) const { return 1.0f / x; }
};

struct Square {
  __device__ __forceinline__ float f(float x) const { return x * x; }
  __device__ __forceinline__ float df(float x) const { return 2.0f * x; }
};

struct Scale {
  float factor;
  __device__ __forceinline__ float f(float x) const { return factor * x; }
  __device__ __forceinline__ float df(float) const { return factor; }
};

// log(1 + exp(x)) - x target: what is 0 for a sure and right x comes alone, so that it swallows nothing.
KILN_DEVICE float logistic_loss(float x, float target) {
  const float size = fabsf(x);
  return (x > 0.0f ? 1.0f - target : target) * size + log1pf(expf(-size));
}
// sigmoid(x) - target, likewise.
KILN_DEVICE float logistic_slope(float x, float target) {
  return x > 0.0f ? (1.0f - target) - sigmoid(-x) : sigmoid(x) - target;
}

// Calls `visit` with the functor that `function` names. All threads agree on it, so the branch costs one jump.
template <class Visit> KILN_DEVICE void with_function(u32 function, float parameter, Visit visit) {
  switch (function) {
    case KILN_UNARY_RELU: return visit(Relu{});
    case KILN_UNARY_LEAKY_RELU: return visit(LeakyRelu{parameter});
    case KILN_UNARY_GELU: return visit(Gelu{});
    case KILN_UNARY_GELU_TANH: return visit(GeluTanh{});
    case KILN_UNARY_SILU: return visit(Silu{});
    case KILN_UNARY_TANH: return visit(Tanh{});
    case KILN_UNARY_SIGMOID: return visit(Sigmoid{});
    case KILN_UNARY_SOFTPLUS: return visit(Softplus{});
    case KILN_UNARY_EXP: return visit(Exp{});
    case KILN_UNARY_LOG: return visit(Log{});
    case KILN_UNARY_SQUARE: return visit(Square{});
    case KILN_UNARY_SCALE: return visit(Scale{parameter});
    default: return visit(Identity{});
  }
}
