// Asynchronous copies on the CPU, for tests: they happen when the thread waits for them, and no earlier.
#pragma once

#include <deque>

#include "cuda_runtime.h"

namespace emulation {

struct Copy {
  void* to;
  const void* from;
  size_t size, zeros;
};
inline std::deque<std::vector<Copy>> groups[1024];  // of each thread; the last one is open

inline std::deque<std::vector<Copy>>& own_groups() {
  auto& own = groups[threadIdx.x];
  if (own.empty()) own.emplace_back();
  return own;
}

}  // namespace emulation

inline void __pipeline_memcpy_async(void* to, const void* from, size_t size, size_t zeros = 0) {
  if (reinterpret_cast<uintptr_t>(to) % size || reinterpret_cast<uintptr_t>(from) % size) std::abort();
  emulation::own_groups().back().push_back({to, from, size, zeros});
}
inline void __pipeline_commit() { emulation::own_groups().emplace_back(); }
inline void __pipeline_wait_prior(size_t prior) {
  auto& own = emulation::own_groups();
  for (; own.size() > prior + 1; own.pop_front())
    for (const auto& copy : own.front()) {
      std::memcpy(copy.to, copy.from, copy.size - copy.zeros);
      std::memset(static_cast<char*>(copy.to) + copy.size - copy.zeros, 0, copy.zeros);
    }
}
