// A linear layer of rows with what comes before and after it, in one pass over the rows.
#pragma once

#include <optional>

#include "../common/tensor.h"

namespace tsp3d {

// x (N, Cin); panels (P, Cin + 1, 32): the weight (Cin, Cout) and the bias (Cout,) under it, cut into P = ceil(Cout / 32)
// panels of columns, the last one filled up with zeros; channels: Cout; factor, residual (N, Cout); the weights of layer
// norms (Cin,) or (Cout,). All of one dtype, float32 or float64. Returns (N, Cout):
// after(residual + factor * activation(before(x) @ weight + bias)), without what is absent.
// activation: 0 none, 1 ReLU, 2 GELU (of the error function). before and after are layer norms.
Tensor linear(const Tensor& x, const std::optional<Tensor>& before_weight, const std::optional<Tensor>& before_bias,
              const Tensor& panels, int64_t channels, int64_t activation, const std::optional<Tensor>& factor,
              const std::optional<Tensor>& residual, const std::optional<Tensor>& after_weight,
              const std::optional<Tensor>& after_bias, double eps);

}  // namespace tsp3d
