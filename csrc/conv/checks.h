// What the operators of op.h require of their arguments, on every device.
#pragma once

#include "op.h"

namespace tsp3d {

// offsets: those of the kernel map. mixed: weight may be of another dtype than feats.
inline void check_conv(const Tensor& feats, const Tensor& weight, int64_t offsets, bool mixed = false) {
  STD_TORCH_CHECK(feats.dim() == 2 && weight.dim() == 3, "tsp3d: conv takes feats (N, Cin) and weight (K, Cin, Cout)");
  STD_TORCH_CHECK(feats.size(1) == weight.size(1), "tsp3d: feats have ", feats.size(1), " channels, weight takes ",
                  weight.size(1));
  STD_TORCH_CHECK(mixed || feats.scalar_type() == weight.scalar_type(), "tsp3d: feats and weight differ in dtype");
  STD_TORCH_CHECK(offsets == weight.size(0), "tsp3d: the kernel map has ", offsets, " offsets, weight ", weight.size(0));
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

}  // namespace tsp3d
