// Sum and maximum of rows over a kernel map.
#pragma once

#include <tuple>

#include "../common/tensor.h"

namespace tsp3d {

// feats (N, C) float32 or float64; in_rows (L,) int32, out_rows (L,) int32, splits (K + 1,) int64: a kernel map, out rows
// ascending within each offset (they may repeat).
// Returns (num_out, C): the sum of feats[i] over all pairs of a row; zero without pairs.
Tensor sum_pool(const Tensor& feats, const Tensor& in_rows, const Tensor& out_rows, const Tensor& splits,
                int64_t num_out);

// The same with the maximum: values (num_out, C), zero without pairs, and argmax (num_out, C) int32, the in row that won
// (the first pair among equals; what is not a number wins over all that is) or -1.
std::tuple<Tensor, Tensor> max_pool(const Tensor& feats, const Tensor& in_rows, const Tensor& out_rows,
                                    const Tensor& splits, int64_t num_out);

// grad (M, C), argmax (M, C) int32 -> (num_in, C): each number is added to the row that won.
Tensor max_pool_grad(const Tensor& grad, const Tensor& argmax, int64_t num_in);

}  // namespace tsp3d
