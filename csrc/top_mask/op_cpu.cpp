#include "op.h"

#include <algorithm>
#include <functional>
#include <limits>

#include "../common/map.h"
#include "../common/parallel.h"

namespace tsp3d {
namespace {

// One sequence: the score of the last of the best rows, those above it, and of those equal to it the first.
template <class T>
void mark(const T* scores, int64_t count, int64_t keep, bool* out) {
  if (keep <= 0 || keep >= count) {
    std::fill(out, out + count, keep > 0);
    return;
  }
  T* values = workspace<T, 5>(2 * count);
  T* ordered = values + count;
  for (int64_t i = 0; i < count; ++i)
    values[i] = scores[i] == scores[i] ? scores[i] : std::numeric_limits<T>::infinity();
  std::copy(values, values + count, ordered);
  std::nth_element(ordered, ordered + keep - 1, ordered + count, std::greater<T>());
  const T last = ordered[keep - 1];
  int64_t equal = keep - std::count_if(values, values + count, [&](T value) { return value > last; });
  for (int64_t i = 0; i < count; ++i) out[i] = values[i] > last || (values[i] == last && equal-- > 0);
}

}  // namespace

Tensor top_mask(const Tensor& scores_, const Tensor& splits_, int64_t keep) {
  STD_TORCH_CHECK(scores_.dim() == 1, "tsp3d: top_mask takes scores (N,)");
  const Tensor splits = dense<int64_t>(splits_, "splits");
  const int64_t n = scores_.size(0), *at = borders(splits, n, "sequences"), sequences = splits.size(0) - 1;
  Tensor mask = make<bool>(scores_, {n});
  bool* out = mutable_data<bool>(mask);
  dispatch_real(scores_, "top_mask", [&](auto zero) {
    using T = decltype(zero);
    const Tensor scores = dense<T>(scores_, "scores");
    const T* s = data<T>(scores);
    parallel_items(sequences, 8 * n, [&](int64_t i) { mark(s + at[i], at[i + 1] - at[i], keep, out + at[i]); });
    return 0;
  });
  return mask;
}

}  // namespace tsp3d
