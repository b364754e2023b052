#include "op.h"

#include "../common/keys.h"

namespace tsp3d {

std::tuple<Tensor, Tensor, Tensor> merge_coords(const Tensor& a_, const Tensor& b_) {
  const Tensor a = dense_coords(a_, "a"), b = dense_coords(b_, "b");
  const int64_t na = a.size(0), nb = b.size(0);
  const int32_t *ca = data<int32_t>(a), *cb = data<int32_t>(b);
  Bounds bounds;
  bounds.add(ca, na);
  bounds.add(cb, nb);
  const Packing packing(bounds);
  int64_t *ka = workspace<int64_t, 0>(na), *kb = workspace<int64_t, 1>(nb);
  packing.keys(ca, na, ka);
  packing.keys(cb, nb, kb);
  KeyRow* pairs = workspace<KeyRow, 0>(na + nb);  // row in a, row in b
  int64_t count = 0, i = 0, j = 0;
  while (i < na || j < nb) {
    const bool from_a = j == nb || (i < na && ka[i] <= kb[j]);
    const bool from_b = i == na || (j < nb && kb[j] <= ka[i]);
    pairs[count++] = {from_a ? i : -1, from_b ? j : -1};
    i += from_a;
    j += from_b;
  }
  Tensor coords = make<int32_t>(a, {count, 4});
  Tensor rows_a = make<int64_t>(a, {count}), rows_b = make<int64_t>(a, {count});
  int32_t* out = mutable_data<int32_t>(coords);
  int64_t *ra = mutable_data<int64_t>(rows_a), *rb = mutable_data<int64_t>(rows_b);
  for (int64_t u = 0; u < count; ++u) {
    ra[u] = pairs[u].key;
    rb[u] = pairs[u].row;
    const int32_t* source = ra[u] >= 0 ? ca + 4 * ra[u] : cb + 4 * rb[u];
    std::copy(source, source + 4, out + 4 * u);
  }
  return {coords, rows_a, rows_b};
}

namespace {

template <class T>
Tensor merge_feats_t(const Tensor& a_, const Tensor& b_, const Tensor& rows_a, const Tensor& rows_b) {
  const Tensor a = dense<T>(a_, "a"), b = dense<T>(b_, "b");
  const int64_t rows = rows_a.size(0), channels = a.size(1);
  const T *fa = data<T>(a), *fb = data<T>(b);
  const int64_t *ra = data<int64_t>(rows_a), *rb = data<int64_t>(rows_b);
  Tensor out = make<T>(a, {rows, channels});
  T* result = mutable_data<T>(out);
  parallel_ranges(rows, rows * channels, [&](int64_t begin, int64_t end) {
    for (int64_t u = begin; u < end; ++u) {
      T* target = result + u * channels;
      const T *source_a = fa + ra[u] * channels, *source_b = fb + rb[u] * channels;
      if (ra[u] >= 0 && rb[u] >= 0)
        for (int64_t c = 0; c < channels; ++c) target[c] = source_a[c] + source_b[c];
      else if (ra[u] >= 0 || rb[u] >= 0)
        std::copy_n(ra[u] >= 0 ? source_a : source_b, channels, target);
      else
        std::fill_n(target, channels, T(0));
    }
  });
  return out;
}

}  // namespace

}  // namespace tsp3d

#include "entry.h"
