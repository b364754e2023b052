// Kernel offsets on the device.
#pragma once

#include "../common/coords.cuh"
#include "offsets.h"

namespace tsp3d {

// The cell moved by kernel offset number k.
__device__ inline Cell moved(Cell cell, const KernelShape& kernel, int64_t k) {
  for (int axis = 0; axis < 3; ++axis) {
    cell.v[axis + 1] += kernel.first[axis] + kernel.step * (k % kernel.size[axis]);
    k /= kernel.size[axis];
  }
  return cell;
}

}  // namespace tsp3d
