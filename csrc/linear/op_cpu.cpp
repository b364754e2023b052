#include "op.h"

#include "rows.h"

namespace tsp3d {

Tensor linear(const Tensor& x, const std::optional<Tensor>& before_weight, const std::optional<Tensor>& before_bias,
              const Tensor& panels, int64_t channels, int64_t activation, const std::optional<Tensor>& factor,
              const std::optional<Tensor>& residual, const std::optional<Tensor>& after_weight,
              const std::optional<Tensor>& after_bias, double eps) {
  STD_TORCH_CHECK(x.dim() == 2, "tsp3d: linear takes rows (N, Cin)");
  return dispatch_real(x, "linear", [&](auto zero) {
    using T = decltype(zero);
    const int64_t n = x.size(0);
    Arguments<T> arguments;
    Linear<T> layer = arguments.layer(panels, x.size(1), channels, "panels");
    arguments.norms(layer, before_weight, before_bias, after_weight, after_bias, eps);
    layer.activation = activation;
    layer.factor = arguments.rows(factor, n, channels, "factor");
    layer.residual = arguments.rows(residual, n, channels, "residual");
    Tensor out = make<T>(x, {n, channels});
    run(layer, arguments.rows(x, n, layer.cin, "x"), mutable_data<T>(out), n);
    return out;
  });
}

}  // namespace tsp3d
