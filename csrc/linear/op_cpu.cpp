#include <algorithm>

#include "../common/parallel.h"
#include "micro.h"
#include "op.h"

namespace tsp3d {
namespace {

constexpr int64_t kBlock = 48;  // rows of one item of work

// The dense form of what is there; `held` keeps it alive.
template <class T>
const T* pointer(const std::optional<Tensor>& t, int64_t rows, int64_t channels, const char* name,
                 std::vector<Tensor>& held) {
  if (!t) return nullptr;
  STD_TORCH_CHECK(t->numel() == rows * channels && t->size(t->dim() - 1) == channels, "tsp3d: linear: ", name,
                  " does not fit the rows");
  held.push_back(dense<T>(*t, name));
  return data<T>(held.back());
}

}  // namespace

Tensor linear(const Tensor& x, const std::optional<Tensor>& before_weight, const std::optional<Tensor>& before_bias,
              const Tensor& panels, const Tensor& bias, int64_t activation,
              const std::optional<Tensor>& factor, const std::optional<Tensor>& residual,
              const std::optional<Tensor>& after_weight, const std::optional<Tensor>& after_bias, double eps) {
  STD_TORCH_CHECK(x.dim() == 2 && bias.dim() == 1, "tsp3d: linear takes rows (N, Cin) and a bias (Cout,)");
  const int64_t n = x.size(0), cin = x.size(1), cout = bias.size(0), count = (cout + kPanel - 1) / kPanel;
  STD_TORCH_CHECK(panels.dim() == 3 && panels.size(0) == count && panels.size(1) == cin && panels.size(2) == kPanel,
                  "tsp3d: linear: panels must be (ceil(Cout / 32), Cin, 32)");
  STD_TORCH_CHECK(before_weight.has_value() == before_bias.has_value() &&
                      after_weight.has_value() == after_bias.has_value(),
                  "tsp3d: linear: a layer norm has a weight and a bias");
  return dispatch_real(x, "linear", [&](auto zero) {
    using T = decltype(zero);
    std::vector<Tensor> held;
    LinearTask<T> task;
    task.x = pointer<T>(x, n, cin, "x", held);
    task.before_weight = pointer<T>(before_weight, 1, cin, "before_weight", held);
    task.before_bias = pointer<T>(before_bias, 1, cin, "before_bias", held);
    task.panels = pointer<T>(panels, count * cin, kPanel, "panels", held);
    task.bias = pointer<T>(bias, 1, cout, "bias", held);
    task.factor = pointer<T>(factor, n, cout, "factor", held);
    task.residual = pointer<T>(residual, n, cout, "residual", held);
    task.after_weight = pointer<T>(after_weight, 1, cout, "after_weight", held);
    task.after_bias = pointer<T>(after_bias, 1, cout, "after_bias", held);
    task.cin = cin, task.cout = cout, task.activation = activation, task.eps = static_cast<T>(eps);
    Tensor out = make<T>(x, {n, cout});
    task.out = mutable_data<T>(out);
    const LinearRows<T> rows = linear_rows<T>();
    parallel_items((n + kBlock - 1) / kBlock, n * cin * cout / 16, [&](int64_t item) {
      const int64_t first = item * kBlock, last = std::min(n, first + kBlock);
      rows(task, first, last, workspace<T, 5>((last - first) * (cin + count * kPanel)));
    });
    return out;
  });
}

}  // namespace tsp3d
