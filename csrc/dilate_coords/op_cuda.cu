#include "../common/ranking.cuh"
#include "../kernel_map/offsets.cuh"
#include "op.h"

namespace tsp3d {

// All candidates, sorted, and the first of each run of equal ones.
Tensor dilate_coords(const Tensor& coords_, const std::vector<int64_t>& kernel_size, int64_t step) {
  const Tensor coords = dense_coords(coords_, "coords");
  const KernelShape kernel(kernel_size, step);
  const Stream stream(coords);
  const int64_t n = coords.size(0);
  if (n == 0) return make<int32_t>(coords, {0, 4});
  const int32_t* c = data<int32_t>(coords);
  const Tensor bounds = device_bounds(stream, coords);
  int64_t* b = static_cast<int64_t*>(bounds.data_ptr());
  for_each(stream, 8, [=] __device__(int64_t i) {
    const int axis = static_cast<int>(i % 4) - 1;
    if (axis >= 0) b[i] += i < 4 ? kernel.first[axis] : kernel.last[axis];
  });

  const int64_t candidates = n * kernel.volume;
  Tensor keys = make<int64_t>(coords, {candidates}), sorted = make<int64_t>(coords, {candidates});
  Tensor rows = make<int64_t>(coords, {candidates}), sorted_rows = make<int64_t>(coords, {candidates});
  int64_t *key = mutable_data<int64_t>(keys), *row = mutable_data<int64_t>(rows);
  for_each(stream, candidates, [=] __device__(int64_t p) {
    key[p] = DevicePacking(b).key(moved(cell_at(c, p % n), kernel, p / n));
    row[p] = p;
  });
  sort_pairs(stream, keys, sorted, rows, sorted_rows, 63);
  const int64_t* s = data<int64_t>(sorted);
  const Ranking ranking(stream, coords, candidates, [=] __device__(int64_t i) { return i == 0 || s[i] != s[i - 1]; });
  const int64_t cells = count_within_bounds(stream, coords, b, ranking.total());
  Tensor result = make<int32_t>(coords, {cells, 4});
  int32_t* out = mutable_data<int32_t>(result);
  ranking.write([=] __device__(int64_t i, int64_t rank, bool first) {
    if (first) DevicePacking(b).coords(s[i], out + 4 * rank);
  });
  return result;
}

}  // namespace tsp3d
