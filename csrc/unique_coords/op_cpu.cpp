#include "op.h"

#include "../common/keys.h"

namespace tsp3d {

std::tuple<Tensor, Tensor, Tensor, Tensor> unique_coords(const Tensor& coords_, int64_t step) {
  STD_TORCH_CHECK(step >= 1, "tsp3d: step must be positive, got ", step);
  const Tensor coords = dense_coords(coords_, "coords");
  const int64_t n = coords.size(0);
  const int32_t* c = data<int32_t>(coords);
  Bounds bounds;
  bounds.add(c, n);
  if (n)
    for (int a = 1; a < 4; ++a) {
      bounds.low[a] = floor_to(bounds.low[a], step);
      bounds.high[a] = floor_to(bounds.high[a], step);
    }
  bounds.check_int32();
  const Packing packing(bounds);
  KeyRow* items = workspace<KeyRow, 0>(n);
  KeyRow* spare = workspace<KeyRow, 1>(n);
  parallel_ranges(n, n, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int32_t* r = c + 4 * i;
      items[i] = {step == 1 ? packing.key(r)
                            : packing.key(r[0], floor_to(r[1], step), floor_to(r[2], step), floor_to(r[3], step)),
                  i};
    }
  });
  items = sort_keys(items, spare, n, packing.cells);
  int64_t cells = 0;
  for (int64_t i = 0; i < n; ++i) cells += i == 0 || items[i].key != items[i - 1].key;

  Tensor unique = make<int32_t>(coords, {cells, 4}), inverse = make<int64_t>(coords, {n});
  Tensor order = make<int64_t>(coords, {n}), starts = make<int64_t>(coords, {cells + 1});
  int32_t* u = mutable_data<int32_t>(unique);
  int64_t *inv = mutable_data<int64_t>(inverse), *ord = mutable_data<int64_t>(order);
  int64_t* st = mutable_data<int64_t>(starts);
  int64_t cell = -1;
  for (int64_t i = 0; i < n; ++i) {
    const int64_t row = items[i].row;
    if (i == 0 || items[i].key != items[i - 1].key) {
      st[++cell] = i;
      const int32_t* r = c + 4 * row;
      u[4 * cell] = r[0];
      for (int a = 1; a < 4; ++a) u[4 * cell + a] = static_cast<int32_t>(floor_to(r[a], step));
    }
    ord[i] = row;
    inv[row] = cell;
  }
  st[cells] = n;
  return {unique, inverse, order, starts};
}

Tensor is_coordinate_set(const Tensor& coords_) {
  const Tensor coords = dense_coords(coords_, "coords");
  const int32_t* c = data<int32_t>(coords);
  bool good = true;
  for (int64_t i = 1; good && i < coords.size(0); ++i) {
    const int32_t* row = c + 4 * i;
    good = std::lexicographical_compare(row - 4, row, row, row + 4);
  }
  Tensor result = make<bool>(coords, {});
  *mutable_data<bool>(result) = good;
  return result;
}

}  // namespace tsp3d
