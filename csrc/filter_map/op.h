// The kernel map that is left after pruning.
#pragma once

#include <tuple>

#include "../common/tensor.h"

namespace tsp3d {

// in_rows (L,) int32, out_rows (L,) int32, splits (K + 1,) int64: a kernel map (kernel_map/op.h).
// new_in (N,) int32, new_out (M,) int32: the new number of each row, ascending, or -1 where it was pruned.
// Returns the map of the pairs whose both ends are left, in the same order.
std::tuple<Tensor, Tensor, Tensor> filter_map(const Tensor& in_rows, const Tensor& out_rows, const Tensor& splits,
                                              const Tensor& new_in, const Tensor& new_out);

}  // namespace tsp3d
