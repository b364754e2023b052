// Weighted sums of rows, and trilinear weights for them.
#pragma once

#include <tuple>

#include "../common/tensor.h"

namespace tsp3d {

// coords (N, 4) int32, a coordinate set of multiples of `stride`; points (M, 4) float32 or float64 [batch, x, y, z] in
// base voxels. Returns rows (M, 8) int64, -1 where there is no voxel, and trilinear weights (M, 8) in the dtype of
// points. Corner j lies one stride further along x, y, z where bits 0, 1, 2 of j are set.
std::tuple<Tensor, Tensor> interpolation_weights(const Tensor& coords, const Tensor& points, int64_t stride);

// feats (N, C), rows (M, J) int64 (-1 contributes nothing), weights (M, J) of the dtype of feats, float32 or float64.
// Returns (M, C): the sum over j of weights[m, j] * feats[rows[m, j]].
Tensor interpolate(const Tensor& feats, const Tensor& rows, const Tensor& weights);

// The adjoint of interpolate. grad (M, C), rows (M, J) int64, weights (M, J) -> (num_in, C): row rows[m, j] receives
// weights[m, j] * grad[m], in the order of m and j.
Tensor splat(const Tensor& grad, const Tensor& rows, const Tensor& weights, int64_t num_in);

}  // namespace tsp3d
