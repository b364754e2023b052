// Sorted unique voxel cells.
#pragma once

#include <tuple>

#include "../common/tensor.h"

namespace tsp3d {

// coords (N, 4) int32 [batch, x, y, z] in any order, doubles allowed; step >= 1: x, y, z are floored to its multiples.
// Returns cells (U, 4) int32, unique and lexicographically ordered; inverse (N,) int64, the cell of each row;
// order (N,) int64, the rows ordered by cell and then by row; starts (U + 1,) int64, the first place of each cell in it.
std::tuple<Tensor, Tensor, Tensor, Tensor> unique_coords(const Tensor& coords, int64_t step);

// coords (N, 4) int32 -> 0-d bool: rows are unique and lexicographically ordered.
Tensor is_coordinate_set(const Tensor& coords);

}  // namespace tsp3d
