// The kernel map of a batch made of copies of scenes.
#pragma once

#include <tuple>

#include "../common/tensor.h"

namespace tsp3d {

// in_rows, out_rows (L,) int32, splits (K + 1,) int64: a kernel map (kernel_map/op.h) over a batch of B scenes.
// in_offsets, out_offsets (B + 1,) int64: first row of each scene. index (B',) int64: new scene b copies scene index[b].
// Returns the kernel map of the new batch, made by arithmetic on row numbers.
std::tuple<Tensor, Tensor, Tensor> replicate_map(const Tensor& in_rows, const Tensor& out_rows, const Tensor& splits,
                                                 const Tensor& in_offsets, const Tensor& out_offsets,
                                                 const Tensor& index);

}  // namespace tsp3d
