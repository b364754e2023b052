// Union of two coordinate sets.
#pragma once

#include <tuple>

#include "../common/tensor.h"

namespace tsp3d {

// a (Na, 4), b (Nb, 4) int32 coordinate sets (unique, lexicographically ordered).
// Returns the union (U, 4) int32, again a coordinate set, and for each of its rows the row in a and in b, (U,) int64
// each, -1 where absent.
std::tuple<Tensor, Tensor, Tensor> merge_coords(const Tensor& a, const Tensor& b);

// a (Na, C), b (Nb, C) of the same dtype, float32 or float64; rows_a, rows_b (U,) int64, rows or -1.
// Returns (U, C): a[rows_a] + b[rows_b], where a row that is absent counts as zero.
Tensor merge_feats(const Tensor& a, const Tensor& b, const Tensor& rows_a, const Tensor& rows_b);

}  // namespace tsp3d
