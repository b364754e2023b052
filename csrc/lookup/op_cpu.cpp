#include "op.h"

#include "../common/keys.h"
#include "search.h"

namespace tsp3d {

Tensor lookup(const Tensor& coords_, const Tensor& query_) {
  const Tensor coords = dense_coords(coords_, "coords"), query = dense_coords(query_, "query");
  const int64_t n = coords.size(0), m = query.size(0);
  const int32_t *c = data<int32_t>(coords), *q = data<int32_t>(query);
  Tensor rows = make<int64_t>(query, {m});
  int64_t* out = mutable_data<int64_t>(rows);
  Bounds bounds;
  bounds.add(c, n);
  const Packing packing(bounds);
  int64_t* keys = workspace<int64_t, 0>(n);
  packing.keys(c, n, keys);
  parallel_ranges(m, 8 * m, [&](int64_t begin, int64_t end) {
    Search search(keys, n);
    for (int64_t i = begin; i < end; ++i) {
      const int32_t* r = q + 4 * i;
      out[i] = -1;
      if (n == 0 || !packing.holds(r[0], r[1], r[2], r[3])) continue;
      const int64_t key = packing.key(r), place = search(key);
      if (place < n && keys[place] == key) out[i] = place;
    }
  });
  return rows;
}

}  // namespace tsp3d
