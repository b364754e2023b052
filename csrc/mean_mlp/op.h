// Rows through two layers, and the mean of what came out over the rows of each group, in one pass.
#pragma once

#include "../common/tensor.h"

namespace tsp3d {

// x (N, Cin); first, second: panels of a layer of `hidden` and of one of `channels` numbers, as linear/op.h has them; all of
// one dtype, float32 or float64. row (N,) int64: the group of each row; what lies outside 0..size - 1 belongs to none.
// Returns (size, channels): the mean of relu(second(relu(first(x)))), zero where a group has no row.
Tensor mean_mlp(const Tensor& x, const Tensor& first, int64_t hidden, const Tensor& second, int64_t channels,
                const Tensor& row, int64_t size);

}  // namespace tsp3d
