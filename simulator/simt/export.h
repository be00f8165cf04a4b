// SPDX-License-Identifier: MIT OR Apache-2.0
// The registry of kernels: KILN_EXPORT(name) records a kernel's name, its parameters' sizes and a
// way to call it.
#pragma once
#include "types.h"

namespace simt {

enum class ParameterKind : unsigned { Value, Pointer };
struct Parameter {
  unsigned bytes;
  ParameterKind kind;
};

// Read by the driver (src/engine.rs), which repeats this layout.
struct Kernel {
  const char* name;
  void (*call)(void** arguments);
  unsigned parameter_count;
  const Parameter* parameters;
  Kernel* next;
};
SIMT_HIDDEN void register_kernel(Kernel* kernel);

template <auto Function>
struct Export;
template <class... Arguments, void (*Function)(Arguments...)>
struct Export<Function> {
  template <size_t... Index>
  __attribute__((no_sanitize("thread"))) static void call_with(void** arguments,
                                                               std::index_sequence<Index...>) {
    Function(*static_cast<std::remove_cv_t<Arguments>*>(arguments[Index])...);
  }
  __attribute__((no_sanitize("thread"))) static void call(void** arguments) {
    call_with(arguments, std::index_sequence_for<Arguments...>{});
  }
  static constexpr Parameter parameters[sizeof...(Arguments) + 1] = {
      Parameter{sizeof(Arguments),
                std::is_pointer_v<Arguments> ? ParameterKind::Pointer : ParameterKind::Value}...,
      Parameter{0, ParameterKind::Value}};
  Kernel kernel;
  explicit Export(const char* name)
      : kernel{name, &call, sizeof...(Arguments), parameters, nullptr} {
    register_kernel(&kernel);
  }
};

}  // namespace simt

#define KILN_EXPORT(name) static ::simt::Export<&name> simt_export_##name{#name};
