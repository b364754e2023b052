#include "op.h"

#include "../common/places.h"

namespace tsp3d {
namespace {

constexpr int64_t kCellsPerRow = 192;  // up to so many a bit for each cell is less work than sorting

}  // namespace

std::tuple<Tensor, Tensor, Tensor, Tensor> unique_coords(const Tensor& coords_, int64_t step) {
  STD_TORCH_CHECK(step >= 1, "tsp3d: step must be positive, got ", step);
  const Tensor coords = dense_coords(coords_, "coords");
  const int64_t n = coords.size(0);
  const int32_t* c = data<int32_t>(coords);
  const Floor floored(step);
  Bounds bounds;
  bounds.add(c, n);
  if (n)
    for (int a = 1; a < 4; ++a) {
      bounds.low[a] = floored(bounds.low[a]);
      bounds.high[a] = floored(bounds.high[a]);
    }
  bounds.check_int32();
  (void)Packing(bounds);  // refuses what does not fit in the coordinates' own units, as every operator does
  const Packing packing(bounds.in_steps(floored));
  int64_t* keys = workspace<int64_t, 0>(n);
  packing.keys(c, n, keys, floored);

  Tensor inverse = make<int64_t>(coords, {n}), order = make<int64_t>(coords, {n}), starts = make<int64_t>(coords, {0});
  int64_t *inv = mutable_data<int64_t>(inverse), *ord = mutable_data<int64_t>(order), *st = nullptr;
  int64_t cells = 0;
  if (packing.cells <= kCellsPerRow * n && n < INT32_MAX) {
    const Places place(keys, n, packing.cells);
    cells = place.size();
    parallel_ranges(n, n, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) inv[i] = place(keys[i]);
    });
    starts = make<int64_t>(coords, {cells + 1});
    st = mutable_data<int64_t>(starts);
    std::fill(st, st + cells + 1, int64_t(0));
    for (int64_t i = 0; i < n; ++i) ++st[inv[i]];
    int64_t sum = 0;
    for (int64_t cell = 0; cell <= cells; ++cell) sum += std::exchange(st[cell], sum);
    for (int64_t i = 0; i < n; ++i) ord[st[inv[i]]++] = i;  // each start moves on to the next
    std::copy_backward(st, st + cells, st + cells + 1);
    st[0] = 0;
  } else {
    order_by_key(keys, n, packing.cells, ord);
    int64_t* begins = workspace<int64_t, 1>(n + 1);
    for (int64_t i = 0; i < n; ++i) {
      if (i == 0 || keys[ord[i]] != keys[ord[i - 1]]) begins[cells++] = i;
      inv[ord[i]] = cells - 1;
    }
    begins[cells] = n;
    starts = make<int64_t>(coords, {cells + 1});
    st = std::copy_n(begins, cells + 1, mutable_data<int64_t>(starts)) - (cells + 1);
  }
  Tensor unique = make<int32_t>(coords, {cells, 4});
  int32_t* u = mutable_data<int32_t>(unique);
  parallel_ranges(cells, cells, [&](int64_t begin, int64_t end) {
    for (int64_t cell = begin; cell < end; ++cell) {
      const int32_t* r = c + 4 * ord[st[cell]];
      u[4 * cell] = r[0];
      for (int a = 1; a < 4; ++a) u[4 * cell + a] = static_cast<int32_t>(floored(r[a]));
    }
  });
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
