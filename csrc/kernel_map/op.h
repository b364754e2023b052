// Which input row meets which output row under which kernel offset.
#pragma once

#include <tuple>
#include <vector>

#include "../common/tensor.h"

namespace tsp3d {

// in_coords (N, 4), out_coords (M, 4) int32 coordinate sets; kernel_size (x, y, z); step >= 1, offsets in voxels.
// Returns in_rows (L,) int32, out_rows (L,) int32, splits (K + 1,) int64: the pairs with
//   in_coords[in_rows[p]] == out_coords[out_rows[p]] + step * offset_k   for splits[k] <= p < splits[k + 1],
// ordered by out row within each k (and so by in row too). Offset order: offsets.h.
std::tuple<Tensor, Tensor, Tensor> kernel_map(const Tensor& in_coords, const Tensor& out_coords,
                                              const std::vector<int64_t>& kernel_size, int64_t step);

}  // namespace tsp3d
