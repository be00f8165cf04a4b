// SPDX-License-Identifier: MIT OR Apache-2.0
// More functions of one element, as functors in the manner of math.cuh, and functions of two. The tails of matrix products
// know nothing of them.
#pragma once
#include "angle.cuh"
#include "math.cuh"

struct Offset {
  float number;
  __device__ __forceinline__ float f(float x) const { return x + number; }
  __device__ __forceinline__ float df(float) const { return 1.0f; }
};

struct Abs {
  __device__ __forceinline__ float f(float x) const { return fabsf(x); }
  __device__ __forceinline__ float df(float x) const { return x > 0.0f ? 1.0f : x < 0.0f ? -1.0f : 0.0f; }
};

// `df` takes the output.
struct Sqrt {
  __device__ __forceinline__ float f(float x) const { return sqrtf(x); }
  __device__ __forceinline__ float df(float y) const { return 0.5f / y; }
};

// `df` takes the output.
struct Rsqrt {
  __device__ __forceinline__ float f(float x) const { return 1.0f / sqrtf(x); }
  __device__ __forceinline__ float df(float y) const { return -0.5f * y * y * y; }
};

// `df` takes the output.
struct Reciprocal {
  __device__ __forceinline__ float f(float x) const { return 1.0f / x; }
  __device__ __forceinline__ float df(float y) const { return -y * y; }
};

struct Sin {
  __device__ __forceinline__ float f(float x) const { return sine(x, 0); }
  __device__ __forceinline__ float df(float x) const { return sine(x, 1); }
};

struct Cos {
  __device__ __forceinline__ float f(float x) const { return sine(x, 1); }
  __device__ __forceinline__ float df(float x) const { return -sine(x, 0); }
};

struct Erf {
  __device__ __forceinline__ float f(float x) const { return erff(x); }
  __device__ __forceinline__ float df(float x) const { return 1.12837917f * expf(-x * x); }
};

// Half powers are roots, also of the negative infinity.
KILN_DEVICE float power_of(float x, float exponent) {
  if (exponent == 0.5f) return sqrtf(x);
  if (exponent == -0.5f) return 1.0f / sqrtf(x);
  if (exponent == 2.0f) return x * x;
  return powf(x, exponent);
}

struct Pow {
  float exponent;
  __device__ __forceinline__ float f(float x) const { return power_of(x, exponent); }
  __device__ __forceinline__ float df(float x) const {
    return exponent == 0.0f ? 0.0f : exponent * power_of(x, exponent - 1.0f);
  }
};

// NaN stays NaN. Without a bound nothing is cut off, not even an infinity.
struct Clamp {
  float least, most;
  __device__ __forceinline__ float f(float x) const {
    const float raised = x < least ? least : x;
    return raised > most ? most : raised;
  }
  __device__ __forceinline__ float df(float x) const {
    const bool above = x > least || (least == -infinity() && x == x), below = x < most || (most == infinity() && x == x);
    return above && below ? 1.0f : 0.0f;
  }
};

struct Not {
  __device__ __forceinline__ float f(float x) const { return x == 0.0f ? 1.0f : 0.0f; }
  __device__ __forceinline__ float df(float) const { return 0.0f; }
};

// Calls `visit` with the functor that `function` names. All threads agree on it.
template <class Visit> KILN_DEVICE void with_any_function(u32 function, float first, float second, Visit visit) {
  switch (function) {
    case KILN_UNARY_OFFSET: return visit(Offset{first});
    case KILN_UNARY_ABS: return visit(Abs{});
    case KILN_UNARY_SQRT: return visit(Sqrt{});
    case KILN_UNARY_RSQRT: return visit(Rsqrt{});
    case KILN_UNARY_RECIPROCAL: return visit(Reciprocal{});
    case KILN_UNARY_SIN: return visit(Sin{});
    case KILN_UNARY_COS: return visit(Cos{});
    case KILN_UNARY_ERF: return visit(Erf{});
    case KILN_UNARY_POW: return visit(Pow{first});
    case KILN_UNARY_CLAMP: return visit(Clamp{first, second});
    case KILN_UNARY_NOT: return visit(Not{});
    default: return with_function(function, first, visit);
  }
}

// dy times the derivative; where a bound has cut a value off, nothing, not even of an infinite dy.
template <class Function> KILN_DEVICE float backward(const Function& function, float saved, float dy) {
  return function.df(saved) * dy;
}
KILN_DEVICE float backward(const Clamp& clamp, float x, float dy) { return clamp.df(x) != 0.0f ? dy : 0.0f; }

KILN_DEVICE float truth(bool holds) { return holds ? 1.0f : 0.0f; }

// Functions of two elements.
struct Add {
  __device__ __forceinline__ float f(float a, float b) const { return a + b; }
};
struct Subtract {
  __device__ __forceinline__ float f(float a, float b) const { return a - b; }
};
struct Multiply {
  __device__ __forceinline__ float f(float a, float b) const { return a * b; }
};
struct Divide {
  __device__ __forceinline__ float f(float a, float b) const { return a / b; }
};
struct LogisticLoss {
  __device__ __forceinline__ float f(float a, float b) const { return logistic_loss(a, b); }
};
struct LogisticSlope {
  __device__ __forceinline__ float f(float a, float b) const { return logistic_slope(a, b); }
};
struct Minimum {
  __device__ __forceinline__ float f(float a, float b) const { return -max_or_nan(-a, -b); }
};
struct Maximum {
  __device__ __forceinline__ float f(float a, float b) const { return max_or_nan(a, b); }
};
struct Power {
  __device__ __forceinline__ float f(float a, float b) const { return powf(a, b); }
};
struct PowerSlope {
  __device__ __forceinline__ float f(float a, float b) const {
    return a == 0.0f && b >= 0.0f ? 0.0f : powf(a, b) * logf(a);
  }
};
struct Less {
  __device__ __forceinline__ float f(float a, float b) const { return truth(a < b); }
};
struct LessEqual {
  __device__ __forceinline__ float f(float a, float b) const { return truth(a <= b); }
};
struct Equal {
  __device__ __forceinline__ float f(float a, float b) const { return truth(a == b); }
};
struct MaximumShare {
  __device__ __forceinline__ float f(float a, float b) const { return a < b ? 0.0f : a == b ? 0.5f : 1.0f; }
};

// Calls `visit` with the function of two elements that `function` names.
template <class Visit> KILN_DEVICE void with_binary(u32 function, Visit visit) {
  switch (function) {
    case KILN_BINARY_ADD: return visit(Add{});
    case KILN_BINARY_SUBTRACT: return visit(Subtract{});
    case KILN_BINARY_MULTIPLY: return visit(Multiply{});
    case KILN_BINARY_DIVIDE: return visit(Divide{});
    case KILN_BINARY_LOGISTIC_LOSS: return visit(LogisticLoss{});
    case KILN_BINARY_LOGISTIC_SLOPE: return visit(LogisticSlope{});
    case KILN_BINARY_MINIMUM: return visit(Minimum{});
    case KILN_BINARY_MAXIMUM: return visit(Maximum{});
    case KILN_BINARY_POWER: return visit(Power{});
    case KILN_BINARY_POWER_SLOPE: return visit(PowerSlope{});
    case KILN_BINARY_LESS: return visit(Less{});
    case KILN_BINARY_LESS_EQUAL: return visit(LessEqual{});
    case KILN_BINARY_EQUAL: return visit(Equal{});
    default: return visit(MaximumShare{});
  }
}

// Whether a function takes more than a few instructions, so that its code should not stand once per element.
template <class Function> constexpr bool kIsLong = true;
template <> constexpr bool kIsLong<Identity> = false;
template <> constexpr bool kIsLong<Relu> = false;
template <> constexpr bool kIsLong<LeakyRelu> = false;
template <> constexpr bool kIsLong<Square> = false;
template <> constexpr bool kIsLong<Scale> = false;
template <> constexpr bool kIsLong<Offset> = false;
template <> constexpr bool kIsLong<Abs> = false;
template <> constexpr bool kIsLong<Clamp> = false;
template <> constexpr bool kIsLong<Not> = false;
template <> constexpr bool kIsLong<Add> = false;
template <> constexpr bool kIsLong<Subtract> = false;
template <> constexpr bool kIsLong<Multiply> = false;
template <> constexpr bool kIsLong<Minimum> = false;
template <> constexpr bool kIsLong<Maximum> = false;
template <> constexpr bool kIsLong<Less> = false;
template <> constexpr bool kIsLong<LessEqual> = false;
template <> constexpr bool kIsLong<Equal> = false;
template <> constexpr bool kIsLong<MaximumShare> = false;
