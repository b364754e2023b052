// A kernel map (kernel_map/op.h) in the CPU's memory, and the borders of the parts of rows.
#pragma once

#include <algorithm>

#include "tensor.h"

namespace tsp3d {

// The numbers of `splits`, checked: part i of `rows` rows is at[i]..at[i + 1].
inline const int64_t* borders(const Tensor& splits, int64_t rows, const char* parts) {
  const bool filled = splits.dim() == 1 && splits.size(0) > 0;
  const int64_t *at = data<int64_t>(splits), *last = at + (filled ? splits.size(0) - 1 : 0);
  STD_TORCH_CHECK(filled && *at == 0 && *last == rows && std::is_sorted(at, last + 1), "tsp3d: the splits of ", parts,
                  " must ascend from 0 to ", rows);
  return at;
}

// Checked but for its row numbers, which are trusted.
struct Map {
  Tensor in, out, splits;
  const int32_t *in_rows, *out_rows;
  const int64_t* s;  // the pairs of offset k are s[k]..s[k + 1]
  int64_t volume, length;

  Map(const Tensor& in_, const Tensor& out_, const Tensor& splits_)
      : in(dense<int32_t>(in_, "in_rows")),
        out(dense<int32_t>(out_, "out_rows")),
        splits(dense<int64_t>(splits_, "splits")),
        in_rows(data<int32_t>(in)),
        out_rows(data<int32_t>(out)),
        s(borders(splits, in.numel(), "a kernel map")),
        volume(splits.size(0) - 1),
        length(in.numel()) {
    STD_TORCH_CHECK(in.numel() == out.numel(), "tsp3d: in_rows and out_rows differ in length");
  }
};

}  // namespace tsp3d
