#include "op.h"

#include <cmath>

#include "../common/keys.h"
#include "../lookup/search.h"

namespace tsp3d {
namespace {

constexpr int64_t kReach = int64_t{1} << 32;  // no voxel, and none of its neighbours, is further from 0

// std::floor, which without SSE4 is a call.
template <class T>
T floor_of(T x) {
  const T whole = static_cast<T>(static_cast<int64_t>(x));
  return whole > x ? whole - 1 : whole;
}

template <class T>
std::tuple<Tensor, Tensor> weights_t(const Tensor& coords, const Tensor& points_, int64_t stride) {
  const Tensor points = dense<T>(points_, "points");
  const int64_t n = coords.size(0), m = points.size(0);
  const int32_t* c = data<int32_t>(coords);
  const T* p = data<T>(points);
  Tensor rows = make<int64_t>(points, {m, 8}), weights = make<T>(points, {m, 8});
  int64_t* r = mutable_data<int64_t>(rows);
  T* w = mutable_data<T>(weights);
  Bounds bounds;
  bounds.add(c, n);
  const Packing packing(bounds);
  int64_t* keys = workspace<int64_t, 0>(n);
  packing.keys(c, n, keys);
  const T scale = static_cast<T>(stride);
  parallel_ranges(m, 64 * m, [&](int64_t begin, int64_t end) {
    Search searches[4] = {{keys, n}, {keys, n}, {keys, n}, {keys, n}};  // one per (x, y) column
    for (int64_t i = begin; i < end; ++i) {
      T fraction[3];
      int64_t corner[3];
      for (int a = 0; a < 3; ++a) {
        const T at = p[4 * i + 1 + a], position = at / scale;
        const bool near = std::abs(at) <= static_cast<T>(kReach);  // which NaN is not
        const T cell = near ? floor_of(position) : std::floor(position);
        fraction[a] = position - cell;
        corner[a] = near ? static_cast<int64_t>(cell) * stride : 2 * kReach;
      }
      const int64_t batch = std::abs(p[4 * i]) <= static_cast<T>(kReach) ? static_cast<int64_t>(p[4 * i]) : 2 * kReach;
      for (int j = 0; j < 8; ++j) {
        const int64_t x = corner[0] + (j & 1) * stride, y = corner[1] + (j >> 1 & 1) * stride;
        const int64_t z = corner[2] + (j >> 2) * stride;
        w[8 * i + j] = ((j & 1) ? fraction[0] : 1 - fraction[0]) * ((j & 2) ? fraction[1] : 1 - fraction[1]) *
                       ((j & 4) ? fraction[2] : 1 - fraction[2]);
        r[8 * i + j] = -1;
        if (n == 0 || !packing.holds(batch, x, y, z)) continue;
        const int64_t key = packing.key(batch, x, y, z), place = searches[j & 3](key);
        if (place < n && keys[place] == key) r[8 * i + j] = place;
      }
    }
  });
  return {rows, weights};
}

template <class T>
Tensor interpolate_t(const Tensor& feats_, const Tensor& rows, const Tensor& weights_) {
  const Tensor feats = dense<T>(feats_, "feats"), weights = dense<T>(weights_, "weights");
  const int64_t m = rows.size(0), terms = rows.size(1), channels = feats.size(1);
  const T *f = data<T>(feats), *w = data<T>(weights);
  const int64_t* r = data<int64_t>(rows);
  Tensor out = zeros<T>(feats, {m, channels});
  T* result = mutable_data<T>(out);
  parallel_ranges(m, m * terms * channels, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      for (int64_t j = 0; j < terms; ++j) {
        const int64_t row = r[i * terms + j];
        if (row < 0) continue;
        const T scale = w[i * terms + j];
        for (int64_t c = 0; c < channels; ++c) result[i * channels + c] += scale * f[row * channels + c];
      }
  });
  return out;
}

template <class T>
Tensor splat_t(const Tensor& grad_, const Tensor& rows, const Tensor& weights_, int64_t num_in) {
  const Tensor grad = dense<T>(grad_, "grad"), weights = dense<T>(weights_, "weights");
  const int64_t m = rows.size(0), terms = rows.size(1), channels = grad.size(1);
  const T *g = data<T>(grad), *w = data<T>(weights);
  const int64_t* r = data<int64_t>(rows);
  Tensor out = zeros<T>(grad, {num_in, channels});
  T* result = mutable_data<T>(out);
  // A range of target rows belongs to one thread, which reads all row numbers and takes its own.
  const int64_t parts = m * terms * channels > 100000 ? max_threads() : 1;
  parallel_items(parts, m * terms * channels, [&](int64_t part) {
    const int64_t low = num_in * part / parts, high = num_in * (part + 1) / parts;
    for (int64_t i = 0; i < m; ++i)
      for (int64_t j = 0; j < terms; ++j) {
        const int64_t row = r[i * terms + j];
        if (row < low || row >= high) continue;
        const T scale = w[i * terms + j];
        for (int64_t c = 0; c < channels; ++c) result[row * channels + c] += scale * g[i * channels + c];
      }
  });
  return out;
}

}  // namespace

}  // namespace tsp3d

#include "entry.h"
