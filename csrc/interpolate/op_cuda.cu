#include "../common/coords.cuh"
#include "../common/primitives.h"
#include "op.h"

namespace tsp3d {
namespace {

constexpr int64_t kReach = int64_t{1} << 32;  // no voxel, and none of its neighbours, is further from 0

// `cell` as a whole number; where `at` is beyond all voxels, or is not a number, a place where none is.
template <class T>
__device__ int64_t place_of(T cell, T at) {
  return at <= static_cast<T>(kReach) && at >= -static_cast<T>(kReach) ? static_cast<int64_t>(cell) : 2 * kReach;
}

template <class T>
std::tuple<Tensor, Tensor> weights_t(const Tensor& coords, const Tensor& points_, int64_t stride) {
  const Tensor points = dense<T>(points_, "points");
  const Stream stream(points, coords);
  const int64_t n = coords.size(0), m = points.size(0);
  const int32_t* c = data<int32_t>(coords);
  const T* p = data<T>(points);
  Tensor rows = make<int64_t>(points, {m, 8}), weights = make<T>(points, {m, 8});
  int64_t* r = mutable_data<int64_t>(rows);
  T* w = mutable_data<T>(weights);
  for_each(stream, 8 * m, [=] __device__(int64_t e) {
    const int64_t i = e / 8;
    const int corner = static_cast<int>(e % 8);
    Cell cell{{place_of(p[4 * i], p[4 * i])}};
    T weight = 1;
    for (int axis = 0; axis < 3; ++axis) {
      const T at = p[4 * i + 1 + axis], position = at / static_cast<T>(stride), low = floor(position);
      const T fraction = position - low;
      const bool further = corner >> axis & 1;
      cell.v[axis + 1] = (place_of(low, at) + further) * stride;
      weight *= further ? fraction : 1 - fraction;
    }
    r[e] = find(c, n, cell);
    w[e] = weight;
  });
  return {rows, weights};
}

template <class T>
Tensor interpolate_t(const Tensor& feats_, const Tensor& rows, const Tensor& weights_) {
  const Tensor feats = dense<T>(feats_, "feats"), weights = dense<T>(weights_, "weights");
  const Stream stream(feats, rows, weights);
  const int64_t m = rows.size(0), terms = rows.size(1), channels = feats.size(1);
  const T *f = data<T>(feats), *w = data<T>(weights);
  const int64_t* r = data<int64_t>(rows);
  Tensor out = make<T>(feats, {m, channels});
  T* result = mutable_data<T>(out);
  for_each(stream, m * channels, [=] __device__(int64_t e) {
    const int64_t i = e / channels, c = e % channels;
    T sum = 0;
    for (int64_t t = i * terms; t < (i + 1) * terms; ++t)
      if (r[t] >= 0) sum += w[t] * f[r[t] * channels + c];
    result[e] = sum;
  });
  return out;
}

// Terms are sorted by the row that they go to; each number of the result is summed by one thread, in the order of m and
// j, so it is the same in every run.
template <class T>
Tensor splat_t(const Tensor& grad_, const Tensor& rows, const Tensor& weights_, int64_t num_in) {
  const Tensor grad = dense<T>(grad_, "grad"), weights = dense<T>(weights_, "weights");
  const Stream stream(grad, rows, weights);
  const int64_t terms = rows.size(1), channels = grad.size(1), count = rows.size(0) * terms;
  const T *g = data<T>(grad), *w = data<T>(weights);
  const int64_t* r = data<int64_t>(rows);
  Tensor keys = make<int64_t>(grad, {count}), sorted_keys = make<int64_t>(grad, {count});
  Tensor places = make<int64_t>(grad, {count}), sorted_places = make<int64_t>(grad, {count});
  int64_t *key = mutable_data<int64_t>(keys), *place = mutable_data<int64_t>(places);
  for_each(stream, count, [=] __device__(int64_t t) {
    key[t] = r[t] >= 0 && r[t] < num_in ? r[t] : num_in;
    place[t] = t;
  });
  sort_pairs(stream, keys, sorted_keys, places, sorted_places, bits_for(num_in));
  const int64_t *target = data<int64_t>(sorted_keys), *source = data<int64_t>(sorted_places);
  Tensor firsts = make<int64_t>(grad, {num_in + 1});
  int64_t* first = mutable_data<int64_t>(firsts);
  for_each(stream, num_in + 1, [=] __device__(int64_t row) { first[row] = lower_bound(target, 0, count, row); });
  Tensor out = make<T>(grad, {num_in, channels});
  T* result = mutable_data<T>(out);
  for_each(stream, num_in * channels, [=] __device__(int64_t e) {
    const int64_t row = e / channels, c = e % channels;
    T sum = 0;
    for (int64_t i = first[row]; i < first[row + 1]; ++i) {
      const int64_t t = source[i];
      sum += w[t] * g[t / terms * channels + c];
    }
    result[e] = sum;
  });
  return out;
}

}  // namespace

}  // namespace tsp3d

#include "entry.h"
