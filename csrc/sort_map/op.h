// Output rows in the order of the kernel offsets that they have, for kernels that work on tiles of rows.
#pragma once

#include "../common/tensor.h"
#include "shares.h"

namespace tsp3d {

// A kernel map (kernel_map/op.h) with K offsets and num_out output rows M; shares S, 1..max(K, 1).
// Share s has the offsets share_begin(K, s, S)..share_begin(K, s + 1, S) - 1 (shares.h).
// Returns (S + K, M) int32:
//   row s         the output rows, ascending by the mask of the share's offsets that they have (bit j is its offset
//                 number j, of which kMaskBits count), and among equal masks by row;
//   row S + k     the input row that each of them, in the order of k's share, meets under offset k, or -1.
Tensor sort_map(const Tensor& in_rows, const Tensor& out_rows, const Tensor& splits, int64_t num_out, int64_t shares);

inline void check_sort_map(const Tensor& in_rows, const Tensor& out_rows, int64_t volume, int64_t num_out,
                           int64_t shares) {
  STD_TORCH_CHECK(in_rows.size(0) == out_rows.size(0), "tsp3d: in_rows and out_rows differ in length");
  STD_TORCH_CHECK(shares >= 1 && (shares <= volume || shares == 1), "tsp3d: shares must be 1..", volume, ", got ", shares);
  STD_TORCH_CHECK(num_out >= 0 && num_out < INT32_MAX, "tsp3d: more than 2^31 - 1 voxels in one tensor");
}

}  // namespace tsp3d
