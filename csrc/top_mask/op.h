// The best rows of each sequence of a ragged batch.
#pragma once

#include "../common/tensor.h"

namespace tsp3d {

// scores (N,) float32 or float64, splits (S + 1,) int64: rows splits[s]..splits[s + 1] belong to sequence s. Returns (N,)
// bool: the `keep` best rows of each sequence, of equal ones the first. A score that is not a number counts as infinite.
Tensor top_mask(const Tensor& scores, const Tensor& splits, int64_t keep);

}  // namespace tsp3d
