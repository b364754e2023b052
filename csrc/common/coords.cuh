// Coordinates on the device: order, search in a coordinate set, and keys for sorting.
#pragma once

#include "cuda.cuh"
#include "keys.h"

namespace tsp3d {

// batch, x, y, z; 64 bits, so that adding an offset never overflows.
struct Cell {
  int64_t v[4];
};

__device__ inline Cell cell_at(const int32_t* coords, int64_t row) {
  const int32_t* c = coords + 4 * row;
  return {{c[0], c[1], c[2], c[3]}};
}

__device__ inline bool before(const Cell& a, const Cell& b) {
  for (int axis = 0; axis < 3; ++axis)
    if (a.v[axis] != b.v[axis]) return a.v[axis] < b.v[axis];
  return a.v[3] < b.v[3];
}

__device__ inline bool same(const Cell& a, const Cell& b) {
  return a.v[0] == b.v[0] && a.v[1] == b.v[1] && a.v[2] == b.v[2] && a.v[3] == b.v[3];
}

// First row of a coordinate set of n rows that is not before `wanted`, or n.
__device__ inline int64_t first_from(const int32_t* coords, int64_t n, const Cell& wanted) {
  int64_t low = 0, high = n;
  while (low < high) {
    const int64_t middle = low + (high - low) / 2;
    if (before(cell_at(coords, middle), wanted))
      low = middle + 1;
    else
      high = middle;
  }
  return low;
}

// Row of `wanted` in a coordinate set, or -1.
__device__ inline int64_t find(const int32_t* coords, int64_t n, const Cell& wanted) {
  const int64_t row = first_from(coords, n, wanted);
  return row < n && same(cell_at(coords, row), wanted) ? row : -1;
}

// (8,) int64 of at least one row: lowest, then highest value of each column.
Tensor device_bounds(const Stream& stream, const Tensor& coords);

// The keys of keys.h, from bounds in device memory, so that nothing waits for them. They wrap where they would not fit;
// whoever reads the bounds back gives them to Packing, which refuses them.
struct DevicePacking {
  int64_t low[4];
  uint64_t extent[4];

  __device__ explicit DevicePacking(const int64_t* bounds) {
    for (int axis = 0; axis < 4; ++axis) {
      low[axis] = bounds[axis];
      extent[axis] = static_cast<uint64_t>(bounds[4 + axis] - bounds[axis] + 1);
    }
  }
  __device__ int64_t key(const Cell& cell) const {
    uint64_t key = 0;
    for (int axis = 0; axis < 4; ++axis) key = key * extent[axis] + static_cast<uint64_t>(cell.v[axis] - low[axis]);
    return static_cast<int64_t>(key & INT64_MAX);
  }
  __device__ void coords(int64_t key, int32_t* out) const {
    uint64_t rest = static_cast<uint64_t>(key);
    for (int axis = 3; axis > 0; --axis) {
      out[axis] = static_cast<int32_t>(static_cast<int64_t>(rest % extent[axis]) + low[axis]);
      rest /= extent[axis];
    }
    out[0] = static_cast<int32_t>(static_cast<int64_t>(rest) + low[0]);
  }
};

// How many distinct keys there are, which the device has counted in `total`; waits once for that and for the bounds (8
// numbers, low then high) that the keys were packed by. RuntimeError, in the words of keys.h, where keys or coordinates do
// not fit.
inline int64_t count_within_bounds(const Stream& stream, const Tensor& like, const int64_t* bounds, const int64_t* total) {
  Tensor numbers = make<int64_t>(like, {9});
  int64_t* d = mutable_data<int64_t>(numbers);
  for_each(stream, 9, [=] __device__(int64_t i) { d[i] = i < 8 ? bounds[i] : *total; });
  const auto known = read_back<9>(stream, data<int64_t>(numbers));
  Bounds host;
  std::copy(known.data(), known.data() + 4, host.low);
  std::copy(known.data() + 4, known.data() + 8, host.high);
  host.check_int32();
  Packing packing(host);
  return known[8];
}

}  // namespace tsp3d
