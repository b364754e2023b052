#include "../common/coords.cuh"
#include "../common/ranking.cuh"
#include "op.h"

namespace tsp3d {
namespace {

__device__ int64_t device_floor_to(int64_t v, int64_t step) {
  const int64_t r = v % step;
  return r < 0 ? v - r - step : v - r;
}

__device__ Cell floored(Cell cell, int64_t step) {
  for (int axis = 1; axis < 4; ++axis) cell.v[axis] = device_floor_to(cell.v[axis], step);
  return cell;
}

}  // namespace

std::tuple<Tensor, Tensor, Tensor, Tensor> unique_coords(const Tensor& coords_, int64_t step) {
  STD_TORCH_CHECK(step >= 1, "tsp3d: step must be positive, got ", step);
  const Tensor coords = dense_coords(coords_, "coords");
  const Stream stream(coords);
  const int64_t n = coords.size(0);
  const int32_t* c = data<int32_t>(coords);
  Tensor inverse = make<int64_t>(coords, {n}), order = make<int64_t>(coords, {n});
  if (n == 0) return {make<int32_t>(coords, {0, 4}), inverse, order, device_zeros<int64_t>(stream, coords, {1})};

  const Tensor bounds = device_bounds(stream, coords);
  int64_t* b = static_cast<int64_t*>(bounds.data_ptr());
  for_each(stream, 8, [=] __device__(int64_t i) {
    if (i % 4) b[i] = device_floor_to(b[i], step);
  });
  Tensor keys = make<int64_t>(coords, {n}), rows = make<int64_t>(coords, {n}), sorted = make<int64_t>(coords, {n});
  int64_t *key = mutable_data<int64_t>(keys), *row = mutable_data<int64_t>(rows);
  for_each(stream, n, [=] __device__(int64_t i) {
    key[i] = DevicePacking(b).key(floored(cell_at(c, i), step));
    row[i] = i;
  });
  sort_pairs(stream, keys, sorted, rows, order, 63);
  const int64_t *s = data<int64_t>(sorted), *ord = data<int64_t>(order);
  const Ranking ranking(stream, coords, n, [=] __device__(int64_t i) { return i == 0 || s[i] != s[i - 1]; });
  const int64_t cells = count_within_bounds(stream, coords, b, ranking.total());
  Tensor unique = make<int32_t>(coords, {cells, 4}), starts = make<int64_t>(coords, {cells + 1});
  int32_t* u = mutable_data<int32_t>(unique);
  int64_t *inv = mutable_data<int64_t>(inverse), *st = mutable_data<int64_t>(starts);
  ranking.write([=] __device__(int64_t i, int64_t rank, bool first) {
    inv[ord[i]] = first ? rank : rank - 1;
    if (first) {
      const Cell cell = floored(cell_at(c, ord[i]), step);
      for (int axis = 0; axis < 4; ++axis) u[4 * rank + axis] = static_cast<int32_t>(cell.v[axis]);
      st[rank] = i;
    }
    if (i == n - 1) st[cells] = n;
  });
  return {unique, inverse, order, starts};
}

Tensor is_coordinate_set(const Tensor& coords_) {
  const Tensor coords = dense_coords(coords_, "coords");
  const Stream stream(coords);
  const int32_t* c = data<int32_t>(coords);
  Tensor result = make<bool>(coords, {});
  set_bytes(stream, result, 1, sizeof(bool));
  bool* good = mutable_data<bool>(result);
  // All who write write the same.
  for_each(stream, coords.size(0) - 1, [=] __device__(int64_t i) {
    if (!before(cell_at(c, i), cell_at(c, i + 1))) *good = false;
  });
  return result;
}

}  // namespace tsp3d
