// SPDX-License-Identifier: MIT OR Apache-2.0
// Checked kernels are compiled with -fsanitize=thread,alignment: the compiler calls a hook before
// each access to memory. These are the hooks; no sanitizer's own runtime is linked.
#include "../simt/atomics.h"
#include "memory.h"

namespace simt {

extern "C" {
extern const char __ehdr_start[] SIMT_HIDDEN;
extern const char _end[] SIMT_HIDDEN;
}
// Tables and literals of the kernels themselves.
static bool in_module(uintptr_t address) {
  return address >= reinterpret_cast<uintptr_t>(__ehdr_start) &&
         address < reinterpret_cast<uintptr_t>(_end);
}

enum class Alignment { Natural, Any };

static void check(void* pointer, unsigned bytes, Access access, Alignment alignment,
                  uintptr_t code_address) {
  const auto address = reinterpret_cast<uintptr_t>(pointer);
  if (!running || on_stack(running, address)) return;
  if (alignment == Alignment::Natural && (address & (bytes - 1))) {
    fail(FailureKind::Misaligned, code_address, "misaligned %s of %u bytes at %p", verb(access),
         bytes, pointer);
  }
  if (in_shared(pointer, bytes)) {
    note_shared(pointer, bytes, access, *this_thread(), code_address);
  } else if (Region* region = find_live(address, bytes)) {
    note_global(*region, address, bytes, access, code_address);
  } else if (in_shared(pointer, 1)) {
    fail(FailureKind::IllegalAddress, code_address,
         "%s of %u bytes passes the end of a shared array", verb(access), bytes);
  } else if (!in_module(address)) {
    fail_outside(verb(access), address, bytes, code_address);
  } else if (access != Access::Read) {
    fail(FailureKind::IllegalAddress, code_address, "%s of a variable outside device memory",
         verb(access));
  }
}

void note_atomic(void* address, unsigned bytes) {
  if (checked)
    check(address, bytes, Access::Atomic, Alignment::Natural,
          reinterpret_cast<uintptr_t>(__builtin_return_address(0)));
}

#ifdef KILN_SIMT_CHECKED
#define CALLER reinterpret_cast<uintptr_t>(__builtin_return_address(0))
#define ACCESS_HOOKS(bytes)                                     \
  SIMT_HIDDEN void __tsan_read##bytes(void* p) {                \
    check(p, bytes, Access::Read, Alignment::Natural, CALLER);  \
  }                                                             \
  SIMT_HIDDEN void __tsan_write##bytes(void* p) {               \
    check(p, bytes, Access::Write, Alignment::Natural, CALLER); \
  }                                                             \
  SIMT_HIDDEN void __tsan_unaligned_read##bytes(void* p) {      \
    check(p, bytes, Access::Read, Alignment::Natural, CALLER);  \
  }                                                             \
  SIMT_HIDDEN void __tsan_unaligned_write##bytes(void* p) {     \
    check(p, bytes, Access::Write, Alignment::Natural, CALLER); \
  }

extern "C" {
ACCESS_HOOKS(1)
ACCESS_HOOKS(2)
ACCESS_HOOKS(4)
ACCESS_HOOKS(8)
ACCESS_HOOKS(16)
SIMT_HIDDEN void __tsan_read_range(void* p, size_t bytes) {
  check(p, static_cast<unsigned>(bytes), Access::Read, Alignment::Any, CALLER);
}
SIMT_HIDDEN void __tsan_write_range(void* p, size_t bytes) {
  check(p, static_cast<unsigned>(bytes), Access::Write, Alignment::Any, CALLER);
}
SIMT_HIDDEN void* __tsan_memcpy(void* to, const void* from, size_t bytes) {
  check(const_cast<void*>(from), static_cast<unsigned>(bytes), Access::Read, Alignment::Any,
        CALLER);
  check(to, static_cast<unsigned>(bytes), Access::Write, Alignment::Any, CALLER);
  return std::memcpy(to, from, bytes);
}
SIMT_HIDDEN void* __tsan_memset(void* to, int value, size_t bytes) {
  check(to, static_cast<unsigned>(bytes), Access::Write, Alignment::Any, CALLER);
  return std::memset(to, value, bytes);
}
SIMT_HIDDEN void __tsan_init() {}
SIMT_HIDDEN void __tsan_func_entry(void*) {}
SIMT_HIDDEN void __tsan_func_exit() {}
SIMT_HIDDEN void __tsan_vptr_update(void**, void*) {}
SIMT_HIDDEN void __tsan_vptr_read(void**) {}

// A vector access may be split before the thread hooks see it; this one is called for the access as
// it was written.
struct TypeMismatch {
  const char* file;
  unsigned line, column;
  const void* type;
  unsigned char log2_alignment, kind;
};
SIMT_HIDDEN void __ubsan_handle_type_mismatch_v1(TypeMismatch* mismatch, uintptr_t address) {
  if (!running) return;
  fail(FailureKind::Misaligned, 0, "misaligned access (%s:%u): %#zx is not aligned to %u bytes",
       mismatch->file, mismatch->line, static_cast<size_t>(address),
       1u << mismatch->log2_alignment);
}
}
#endif

}  // namespace simt
