// Rows through a linear layer, for the operators that are made of such layers. micro.inc has the inner loops.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>

#include "../common/panel.h"
#include "../common/parallel.h"
#include "../common/round.h"
#include "../common/tensor.h"

namespace tsp3d {

constexpr int64_t kLinearRows = 48;  // rows of one item of work

// What op.h says of the arguments; null where absent.
template <class T>
struct Linear {
  const T *before_weight = nullptr, *before_bias = nullptr, *panels = nullptr, *factor = nullptr, *residual = nullptr;
  const T *after_weight = nullptr, *after_bias = nullptr;
  int64_t cin = 0, cout = 0, activation = 0;
  int64_t stride = 0;  // numbers from a row of the result, of factor and of residual to the next
  T eps = 0;

  int64_t padded() const { return round_up(cout, kPanel); }
  int64_t room(int64_t rows) const { return rows * (cin + padded()); }  // numbers of scratch for so many rows
  // The layer of the panels first..last alone.
  Linear columns(int64_t first, int64_t last) const {
    const int64_t skipped = first * kPanel;
    Linear part = *this;
    part.panels += skipped * (cin + 1);
    part.cout = std::min(cout, last * kPanel) - skipped;
    if (factor) part.factor += skipped;
    if (residual) part.residual += skipped;
    return part;
  }
};

// Rows first..last of x (N, Cin) -> out (N, Cout). scratch: layer.room(last - first) numbers.
template <class T>
using LinearRows = void (*)(const Linear<T>& layer, const T* x, T* out, int64_t first, int64_t last, T* scratch);

template <class T>
LinearRows<T> linear_rows();

// Each of `count` rows of `channels` numbers to the sums of its group.
template <class T>
using AddToGroups = void (*)(const T* rows, int64_t count, int64_t channels, const int64_t* groups, T* sums);

template <class T>
AddToGroups<T> add_to_groups();

template <class T>
void run(const Linear<T>& layer, const T* x, T* out, int64_t rows) {
  const LinearRows<T> some = linear_rows<T>();
  const int64_t blocks = ceil_div(rows, kLinearRows), panels = ceil_div(layer.cout, kPanel);
  // A few rows are shared out by columns: the time goes into reading the weight.
  const int64_t parts = blocks == 1 && !layer.after_weight ? std::min<int64_t>(max_threads(), panels) : 1;
  parallel_items(blocks * parts, rows * layer.cin * layer.cout / 16, [&](int64_t item) {
    const int64_t first = item / parts * kLinearRows, last = std::min(rows, first + kLinearRows), part = item % parts;
    const int64_t from = panels * part / parts, to = panels * (part + 1) / parts;
    some(layer.columns(from, to), x, out + from * kPanel, first, last, workspace<T, 5>(layer.room(last - first)));
  });
}

// The numbers of arguments, dense and checked. Holds what it had to copy.
template <class T>
class Arguments {
 public:
  const T* rows(const std::optional<Tensor>& t, int64_t rows, int64_t channels, const char* name) {
    if (!t) return nullptr;
    STD_TORCH_CHECK(t->dim() > 0 && t->numel() == rows * channels && t->size(t->dim() - 1) == channels, "tsp3d: ", name,
                    " does not fit the other arguments");
    held_.push_back(dense<T>(*t, name));
    return data<T>(held_.back());
  }
  // A layer without its neighbours.
  Linear<T> layer(const Tensor& panels, int64_t cin, int64_t cout, const char* name) {
    Linear<T> result;
    result.panels = rows(panels, ceil_div(cout, kPanel) * (cin + 1), kPanel, name);
    result.cin = cin, result.cout = result.stride = cout;
    return result;
  }
  void norms(Linear<T>& layer, const std::optional<Tensor>& before_weight, const std::optional<Tensor>& before_bias,
             const std::optional<Tensor>& after_weight, const std::optional<Tensor>& after_bias, double eps) {
    STD_TORCH_CHECK(before_weight.has_value() == before_bias.has_value() &&
                        after_weight.has_value() == after_bias.has_value(),
                    "tsp3d: a layer norm has a weight and a bias");
    layer.before_weight = rows(before_weight, 1, layer.cin, "before_weight");
    layer.before_bias = rows(before_bias, 1, layer.cin, "before_bias");
    layer.after_weight = rows(after_weight, 1, layer.cout, "after_weight");
    layer.after_bias = rows(after_bias, 1, layer.cout, "after_bias");
    layer.eps = static_cast<T>(eps);
  }

 private:
  std::vector<Tensor> held_;
};

}  // namespace tsp3d
