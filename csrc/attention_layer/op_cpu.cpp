#include "op.h"

#include "../attention/rows.h"
#include "../linear/rows.h"

namespace tsp3d {

Tensor attention_layer(const Tensor& query, const std::optional<Tensor>& value,
                       const std::optional<Tensor>& before_weight, const std::optional<Tensor>& before_bias,
                       const Tensor& first_, int64_t channels, const std::optional<Tensor>& second_, const Tensor& out_,
                       const std::optional<Tensor>& xyz, const Tensor& q_splits_, const Tensor& k_splits_, int64_t heads,
                       const std::optional<Tensor>& residual, const std::optional<Tensor>& after_weight,
                       const std::optional<Tensor>& after_bias, double eps) {
  STD_TORCH_CHECK(query.dim() == 2 && (!value || value->dim() == 2), "tsp3d: attention_layer takes rows (N, C)");
  const int64_t n = query.size(0), m = value ? value->size(0) : n, dim = query.size(1), asked = xyz ? 6 * heads : 0;
  STD_TORCH_CHECK(heads > 0 && dim > 0 && dim % heads == 0, "tsp3d: attention_layer: C must be a multiple of the heads");
  // Of q, k and v the first layer makes as many as it has channels for.
  const int64_t count = (channels - asked) / dim, rest = (3 - count) * dim, width = dim / heads;
  STD_TORCH_CHECK(count >= 1 && count <= 3 && channels == count * dim + asked && second_.has_value() == (count < 3) &&
                      (!xyz || m == n) && (count == 1 || m == n),
                  "tsp3d: attention_layer: the projections must make q, k and v of the query and the value");
  const Tensor q_splits = dense<int64_t>(q_splits_, "q_splits"), k_splits = dense<int64_t>(k_splits_, "k_splits");
  STD_TORCH_CHECK(q_splits.size(0) == k_splits.size(0), "tsp3d: q_splits and k_splits must be (sequences + 1,)");
  return dispatch_real(query, "attention_layer", [&](auto zero) {
    using T = decltype(zero);
    const int64_t attended = xyz ? dim + kSpatialChannels * heads : dim;
    Arguments<T> arguments;
    Linear<T> first = arguments.layer(first_, dim, channels, "first"), second;
    Linear<T> out = arguments.layer(out_, attended, dim, "out");
    arguments.norms(first, before_weight, before_bias, std::nullopt, std::nullopt, eps);
    arguments.norms(out, std::nullopt, std::nullopt, after_weight, after_bias, eps);
    out.residual = arguments.rows(residual, n, dim, "residual");
    T* made = workspace<T, 6>(n * channels + m * rest + n * attended);
    T *others = made + n * channels, *heard = others + m * rest;
    const T* x = arguments.rows(query, n, dim, "query");
    run(first, x, made, n);
    if (count < 3) {
      second = arguments.layer(*second_, dim, rest, "second");
      second.before_weight = first.before_weight, second.before_bias = first.before_bias, second.eps = first.eps;
      run(second, value ? arguments.rows(value, m, dim, "value") : x, others, m);
    }
    const auto part = [&](int64_t which) {
      return which < count ? View<T>(made + which * dim, channels, width)
                           : View<T>(others + (which - count) * dim, rest, width);
    };
    if (xyz)
      spatial_rows<T>(part(0), part(1), part(2), View<T>(made + count * dim, channels, 6),
                      arguments.rows(xyz, n, 3, "xyz"), q_splits, n, heads, width, width, heard);
    else
      attention_rows<T>(part(0), part(1), part(2), q_splits, k_splits, n, m, heads, width, width,
                        T(1) / std::sqrt(static_cast<T>(width)), heard);
    Tensor result = make<T>(query, {n, dim});
    run(out, heard, mutable_data<T>(result), n);
    return result;
  });
}

}  // namespace tsp3d
