#include "rows.h"

namespace tsp3d {
namespace {

template <class T>
Tensor attention_t(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& q_splits, const Tensor& k_splits,
                   T scale) {
  const int64_t heads = q.size(1), width = v.size(2);
  Tensor out = make<T>(q, {q.size(0), heads, width});
  attention_rows<T>(View<T>(q), View<T>(k), View<T>(v), q_splits, k_splits, q.size(0), k.size(0), heads, q.size(2), width,
                    scale, mutable_data<T>(out));
  return out;
}

template <class T>
Tensor spatial_attention_t(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& ask, const Tensor& xyz_,
                           const Tensor& splits) {
  const Tensor xyz = dense<T>(xyz_, "xyz");
  const int64_t heads = q.size(1), width = v.size(2);
  Tensor out = make<T>(q, {q.size(0), heads, width + kSpatialChannels});
  spatial_rows<T>(View<T>(q), View<T>(k), View<T>(v), View<T>(ask), data<T>(xyz), splits, q.size(0), heads, q.size(2),
                  width, mutable_data<T>(out));
  return out;
}

}  // namespace
}  // namespace tsp3d

#include "entry.h"
