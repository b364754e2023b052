// The CPU has one way of doing the work.
#include "checks.h"

namespace tsp3d {

Tensor tiled_conv(const Tensor& feats, const Tensor& weight, const Tensor& in_rows, const Tensor& out_rows,
                  const Tensor& splits, const std::optional<Tensor>& sorted, int64_t num_out, int64_t tile,
                  int64_t shares) {
  const int64_t volume = splits.size(0) - 1;
  check_tiles(tile, kConvTiles, shares, volume);
  if (sorted) check_sorted(*sorted, volume, num_out, shares);
  return conv(feats, weight, in_rows, out_rows, splits, num_out);
}

Tensor tiled_weight_grad(const Tensor& feats, const Tensor& grad, const Tensor& in_rows, const Tensor& out_rows,
                         const Tensor& splits, int64_t tile, int64_t shares) {
  check_tiles(tile, kWeightGradTiles, shares, kMostShares);
  return conv_weight_grad(feats, grad, in_rows, out_rows, splits);
}

}  // namespace tsp3d
