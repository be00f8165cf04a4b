// SPDX-License-Identifier: MIT OR Apache-2.0
// Switching between stacks.
#pragma once
#include "../simt/types.h"

#if !defined(__x86_64__) && !defined(__aarch64__)
#include <ucontext.h>
#endif

namespace simt {

#if defined(__x86_64__) || defined(__aarch64__)
struct Context {
  void* stack_pointer = nullptr;
};
#else
struct Context {
  ucontext_t saved;
};
#endif

// Makes `context` start `entry` at the top of the stack [stack, stack + bytes) when it is first
// switched to.
void prepare_context(Context& context, char* stack, size_t bytes, void (*entry)());
void switch_context(Context& from, Context& to);

}  // namespace simt
