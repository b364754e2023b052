#include "op.h"

#include <algorithm>

#include "../common/map.h"
#include "../common/parallel.h"

namespace tsp3d {
namespace {

// f(out row, in row) for all pairs with begin <= out row < end, by offset and then in order.
template <class F>
void pairs_of_rows(const Map& map, int64_t begin, int64_t end, F&& f) {
  for (int64_t k = 0; k < map.volume; ++k) {
    const int32_t* high = map.out_rows + map.s[k + 1];
    const int32_t* at = std::lower_bound(map.out_rows + map.s[k], high, begin);
    for (; at < high && *at < end; ++at) f(*at, map.in_rows[at - map.out_rows]);
  }
}

template <class T>
Tensor sum_pool_t(const Tensor& feats_, const Map& map, int64_t num_out) {
  const Tensor feats = dense<T>(feats_, "feats");
  const int64_t channels = feats.size(1);
  const T* in = data<T>(feats);
  Tensor out = zeros<T>(feats, {num_out, channels});
  T* result = mutable_data<T>(out);
  parallel_ranges(num_out, map.length * channels, [&](int64_t begin, int64_t end) {
    pairs_of_rows(map, begin, end, [&](int64_t o, int64_t i) {
      for (int64_t c = 0; c < channels; ++c) result[o * channels + c] += in[i * channels + c];
    });
  });
  return out;
}

template <class T>
std::tuple<Tensor, Tensor> max_pool_t(const Tensor& feats_, const Map& map, int64_t num_out) {
  const Tensor feats = dense<T>(feats_, "feats");
  const int64_t channels = feats.size(1);
  const T* in = data<T>(feats);
  Tensor out = zeros<T>(feats, {num_out, channels}), winners = make<int32_t>(feats, {num_out, channels});
  T* result = mutable_data<T>(out);
  int32_t* winner = mutable_data<int32_t>(winners);
  std::fill(winner, winner + num_out * channels, -1);
  parallel_ranges(num_out, map.length * channels, [&](int64_t begin, int64_t end) {
    pairs_of_rows(map, begin, end, [&](int64_t o, int64_t i) {
      T* best = result + o * channels;
      int32_t* who = winner + o * channels;
      for (int64_t c = 0; c < channels; ++c) {
        const T value = in[i * channels + c];
        if (who[c] < 0 || value > best[c] || (value != value && best[c] == best[c])) {  // not a number: the first wins
          best[c] = value;
          who[c] = static_cast<int32_t>(i);
        }
      }
    });
  });
  return {out, winners};
}

template <class T>
Tensor max_pool_grad_t(const Tensor& grad_, const Tensor& argmax_, int64_t num_in) {
  const Tensor grad = dense<T>(grad_, "grad"), argmax = dense<int32_t>(argmax_, "argmax");
  const int64_t rows = grad.size(0), channels = grad.size(1);
  const T* g = data<T>(grad);
  const int32_t* winner = data<int32_t>(argmax);
  Tensor out = zeros<T>(grad, {num_in, channels});
  T* result = mutable_data<T>(out);
  for (int64_t o = 0; o < rows; ++o)
    for (int64_t c = 0; c < channels; ++c)
      if (winner[o * channels + c] >= 0) result[winner[o * channels + c] * channels + c] += g[o * channels + c];
  return out;
}

}  // namespace

Tensor sum_pool(const Tensor& feats, const Tensor& in_rows, const Tensor& out_rows, const Tensor& splits,
                int64_t num_out) {
  const Map map(in_rows, out_rows, splits);
  return dispatch_real(feats, "sum_pool", [&](auto zero) { return sum_pool_t<decltype(zero)>(feats, map, num_out); });
}

std::tuple<Tensor, Tensor> max_pool(const Tensor& feats, const Tensor& in_rows, const Tensor& out_rows,
                                    const Tensor& splits, int64_t num_out) {
  const Map map(in_rows, out_rows, splits);
  return dispatch_real(feats, "max_pool", [&](auto zero) { return max_pool_t<decltype(zero)>(feats, map, num_out); });
}

Tensor max_pool_grad(const Tensor& grad, const Tensor& argmax, int64_t num_in) {
  STD_TORCH_CHECK(grad.dim() == 2 && argmax.dim() == 2 && grad.size(0) == argmax.size(0) && grad.size(1) == argmax.size(1),
                  "tsp3d: max_pool_grad takes grad (M, C) and argmax (M, C)");
  return dispatch_real(grad, "max_pool_grad",
                       [&](auto zero) { return max_pool_grad_t<decltype(zero)>(grad, argmax, num_in); });
}

}  // namespace tsp3d
