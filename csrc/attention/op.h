// Softmax attention over a ragged batch of sequences.
#pragma once

#include "../common/tensor.h"

namespace tsp3d {

// q (Nq, H, D), k (Nk, H, D), v (Nk, H, E) of one dtype (float32, float64), any strides; q_splits, k_splits (S + 1,)
// int64: rows splits[s]..splits[s + 1] belong to sequence s. Returns (Nq, H, E):
// out[i, h] = sum_j softmax_j(scale * q[i, h] . k[j, h]) v[j, h] over the keys j of i's sequence; zeros without keys.
Tensor attention(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& q_splits, const Tensor& k_splits,
                 double scale);

constexpr int64_t kSpatialChannels = 7;

// Attention of voxels to the voxels of their sequence, which knows where they are (tsp3d/models/spatial.py). q and k
// (N, H, D), v (N, H, E), ask (N, H, 6): a direction u and what softplus makes a reach a > 0; xyz (N, 3); splits (S + 1,).
// Logits: q_i . k_j / sqrt(D) + u_i . (p_j - p_i) - a_i . (p_j - p_i)^2. Returns (N, H, E + 7): the attended values, the
// attended mean m of p_j - p_i (3), its length (1), and the attended spread of p_j by axis (3).
Tensor spatial_attention(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& ask, const Tensor& xyz,
                         const Tensor& splits);

}  // namespace tsp3d
