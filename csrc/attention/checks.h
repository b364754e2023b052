// What attention requires of its arguments, on every device.
#pragma once

#include <cmath>

#include "../common/anywhere.h"
#include "op.h"

namespace tsp3d {

// log(1 + exp(x)), which is x where exp(x) would overflow, as torch has it.
template <class T>
TSP3D_ANYWHERE T softplus(T x) {
  return x > T(20) ? x : std::log1p(std::exp(x));
}

inline void check_attention(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& q_splits,
                            const Tensor& k_splits) {
  STD_TORCH_CHECK(q.dim() == 3 && k.dim() == 3 && v.dim() == 3, "tsp3d: attention takes (rows, heads, channels)");
  STD_TORCH_CHECK(q.size(1) == k.size(1) && k.size(1) == v.size(1), "tsp3d: q, k and v differ in heads");
  STD_TORCH_CHECK(q.size(2) == k.size(2), "tsp3d: q and k differ in channels");
  STD_TORCH_CHECK(k.size(0) == v.size(0), "tsp3d: k and v differ in rows");
  STD_TORCH_CHECK(q.scalar_type() == k.scalar_type() && k.scalar_type() == v.scalar_type(),
                  "tsp3d: q, k and v differ in dtype");
  STD_TORCH_CHECK(q_splits.size(0) == k_splits.size(0) && q_splits.size(0) >= 1,
                  "tsp3d: q_splits and k_splits must be (sequences + 1,)");
}

}  // namespace tsp3d
