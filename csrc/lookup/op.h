// Finding coordinates in a coordinate set.
#pragma once

#include "../common/tensor.h"

namespace tsp3d {

// coords (N, 4) int32, a coordinate set (unique, lexicographically ordered); query (M, 4) int32 in any order.
// Returns (M,) int64: the row of each query, or -1. Ordered queries are found fastest.
Tensor lookup(const Tensor& coords, const Tensor& query);

}  // namespace tsp3d
