// The coordinate set that a generative transposed convolution makes.
#pragma once

#include <vector>

#include "../common/tensor.h"

namespace tsp3d {

// coords (N, 4) int32, a coordinate set; kernel_size (x, y, z); step >= 1.
// Returns the coordinate set (U, 4) int32 of all coords + step * offset over all kernel offsets: odd sizes are centred,
// even sizes start at 0.
Tensor dilate_coords(const Tensor& coords, const std::vector<int64_t>& kernel_size, int64_t step);

}  // namespace tsp3d
