// Softmax attention over a ragged batch of sequences.
#pragma once

#include "../common/tensor.h"

namespace tsp3d {

// q (Nq, H, D), k (Nk, H, D), v (Nk, H, E) of one dtype (float32, float64), any strides; q_splits, k_splits (S + 1,)
// int64: rows splits[s]..splits[s + 1] belong to sequence s. Returns (Nq, H, E):
// out[i, h] = sum_j softmax_j(scale * q[i, h] . k[j, h]) v[j, h] over the keys j of i's sequence; zeros without keys.
Tensor attention(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& q_splits, const Tensor& k_splits,
                 double scale);

}  // namespace tsp3d
