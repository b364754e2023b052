// Threads. Work is cut into items whose results do not depend on which thread runs them, so answers are the same bit for
// bit whatever the number of threads.
#pragma once

#include <cstdint>
#include <exception>
#include <vector>

#ifdef _OPENMP
#include <omp.h>
#endif

namespace tsp3d {

inline int max_threads() {
#ifdef _OPENMP
  return omp_in_parallel() ? 1 : omp_get_max_threads();
#else
  return 1;
#endif
}

// f(item) for items 0..count-1, handed out one by one. Serial where `work` (elementary steps in all) is too little to
// be worth waking threads for.
template <class F>
void parallel_items(int64_t count, int64_t work, F&& f) {
#ifdef _OPENMP
  if (count > 1 && work > 20000 && max_threads() > 1) {
    std::exception_ptr failure;  // want of memory, say: an exception that left the region would end the process
#pragma omp parallel for schedule(dynamic, 1)
    for (int64_t i = 0; i < count; ++i) {
      try {
        f(i);
      } catch (...) {
#pragma omp critical(tsp3d_failure)
        failure = std::current_exception();
      }
    }
    if (failure) std::rethrow_exception(failure);
    return;
  }
#endif
  for (int64_t i = 0; i < count; ++i) f(i);
}

// f(begin, end) over 0..count-1 in contiguous ranges, a few per thread.
template <class F>
void parallel_ranges(int64_t count, int64_t work, F&& f) {
  const int threads = work > 20000 ? max_threads() : 1;
  const int64_t parts = threads > 1 ? 4 * threads : 1;
  parallel_items(parts, work, [&](int64_t part) {
    const int64_t begin = count * part / parts, end = count * (part + 1) / parts;
    if (begin < end) f(begin, end);
  });
}

// Memory that is kept between calls of one thread: allocating anew costs a page fault per 4 kB. Contents are undefined.
template <class T, int Slot>
T* workspace(int64_t size) {
  static thread_local std::vector<T> buffer;
  if (static_cast<int64_t>(buffer.size()) < size) {
    buffer.clear();
    buffer.resize(size + size / 4);
  }
  return buffer.data();
}

}  // namespace tsp3d
