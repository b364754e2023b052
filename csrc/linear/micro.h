// The inner loops of a linear layer: one entry per instruction set, filled from micro.inc.
#pragma once

#include <cstdint>

namespace tsp3d {

// What op.h says of the arguments; null where absent.
template <class T>
struct LinearTask {
  const T *x, *before_weight, *before_bias, *panels, *bias, *factor, *residual, *after_weight, *after_bias;
  T* out;
  int64_t cin, cout, activation;
  T eps;
};

// Rows first..last of the result. scratch: room for (last - first) * cin numbers and as many rows of whole panels.
template <class T>
using LinearRows = void (*)(const LinearTask<T>& task, int64_t first, int64_t last, T* scratch);

template <class T>
LinearRows<T> linear_rows();

}  // namespace tsp3d
