// What the operators of op.h require of their arguments, on every device.
#pragma once

#include "../common/panel.h"
#include "op.h"

namespace tsp3d {

// offsets: those of the kernel map.
inline void check_conv(const Tensor& feats, const Tensor& weight, int64_t offsets) {
  STD_TORCH_CHECK(feats.dim() == 2 && weight.dim() == 3, "tsp3d: conv takes feats (N, Cin) and weight (K, Cin, Cout)");
  STD_TORCH_CHECK(feats.size(1) == weight.size(1), "tsp3d: feats have ", feats.size(1), " channels, weight takes ",
                  weight.size(1));
  STD_TORCH_CHECK(feats.scalar_type() == weight.scalar_type(), "tsp3d: feats and weight differ in dtype");
  STD_TORCH_CHECK(offsets == weight.size(0), "tsp3d: the kernel map has ", offsets, " offsets, weight ", weight.size(0));
}

// depth: input channels that lie side by side.
inline void check_panels(const Tensor& feats, const Tensor& panels, int64_t channels, int64_t offsets, int64_t depth) {
  STD_TORCH_CHECK(feats.dim() == 2 && panels.dim() == 5 && channels >= 0,
                  "tsp3d: conv_fused takes feats (N, Cin), panels (K, Cout / 32, Cin / depth, 32, depth), channels >= 0");
  STD_TORCH_CHECK(panels.size(1) == (channels + kPanel - 1) / kPanel && panels.size(3) == kPanel &&
                      panels.size(2) == (feats.size(1) + depth - 1) / depth && panels.size(4) == depth,
                  "tsp3d: panels do not fit ", feats.size(1), " and ", channels, " channels");
  STD_TORCH_CHECK(offsets == panels.size(0), "tsp3d: the kernel map has ", offsets, " offsets, panels ", panels.size(0));
}

inline void check_fused(const Tensor& feats, int64_t num_out, int64_t cout, const std::optional<Tensor>& bias,
                        const std::optional<Tensor>& residual) {
  STD_TORCH_CHECK(!bias || (bias->dim() == 1 && bias->size(0) == cout && bias->scalar_type() == feats.scalar_type()),
                  "tsp3d: the bias must be (Cout,) of the features' dtype");
  STD_TORCH_CHECK(!residual || (residual->dim() == 2 && residual->size(0) == num_out && residual->size(1) == cout &&
                                residual->scalar_type() == feats.scalar_type()),
                  "tsp3d: the residual must be (num_out, Cout) of the features' dtype");
}

inline void check_weight_grad(const Tensor& feats, const Tensor& grad) {
  STD_TORCH_CHECK(feats.dim() == 2 && grad.dim() == 2, "tsp3d: conv_weight_grad takes feats (N, Cin), grad (M, Cout)");
  STD_TORCH_CHECK(feats.scalar_type() == grad.scalar_type(), "tsp3d: feats and grad differ in dtype");
}

constexpr int64_t kConvTiles = 3, kWeightGradTiles = 2, kMostShares = 1024;

inline void check_tiles(int64_t tile, int64_t tiles, int64_t shares, int64_t most) {
  STD_TORCH_CHECK(tile >= 0 && tile <= tiles, "tsp3d: tile must be 0..", tiles, ", got ", tile);
  STD_TORCH_CHECK(shares >= 0 && shares <= most, "tsp3d: shares must be 0..", most, ", got ", shares);
}

// The number of orders in a sorted map.
inline int64_t check_sorted(const Tensor& sorted, int64_t volume, int64_t num_out, int64_t shares) {
  STD_TORCH_CHECK(sorted.dim() == 2 && sorted.size(1) == num_out && sorted.size(0) > volume,
                  "tsp3d: sorted must be (orders + ", volume, ", ", num_out, "), as sort_map makes it of this map");
  const int64_t orders = sorted.size(0) - volume;
  STD_TORCH_CHECK(orders == 1 || shares == 0 || shares == orders, "tsp3d: sorted has ", orders,
                  " orders, for as many shares, not ", shares);
  return orders;
}

}  // namespace tsp3d
