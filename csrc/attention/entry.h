// The operators over attention_t and spatial_attention_t, which op_cpu.cpp and op_cuda.cu define before they include this.
#pragma once

namespace tsp3d {

Tensor attention(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& q_splits_, const Tensor& k_splits_,
                 double scale) {
  check_attention(q, k, v, q_splits_, k_splits_);
  const Tensor q_splits = dense<int64_t>(q_splits_, "q_splits"), k_splits = dense<int64_t>(k_splits_, "k_splits");
  return dispatch_real(q, "attention", [&](auto zero) {
    return attention_t<decltype(zero)>(q, k, v, q_splits, k_splits, static_cast<decltype(zero)>(scale));
  });
}

Tensor spatial_attention(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& ask, const Tensor& xyz,
                         const Tensor& splits_) {
  check_attention(q, k, v, splits_, splits_);
  STD_TORCH_CHECK(q.size(0) == k.size(0), "tsp3d: spatial attention is that of voxels to themselves");
  STD_TORCH_CHECK(ask.dim() == 3 && ask.size(0) == q.size(0) && ask.size(1) == q.size(1) && ask.size(2) == 6 &&
                      ask.scalar_type() == q.scalar_type(),
                  "tsp3d: ask must be (N, heads, 6) of the dtype of q");
  STD_TORCH_CHECK(xyz.dim() == 2 && xyz.size(0) == q.size(0) && xyz.size(1) == 3, "tsp3d: xyz must be (N, 3)");
  const Tensor splits = dense<int64_t>(splits_, "splits");
  return dispatch_real(q, "spatial_attention", [&](auto zero) {
    return spatial_attention_t<decltype(zero)>(q, k, v, ask, xyz, splits);
  });
}

}  // namespace tsp3d
