// The operator over merge_feats_t, which op_cpu.cpp and op_cuda.cu define before they include this.
#pragma once

namespace tsp3d {

Tensor merge_feats(const Tensor& a, const Tensor& b, const Tensor& rows_a_, const Tensor& rows_b_) {
  STD_TORCH_CHECK(a.dim() == 2 && b.dim() == 2 && a.size(1) == b.size(1), "tsp3d: the features differ in channels");
  STD_TORCH_CHECK(a.scalar_type() == b.scalar_type(), "tsp3d: the features differ in dtype");
  const Tensor rows_a = dense<int64_t>(rows_a_, "rows_a"), rows_b = dense<int64_t>(rows_b_, "rows_b");
  STD_TORCH_CHECK(rows_a.size(0) == rows_b.size(0), "tsp3d: rows_a and rows_b differ in length");
  return dispatch_real(a, "merge_feats",
                       [&](auto zero) { return merge_feats_t<decltype(zero)>(a, b, rows_a, rows_b); });
}

}  // namespace tsp3d
