// SPDX-License-Identifier: MIT OR Apache-2.0
// A laboratory for a machine with a GPU and nvcc: kernels are changed, compiled and measured again there, without Rust.
//
//     nvcc -std=c++17 -O3 -I kernels -o lab lab.cu -ldl
//     nvcc -std=c++17 -O3 -I kernels -cubin -arch sm_90 -o ceilings.cubin kernels/ceilings.cu
//     ./lab ceilings.cubin
//
// It asks the driver for everything by name, so that it links with no library of CUDA's and also runs on kiln's simulated
// driver, where it times nothing. To measure another kernel, fill the structure that it takes (kernels/abi.h) in `main`.
#include <dlfcn.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "abi.h"

namespace {

using Handle = void*;
using Address = unsigned long long;

void* library = nullptr;

// A function of the driver, by its name; the program ends where there is none.
template <class Function> Function driver(const char* name) {
  void* found = dlsym(library, name);
  if (!found) std::fprintf(stderr, "the driver has no %s\n", name), std::exit(2);
  return reinterpret_cast<Function>(found);
}

void check(int code, const char* what) {
  if (code == 0) return;
  const char* words = "unknown";
  driver<int (*)(int, const char**)>("cuGetErrorName")(code, &words);
  std::fprintf(stderr, "%s: %s (%d)\n", what, words, code);
  std::exit(1);
}

// Calls a function of the driver and ends the program where it fails.
template <class... Arguments> void call(const char* name, Arguments... arguments) {
  check(driver<int (*)(Arguments...)>(name)(arguments...), name);
}

constexpr int kMultiprocessors = 16;  // CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT
constexpr int kLaunches = 20;

bool is_simulated() { return dlsym(library, "kiln_sim_reset") != nullptr; }

Address device_memory(const std::vector<std::uint32_t>& words) {
  Address address = 0;
  call("cuMemAlloc_v2", &address, static_cast<std::size_t>(words.size() * 4));
  call("cuMemcpyHtoD_v2", address, static_cast<const void*>(words.data()), static_cast<std::size_t>(words.size() * 4));
  return address;
}

struct Kernel {
  Handle function;
  unsigned blocks;

  void launch(void* parameters, Handle stream) const {
    void* arguments[] = {parameters};
    call("cuLaunchKernel", function, blocks, 1u, 1u, static_cast<unsigned>(KILN_BLOCK_THREADS), 1u, 1u, 0u, stream,
         static_cast<void**>(arguments), static_cast<void**>(nullptr));
  }
};

// Milliseconds of a launch, the mean of some behind each other; the first, which loads code, is not counted.
float time_of(const Kernel& kernel, void* parameters, Handle stream) {
  Handle from = nullptr, to = nullptr;
  call("cuEventCreate", &from, 0u);
  call("cuEventCreate", &to, 0u);
  kernel.launch(parameters, stream);
  call("cuEventRecord", from, stream);
  for (int i = 0; i < kLaunches; ++i) kernel.launch(parameters, stream);
  call("cuEventRecord", to, stream);
  call("cuStreamSynchronize", stream);
  float milliseconds = 0;
  if (!is_simulated()) call("cuEventElapsedTime", &milliseconds, from, to);
  return milliseconds / kLaunches;
}

}  // namespace

int main(int count, char** words) {
  if (count != 2) return std::fprintf(stderr, "usage: lab CUBIN\n"), 2;
  for (const char* name : {"libcuda.so.1", "libcuda.so"}) {
    if (!library) library = dlopen(name, RTLD_NOW);
  }
  if (!library) return std::fprintf(stderr, "there is no CUDA driver\n"), 2;
  int device = 0, multiprocessors = 0;
  Handle context = nullptr, stream = nullptr, module = nullptr;
  call("cuInit", 0u);
  call("cuDeviceGet", &device, 0);
  call("cuDeviceGetAttribute", &multiprocessors, kMultiprocessors, device);
  call("cuDevicePrimaryCtxRetain", &context, device);
  call("cuCtxSetCurrent", context);
  call("cuStreamCreate", &stream, 1u);
  call("cuModuleLoad", &module, static_cast<const char*>(words[1]));

  const unsigned blocks = is_simulated() ? 1 : 4 * multiprocessors, rounds = is_simulated() ? 1 : 2000;
  const unsigned threads = blocks * KILN_BLOCK_THREADS;
  // Numbers near 1 in every format: f32 and bf16 share their exponents, f16 takes the words as two.
  std::vector<std::uint32_t> x(threads * 6);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = 0x3c003c00u + static_cast<std::uint32_t>(i * 2654435761u >> 24);
  KilnCastParams parameters = {};
  parameters.x = reinterpret_cast<const void*>(device_memory(x));
  parameters.y = reinterpret_cast<void*>(device_memory(std::vector<std::uint32_t>(threads)));
  parameters.count = rounds;

  struct Case {
    const char* name;
    double flops;  // of a thread and round: 2 * 16 chains * 8 passes, or 8 tiles * 8 passes of m16n8k16 by 32 threads
  };
  const Case cases[] = {{"ceiling_f32", 256}, {"ceiling_tf32", 4096}, {"ceiling_bf16", 8192}, {"ceiling_f16", 8192}};
  for (const Case& one : cases) {
    Kernel kernel = {nullptr, blocks};
    call("cuModuleGetFunction", &kernel.function, module, one.name);
    const float milliseconds = time_of(kernel, &parameters, stream);
    if (is_simulated()) {
      std::printf("{\"name\": \"%s\", \"timed\": \"simulated: not timed\"}\n", one.name);
    } else {
      const double tflops = one.flops * threads * rounds / milliseconds / 1e9;
      std::printf("{\"name\": \"%s\", \"us\": %.2f, \"tflops\": %.1f}\n", one.name, milliseconds * 1e3, tflops);
    }
  }
  return 0;
}
