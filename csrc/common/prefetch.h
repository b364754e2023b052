// Asking for memory that the processor does not foresee.
#pragma once

#include <cstdint>

namespace tsp3d {

constexpr int64_t kLine = 64;  // bytes of a cache line

// Asks for numbers that are read soon.
template <class T>
inline void ask_for(const T* numbers, int64_t count) {
  for (int64_t i = 0; i < count; i += kLine / sizeof(T)) __builtin_prefetch(numbers + i, 0, 2);
}

}  // namespace tsp3d
