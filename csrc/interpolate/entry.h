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

Tensor interpolate(const Tensor& feats, const Tensor& rows_, const Tensor& weights) {
  const Tensor rows = dense<int64_t>(rows_, "rows");
  return dispatch_real(feats, "interpolate",
                       [&](auto zero) { return interpolate_t<decltype(zero)>(feats, rows, weights); });
}

Tensor splat(const Tensor& grad, const Tensor& rows_, const Tensor& weights, int64_t num_in) {
  const Tensor rows = dense<int64_t>(rows_, "rows");
  return dispatch_real(grad, "splat", [&](auto zero) { return splat_t<decltype(zero)>(grad, rows, weights, num_in); });
}

}  // namespace tsp3d
