#include "../common/coords.cuh"
#include "op.h"

namespace tsp3d {

Tensor lookup(const Tensor& coords_, const Tensor& query_) {
  const Tensor coords = dense_coords(coords_, "coords"), query = dense_coords(query_, "query");
  const Stream stream(query, coords);
  const int64_t n = coords.size(0), m = query.size(0);
  const int32_t *c = data<int32_t>(coords), *q = data<int32_t>(query);
  Tensor rows = make<int64_t>(query, {m});
  int64_t* out = mutable_data<int64_t>(rows);
  for_each(stream, m, [=] __device__(int64_t i) { out[i] = find(c, n, cell_at(q, i)); });
  return rows;
}

}  // namespace tsp3d
