// A thread for each query and head, in two passes over the keys. PyTorch's own attention is faster where sequences are of
// equal length; this one exists for the same ragged batches as the CPU's.
#include "../common/cuda.cuh"
#include "checks.h"

namespace tsp3d {
namespace {

template <class T>
struct View {
  const T* start;
  int64_t row, head, channel;

  explicit View(const Tensor& t)
      : start(static_cast<const T*>(t.const_data_ptr())), row(t.stride(0)), head(t.stride(1)), channel(t.stride(2)) {}
  __device__ T at(int64_t r, int64_t h, int64_t c) const { return start[r * row + h * head + c * channel]; }
};

template <class T>
Tensor attention_t(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& q_splits, const Tensor& k_splits,
                   T scale) {
  const Stream stream(q, k, v, q_splits, k_splits);
  const int64_t heads = q.size(1), channels = q.size(2), width = v.size(2), sequences = q_splits.size(0) - 1;
  Tensor out = make<T>(q, {q.size(0), heads, width});
  T* result = static_cast<T*>(out.mutable_data_ptr());
  const int64_t *qs = static_cast<const int64_t*>(q_splits.const_data_ptr()),
                *ks = static_cast<const int64_t*>(k_splits.const_data_ptr());
  const View<T> queries(q), keys(k), values(v);
  for_each(stream, q.size(0) * heads, [=] __device__(int64_t item) {
    const int64_t row = item / heads, head = item % heads;
    const int64_t sequence = lower_bound(qs, 0, sequences, row + 1) - 1;
    const int64_t begin = ks[sequence], end = ks[sequence + 1];
    T* target = result + item * width;
    for (int64_t c = 0; c < width; ++c) target[c] = T(0);
    const auto logit = [&](int64_t j) {
      T sum = T(0);
      for (int64_t c = 0; c < channels; ++c) sum += queries.at(row, head, c) * keys.at(j, head, c);
      return scale * sum;
    };
    T most = T(0), total = T(0);
    for (int64_t j = begin; j < end; ++j) {
      const T value = logit(j);
      most = j == begin || value > most ? value : most;
    }
    for (int64_t j = begin; j < end; ++j) {
      const T share = exp(logit(j) - most);
      total += share;
      for (int64_t c = 0; c < width; ++c) target[c] += share * values.at(j, head, c);
    }
    for (int64_t c = 0; begin < end && c < width; ++c) target[c] /= total;
  });
  return out;
}

// Each thread passes twice over the keys: for the largest logit, then for the sums.
template <class T>
Tensor spatial_attention_t(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& ask, const Tensor& xyz_,
                           const Tensor& splits) {
  const Stream stream(q, k, v, ask, xyz_, splits);
  const Tensor xyz = dense<T>(xyz_, "xyz");
  const int64_t heads = q.size(1), channels = q.size(2), width = v.size(2), sequences = splits.size(0) - 1;
  const int64_t all = width + kSpatialChannels;
  Tensor out = make<T>(q, {q.size(0), heads, all});
  T* result = static_cast<T*>(out.mutable_data_ptr());
  const int64_t* borders = static_cast<const int64_t*>(splits.const_data_ptr());
  const T* places = static_cast<const T*>(xyz.const_data_ptr());
  const View<T> queries(q), keys(k), values(v), asked(ask);
  const T scale = T(1) / std::sqrt(static_cast<T>(channels));
  for_each(stream, q.size(0) * heads, [=] __device__(int64_t item) {
    const int64_t row = item / heads, head = item % heads;
    const int64_t sequence = lower_bound(borders, 0, sequences, row + 1) - 1;
    const int64_t begin = borders[sequence], end = borders[sequence + 1];
    T direction[3], reach[3], mean[3] = {}, square[3] = {};
    for (int a = 0; a < 3; ++a) {
      direction[a] = asked.at(row, head, a);
      reach[a] = softplus(asked.at(row, head, 3 + a));
    }
    const auto logit = [&](int64_t j) {
      T sum = T(0);
      for (int64_t c = 0; c < channels; ++c) sum += queries.at(row, head, c) * keys.at(j, head, c);
      sum *= scale;
      for (int a = 0; a < 3; ++a) {
        const T offset = places[3 * j + a] - places[3 * row + a];
        sum += offset * (direction[a] - reach[a] * offset);
      }
      return sum;
    };
    T* target = result + item * all;
    for (int64_t c = 0; c < width; ++c) target[c] = T(0);
    T most = logit(begin), total = T(0);
    for (int64_t j = begin + 1; j < end; ++j) {
      const T value = logit(j);
      most = value > most ? value : most;
    }
    for (int64_t j = begin; j < end; ++j) {
      const T share = exp(logit(j) - most);
      total += share;
      for (int64_t c = 0; c < width; ++c) target[c] += share * values.at(j, head, c);
      for (int a = 0; a < 3; ++a) {
        const T offset = places[3 * j + a] - places[3 * row + a];
        mean[a] += share * offset;
        square[a] += share * offset * offset;
      }
    }
    T length = T(0);
    for (int64_t c = 0; c < width; ++c) target[c] /= total;
    for (int a = 0; a < 3; ++a) {
      mean[a] /= total;
      length += mean[a] * mean[a];
      const T spread = square[a] / total - mean[a] * mean[a];
      target[width + a] = mean[a];
      target[width + 4 + a] = spread > T(0) ? spread : T(0);
    }
    target[width + 3] = sqrt(length);
  });
  return out;
}

}  // namespace
}  // namespace tsp3d

#include "entry.h"
