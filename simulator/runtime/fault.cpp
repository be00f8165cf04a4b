// SPDX-License-Identifier: MIT OR Apache-2.0
// Ends a launch with an error: found by a check, or by the host's memory protection (guard pages,
// freed memory).
#include "fault.h"

#include <csignal>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <pthread.h>
#include <ucontext.h>
#include "memory.h"

namespace simt {

void fail(FailureKind kind, uintptr_t code_address, const char* format, ...) {
  Failure& failure = launch->failure;
  if (failure.kind == FailureKind::None) {
    failure.kind = kind;
    failure.code_address = code_address;
    int used = snprintf(failure.text, sizeof failure.text, "kernel %s, block (%u,%u,%u)",
                        launch->kernel->name, block_index.x, block_index.y, block_index.z);
    if (current) {
      const uint3 thread = current->index;
      used += snprintf(failure.text + used, sizeof failure.text - used, ", thread (%u,%u,%u)",
                       thread.x, thread.y, thread.z);
    }
    used += snprintf(failure.text + used, sizeof failure.text - used, ": ");
    va_list values;
    va_start(values, format);
    vsnprintf(failure.text + used, sizeof failure.text - used, format, values);
    va_end(values);
  }
  if (running) {
    leave_to_main();
    abort();  // a failed thread is never resumed
  }
}

static struct sigaction previous_segv, previous_bus;
static pthread_t launching_thread;
static uintptr_t fault_address, fault_code;
alignas(16) static char rescue_stack[16384];

// Runs on the rescue stack in place of the instruction that faulted.
static void continue_after_fault() {
  char text[256];
  const auto stack = reinterpret_cast<uintptr_t>(running->stack);
  if (fault_address < stack && fault_address >= stack - 4096) {
    fail(FailureKind::LaunchFailed, fault_code, "stack overflow (a simulated thread has %zu bytes)",
         stack_bytes);
  }
  describe_address(fault_address, text, sizeof text);
  fail(FailureKind::IllegalAddress, fault_code, "illegal access: %s", text);
}

static bool redirect(ucontext_t* context) {
  const auto target = reinterpret_cast<uintptr_t>(&continue_after_fault);
  const auto stack = reinterpret_cast<uintptr_t>(rescue_stack + sizeof rescue_stack);
#if defined(__x86_64__)
  auto* registers = context->uc_mcontext.gregs;
  fault_code = static_cast<uintptr_t>(registers[REG_RIP]) + 1;
  registers[REG_RIP] = static_cast<greg_t>(target);
  registers[REG_RSP] = static_cast<greg_t>(stack - 8);  // as after a call
  return true;
#elif defined(__aarch64__)
  fault_code = context->uc_mcontext.pc + 1;
  context->uc_mcontext.pc = target;
  context->uc_mcontext.sp = stack;
  return true;
#else
  (void)context, (void)target, (void)stack;
  return false;
#endif
}

static void on_fault(int signal_number, siginfo_t* info, void* context) {
  if (running && pthread_equal(pthread_self(), launching_thread)) {
    fault_address = reinterpret_cast<uintptr_t>(info->si_addr);
    if (redirect(static_cast<ucontext_t*>(context))) return;
  }
  const struct sigaction& previous = signal_number == SIGSEGV ? previous_segv : previous_bus;
  if (previous.sa_flags & SA_SIGINFO) {
    previous.sa_sigaction(signal_number, info, context);
  } else {
    sigaction(signal_number, &previous, nullptr);  // the access repeats and meets the default
  }
}

// A handler needs a stack of its own, since a simulated stack may be the one that overflowed.
static void ensure_signal_stack() {
  stack_t present;
  sigaltstack(nullptr, &present);
  if (!(present.ss_flags & SS_DISABLE)) return;
  static thread_local char* memory;
  constexpr size_t bytes = 64 * 1024;
  if (!memory) memory = static_cast<char*>(malloc(bytes));
  stack_t own{};
  own.ss_sp = memory;
  own.ss_size = bytes;
  sigaltstack(&own, nullptr);
}

void watch_faults() {
  launching_thread = pthread_self();
  ensure_signal_stack();
  static bool installed = false;
  if (installed) return;
  installed = true;
  struct sigaction action{};
  action.sa_sigaction = on_fault;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  sigemptyset(&action.sa_mask);
  sigaction(SIGSEGV, &action, &previous_segv);
  sigaction(SIGBUS, &action, &previous_bus);
}

}  // namespace simt
