// CUDA on the CPU, for tests: the words of the language and of its runtime that csrc uses. A launch runs block after
// block; the threads of a block are fibers, each of which runs until it ends or meets a barrier. That is slow, finds no
// race between blocks and says nothing of speed, but it runs the kernels' own source: their arithmetic, their bounds,
// their empty launches, and (with TSP3D_EMULATION_ORDER=reverse, last thread first) barriers that are missing.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <vector>

#define __global__
#define __device__
#define __host__
#define __shared__ static
#define __launch_bounds__(...)
#define __align__(bytes) __attribute__((aligned(bytes)))

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};
struct uint4 {
  unsigned x, y, z, w;
};
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }

using cudaStream_t = void*;
enum cudaError_t { cudaSuccess, cudaErrorInvalidConfiguration, cudaErrorNoKernelImageForDevice };
enum cudaMemcpyKind { cudaMemcpyDeviceToHost };
enum cudaDeviceAttr { cudaDevAttrMultiProcessorCount };
struct cudaLaunchConfig_t {
  dim3 gridDim, blockDim;
  size_t dynamicSmemBytes = 0;
  cudaStream_t stream = nullptr;
};

inline const char* cudaGetErrorString(cudaError_t) { return "invalid configuration argument"; }
inline cudaError_t cudaGetLastError() { return cudaSuccess; }
inline cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t) {
  std::memset(to, value, bytes);
  return cudaSuccess;
}
inline cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind, cudaStream_t) {
  std::memcpy(to, from, bytes);
  return cudaSuccess;
}
inline cudaError_t cudaStreamSynchronize(cudaStream_t) { return cudaSuccess; }
inline cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}
inline cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr, int) {
  *value = 24;  // so that the inputs of tests meet both one share and several
  return cudaSuccess;
}

inline long long __double_as_longlong(double value) {
  long long bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}
inline void atomicOr(unsigned* to, unsigned value) { *to |= value; }
inline void atomicMin(long long* to, long long value) { *to = value < *to ? value : *to; }
inline void atomicMax(long long* to, long long value) { *to = value > *to ? value : *to; }

// --- blocks and threads -----------------------------------------------------------------------------------------------

inline dim3 threadIdx, blockIdx, blockDim, gridDim;

// Saves the callee's registers on the stack of the caller, whose place goes to *from, and goes on with the stack `to`.
extern "C" void tsp3d_switch(void** from, void* to);
asm(R"(
.text
.weak tsp3d_switch
.type tsp3d_switch, @function
tsp3d_switch:
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
)");

namespace emulation {

constexpr size_t kStack = 128 * 1024;

struct Fiber {
  std::unique_ptr<char[]> memory{new char[kStack]};
  void* stack = nullptr;
  bool done = false;
};

inline std::vector<Fiber> fibers;
inline std::function<void()> body;
inline void* scheduler;
inline size_t current;
inline int counted;

inline void barrier() { tsp3d_switch(&fibers[current].stack, scheduler); }

inline void start() {
  body();
  fibers[current].done = true;
  barrier();
}

// From one barrier to the next, all threads that are left, until none is.
inline void run_block(unsigned threads) {
  static const bool reverse = [] {
    const char* order = std::getenv("TSP3D_EMULATION_ORDER");
    return order && std::strcmp(order, "reverse") == 0;
  }();
  if (fibers.size() < threads) fibers.resize(threads);
  for (unsigned t = 0; t < threads; ++t) {
    void** top = reinterpret_cast<void**>(reinterpret_cast<uintptr_t>(fibers[t].memory.get() + kStack) / 16 * 16);
    *--top = nullptr;  // where start would return to
    *--top = reinterpret_cast<void*>(&start);
    for (int saved = 0; saved < 6; ++saved) *--top = nullptr;
    fibers[t].stack = top;
    fibers[t].done = false;
  }
  for (bool any = true; any;) {
    any = false;
    for (unsigned i = 0; i < threads; ++i) {
      current = reverse ? threads - 1 - i : i;
      if (fibers[current].done) continue;
      threadIdx = dim3(static_cast<unsigned>(current), 0, 0);
      tsp3d_switch(&scheduler, fibers[current].stack);
      any = true;
    }
  }
}

}  // namespace emulation

inline void __syncthreads() {
  const dim3 own = threadIdx;
  emulation::barrier();
  threadIdx = own;
}
inline int __syncthreads_count(int predicate) {
  emulation::counted += predicate != 0;
  __syncthreads();
  const int result = emulation::counted;
  __syncthreads();
  emulation::counted = 0;
  __syncthreads();
  return result;
}

template <class... Parameters, class... Arguments>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Parameters...), Arguments... arguments) {
  const dim3 grid = config->gridDim, block = config->blockDim;
  const uint64_t threads = uint64_t{block.x} * block.y * block.z;
  if (grid.x < 1 || grid.y < 1 || grid.z < 1 || grid.x > 0x7FFFFFFF || grid.y > 65535 || grid.z > 65535 || threads < 1 ||
      threads > 1024 || threads != block.x)
    return cudaErrorInvalidConfiguration;
  gridDim = grid;
  blockDim = block;
  emulation::body = [=] { kernel(arguments...); };
  for (unsigned z = 0; z < grid.z; ++z)
    for (unsigned y = 0; y < grid.y; ++y)
      for (unsigned x = 0; x < grid.x; ++x) {
        blockIdx = dim3(x, y, z);
        emulation::run_block(block.x);
      }
  return cudaSuccess;
}
