// SPDX-License-Identifier: MIT OR Apache-2.0
// A switch saves the registers that a call preserves and exchanges the stack pointer: a few
// nanoseconds, where swapcontext makes two system calls to save a signal mask that no kernel
// changes.
#include "context.h"

namespace simt {

#if defined(__x86_64__)

extern "C" SIMT_HIDDEN void simt_switch_stacks(void** save, void* load);
asm(R"(
.text
.hidden simt_switch_stacks
.globl simt_switch_stacks
.type simt_switch_stacks,@function
simt_switch_stacks:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size simt_switch_stacks, .-simt_switch_stacks
)");

void prepare_context(Context& context, char* stack, size_t bytes, void (*entry)()) {
  auto** top = reinterpret_cast<void**>(stack + bytes);
  *--top = nullptr;  // the entry's return address; keeps the stack 16-byte aligned as after a call
  *--top = reinterpret_cast<void*>(entry);
  for (int saved = 0; saved < 6; ++saved) *--top = nullptr;
  context.stack_pointer = top;
}
void switch_context(Context& from, Context& to) {
  simt_switch_stacks(&from.stack_pointer, to.stack_pointer);
}

#elif defined(__aarch64__)

extern "C" SIMT_HIDDEN void simt_switch_stacks(void** save, void* load);
asm(R"(
.text
.hidden simt_switch_stacks
.globl simt_switch_stacks
.type simt_switch_stacks,%function
simt_switch_stacks:
  sub sp, sp, #160
  stp x19, x20, [sp, #0]
  stp x21, x22, [sp, #16]
  stp x23, x24, [sp, #32]
  stp x25, x26, [sp, #48]
  stp x27, x28, [sp, #64]
  stp x29, x30, [sp, #80]
  stp d8, d9, [sp, #96]
  stp d10, d11, [sp, #112]
  stp d12, d13, [sp, #128]
  stp d14, d15, [sp, #144]
  mov x9, sp
  str x9, [x0]
  mov sp, x1
  ldp x19, x20, [sp, #0]
  ldp x21, x22, [sp, #16]
  ldp x23, x24, [sp, #32]
  ldp x25, x26, [sp, #48]
  ldp x27, x28, [sp, #64]
  ldp x29, x30, [sp, #80]
  ldp d8, d9, [sp, #96]
  ldp d10, d11, [sp, #112]
  ldp d12, d13, [sp, #128]
  ldp d14, d15, [sp, #144]
  add sp, sp, #160
  ret
.size simt_switch_stacks, .-simt_switch_stacks
)");

void prepare_context(Context& context, char* stack, size_t bytes, void (*entry)()) {
  auto** frame = reinterpret_cast<void**>(stack + bytes - 160);
  std::memset(frame, 0, 160);
  frame[11] = reinterpret_cast<void*>(entry);  // x30, where `ret` goes
  context.stack_pointer = frame;
}
void switch_context(Context& from, Context& to) {
  simt_switch_stacks(&from.stack_pointer, to.stack_pointer);
}

#else

void prepare_context(Context& context, char* stack, size_t bytes, void (*entry)()) {
  getcontext(&context.saved);
  context.saved.uc_stack.ss_sp = stack;
  context.saved.uc_stack.ss_size = bytes;
  context.saved.uc_link = nullptr;
  makecontext(&context.saved, entry, 0);
}
void switch_context(Context& from, Context& to) { swapcontext(&from.saved, &to.saved); }

#endif

}  // namespace simt
