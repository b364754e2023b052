// The operators over weights_t, interpolate_t and splat_t, which op_cpu.cpp and op_cuda.cu define before they include this.
#pragma once

namespace tsp3d {

std::tuple<Tensor, Tensor> interpolation_weights(const Tensor& coords_, const Tensor& points, int64_t stride) {
  STD_TORCH_CHECK(points.dim() == 2 && points.size(1) == 4, "tsp3d: points must be (M, 4) [batch, x, y, z]");
  STD_TORCH_CHECK(stride >= 1, "tsp3d: stride must be positive, got ", stride);
  const Tensor coords = dense_coords(coords_, "coords");
  return dispatch_real(points, "interpolation_weights",
                       [&](auto zero) { return weights_t<decltype(zero)>(coords, points, stride); });
}

inline void check_terms(const Tensor& rows, const Tensor& weights, const Tensor& feats) {
  STD_TORCH_CHECK(rows.dim() == 2 && weights.dim() == 2 && rows.size(0) == weights.size(0) &&
                      rows.size(1) == weights.size(1) && feats.dim() == 2,
                  "tsp3d: rows (M, J) and weights (M, J) must be alike, and features (rows, C)");
}

Tensor interpolate(const Tensor& feats, const Tensor& rows_, const Tensor& weights) {
  check_terms(rows_, weights, feats);
  const Tensor rows = dense<int64_t>(rows_, "rows");
  return dispatch_real(feats, "interpolate",
                       [&](auto zero) { return interpolate_t<decltype(zero)>(feats, rows, weights); });
}

Tensor splat(const Tensor& grad, const Tensor& rows_, const Tensor& weights, int64_t num_in) {
  check_terms(rows_, weights, grad);
  STD_TORCH_CHECK(grad.size(0) == rows_.size(0), "tsp3d: splat takes as many rows of grad as of row numbers");
  const Tensor rows = dense<int64_t>(rows_, "rows");
  return dispatch_real(grad, "splat", [&](auto zero) { return splat_t<decltype(zero)>(grad, rows, weights, num_in); });
}

}  // namespace tsp3d
