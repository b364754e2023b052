#include "op.h"

#include <algorithm>
#include <vector>

#include "../linear/rows.h"

namespace tsp3d {
namespace {

// A range of groups belongs to one item, which reads all group numbers and takes its own rows, in order, so many at a time
// that they and what is made of them stay in the cache.
template <class T>
void means(const Linear<T>& first, const Linear<T>& second, const T* x, const int64_t* row, int64_t n, int64_t low,
           int64_t high, T* result) {
  const LinearRows<T> some = linear_rows<T>();
  const AddToGroups<T> add = add_to_groups<T>();
  const int64_t cin = first.cin, hidden = first.cout, channels = second.cout;
  const int64_t room = std::max(first.room(kLinearRows), second.room(kLinearRows));
  T* in = workspace<T, 6>(kLinearRows * (cin + hidden + channels) + room);
  T *between = in + kLinearRows * cin, *out = between + kLinearRows * hidden, *scratch = out + kLinearRows * channels;
  int64_t rows[kLinearRows], groups[kLinearRows], taken = 0;
  std::vector<int64_t> counts(high - low, 0);
  const auto flush = [&] {
    if (taken == 0) return;
    const bool together = rows[taken - 1] - rows[0] == taken - 1;  // mostly so: groups and rows have the order of space
    for (int64_t i = 0; i < taken && !together; ++i) std::copy_n(x + rows[i] * cin, cin, in + i * cin);
    some(first, together ? x + rows[0] * cin : in, between, 0, taken, scratch);
    some(second, between, out, 0, taken, scratch);
    add(out, taken, channels, groups, result);
    taken = 0;
  };
  for (int64_t i = 0; i < n; ++i) {
    if (row[i] < low || row[i] >= high) continue;
    rows[taken] = i;
    groups[taken] = row[i];
    ++counts[row[i] - low];
    if (++taken == kLinearRows) flush();
  }
  flush();
  for (int64_t g = low; g < high; ++g)
    for (int64_t c = 0; c < channels && counts[g - low] > 1; ++c) result[g * channels + c] /= static_cast<T>(counts[g - low]);
}

}  // namespace

Tensor mean_mlp(const Tensor& x, const Tensor& first_, int64_t hidden, const Tensor& second_, int64_t channels,
                const Tensor& row_, int64_t size) {
  STD_TORCH_CHECK(x.dim() == 2 && row_.dim() == 1 && row_.size(0) == x.size(0) && size >= 0,
                  "tsp3d: mean_mlp takes rows (N, Cin), the group of each (N,) and size >= 0");
  const Tensor row = dense<int64_t>(row_, "row");
  return dispatch_real(x, "mean_mlp", [&](auto zero) {
    using T = decltype(zero);
    const int64_t n = x.size(0);
    Arguments<T> arguments;
    Linear<T> first = arguments.layer(first_, x.size(1), hidden, "first");
    Linear<T> second = arguments.layer(second_, hidden, channels, "second");
    first.activation = second.activation = 1;
    const T* in = arguments.rows(x, n, first.cin, "x");
    Tensor out = zeros<T>(x, {size, channels});
    T* result = mutable_data<T>(out);
    const int64_t work = n * (first.cin + channels) * hidden / 16, parts = work > 20000 ? 4 * max_threads() : 1;
    parallel_items(parts, work, [&](int64_t part) {
      means(first, second, in, data<int64_t>(row), n, size * part / parts, size * (part + 1) / parts, result);
    });
    return out;
  });
}

}  // namespace tsp3d
