#include "../common/coords.cuh"
#include "../common/ranking.cuh"
#include "op.h"

namespace tsp3d {

// A row's place in the union is the number of rows of a before it, and of rows of b before it that a lacks.
std::tuple<Tensor, Tensor, Tensor> merge_coords(const Tensor& a_, const Tensor& b_) {
  const Tensor a = dense_coords(a_, "a"), b = dense_coords(b_, "b");
  const Stream stream(a, b);
  const int64_t na = a.size(0), nb = b.size(0);
  const int32_t *ca = data<int32_t>(a), *cb = data<int32_t>(b);
  Tensor rows_in_a = make<int64_t>(a, {nb}), lacked = device_zeros<int64_t>(stream, a, {nb + 1});
  int64_t *in_a = mutable_data<int64_t>(rows_in_a), *before_b = mutable_data<int64_t>(lacked);
  for_each(stream, nb, [=] __device__(int64_t j) { in_a[j] = find(ca, na, cell_at(cb, j)); });
  const Ranking lacking(stream, a, nb, [=] __device__(int64_t j) { return in_a[j] < 0; });
  lacking.write([=] __device__(int64_t j, int64_t rank, bool taken) {
    before_b[j] = rank;
    if (j == nb - 1) before_b[nb] = rank + taken;
  });

  const int64_t count = na + read_back<1>(stream, lacking.total())[0];
  Tensor coords = make<int32_t>(a, {count, 4});
  Tensor rows_a = device_absent<int64_t>(stream, a, {count}), rows_b = device_absent<int64_t>(stream, a, {count});
  int32_t* out = mutable_data<int32_t>(coords);
  int64_t *ra = mutable_data<int64_t>(rows_a), *rb = mutable_data<int64_t>(rows_b);
  for_each(stream, na, [=] __device__(int64_t i) {
    const Cell cell = cell_at(ca, i);
    const int64_t j = first_from(cb, nb, cell), u = i + before_b[j];
    for (int axis = 0; axis < 4; ++axis) out[4 * u + axis] = ca[4 * i + axis];
    ra[u] = i;
    if (j < nb && same(cell_at(cb, j), cell)) rb[u] = j;
  });
  for_each(stream, nb, [=] __device__(int64_t j) {
    if (in_a[j] >= 0) return;
    const int64_t u = before_b[j] + first_from(ca, na, cell_at(cb, j));
    for (int axis = 0; axis < 4; ++axis) out[4 * u + axis] = cb[4 * j + axis];
    rb[u] = j;
  });
  return {coords, rows_a, rows_b};
}

namespace {

template <class T>
Tensor merge_feats_t(const Tensor& a_, const Tensor& b_, const Tensor& rows_a, const Tensor& rows_b) {
  const Tensor a = dense<T>(a_, "a"), b = dense<T>(b_, "b");
  const Stream stream(a, b, rows_a, rows_b);
  const int64_t rows = rows_a.size(0), channels = a.size(1);
  const T *fa = data<T>(a), *fb = data<T>(b);
  const int64_t *ra = data<int64_t>(rows_a), *rb = data<int64_t>(rows_b);
  Tensor out = make<T>(a, {rows, channels});
  T* result = mutable_data<T>(out);
  for_each(stream, rows * channels, [=] __device__(int64_t e) {
    const int64_t u = e / channels, c = e % channels, i = ra[u], j = rb[u];
    const T first = i >= 0 ? fa[i * channels + c] : T(0), second = j >= 0 ? fb[j * channels + c] : T(0);
    result[e] = i >= 0 && j >= 0 ? first + second : i >= 0 ? first : second;
  });
  return out;
}

}  // namespace

}  // namespace tsp3d

#include "entry.h"
