// Union of two coordinate sets.
#pragma once

#include <tuple>

#include "../common/tensor.h"

namespace tsp3d {

// a (Na, 4), b (Nb, 4) int32 coordinate sets (unique, lexicographically ordered).
// Returns the union (U, 4) int32, again a coordinate set, and for each of its rows the row in a and in b, (U,) int64
// each, -1 where absent.
std::tuple<Tensor, Tensor, Tensor> merge_coords(const Tensor& a, const Tensor& b);

}  // namespace tsp3d
