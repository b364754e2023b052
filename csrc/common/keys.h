// Coordinates as int64 keys whose order is the lexicographic order of the rows, and sorting them.
#pragma once

#include <torch/headeronly/util/Exception.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <utility>

#include "parallel.h"

namespace tsp3d {

// The greatest multiple of a step that is no greater than a number.
class Floor {
 public:
  explicit Floor(int64_t step) : step_(step), mask_((step & (step - 1)) == 0 ? -step : 0) {
    while (mask_ && (int64_t(1) << shift_) < step) ++shift_;
  }
  int64_t operator()(int64_t v) const {
    if (mask_) return v & mask_;  // powers of two, without a division
    const int64_t r = v % step_;
    return r < 0 ? v - r - step_ : v - r;
  }
  // The same in steps.
  int64_t steps(int64_t v) const { return mask_ ? v >> shift_ : (*this)(v) / step_; }

 private:
  int64_t step_, mask_, shift_ = 0;
};

// Bounding box of rows [batch, x, y, z]; empty while low > high.
struct Bounds {
  int64_t low[4] = {INT64_MAX, INT64_MAX, INT64_MAX, INT64_MAX};
  int64_t high[4] = {INT64_MIN, INT64_MIN, INT64_MIN, INT64_MIN};
  int32_t bits[4] = {0, 0, 0, 0};  // those that are set in any row

  void add(const int32_t* coords, int64_t rows) {
    if (rows == 0) return;
    int32_t lo[4], hi[4];
    std::copy(coords, coords + 4, lo);
    std::copy(coords, coords + 4, hi);
    for (int64_t i = 0; i < rows; ++i)
      for (int a = 0; a < 4; ++a) {
        lo[a] = std::min(lo[a], coords[4 * i + a]);
        hi[a] = std::max(hi[a], coords[4 * i + a]);
        bits[a] |= coords[4 * i + a];
      }
    for (int a = 0; a < 4; ++a) {
      low[a] = std::min<int64_t>(low[a], lo[a]);
      high[a] = std::max<int64_t>(high[a], hi[a]);
    }
  }
  bool empty() const { return low[0] > high[0]; }
  // Whether all x, y and z are multiples of a power of two.
  bool multiples_of(int64_t step) const {
    return (step & (step - 1)) == 0 && ((bits[1] | bits[2] | bits[3]) & (step - 1)) == 0;
  }
  // Refuses what cannot be written as coordinates.
  void check_int32() const {
    for (int a = 0; a < 4; ++a)
      STD_TORCH_CHECK(empty() || (low[a] >= INT32_MIN && high[a] <= INT32_MAX),
                      "coordinates leave the range of int32; move the scene near the origin");
  }
  // The cells of `unit` along x, y, z that hold the box.
  Bounds in_steps(const Floor& unit) const {
    Bounds result = *this;
    for (int a = 1; !empty() && a < 4; ++a) {
      result.low[a] = unit.steps(low[a]);
      result.high[a] = unit.steps(high[a]);
    }
    return result;
  }
  // Make room for offsets from `below` (<= 0) to `above` (>= 0) along x, y, z.
  void widen(const int64_t below[3], const int64_t above[3]) {
    for (int a = 0; a < 3; ++a) {
      low[a + 1] += std::min<int64_t>(below[a], 0);
      high[a + 1] += std::max<int64_t>(above[a], 0);
    }
  }
};

// key = ((b' * ex + x') * ey + y') * ez + z' with primed values counted from the lower bound.
struct Packing {
  int64_t low[4] = {0, 0, 0, 0}, extent[4] = {1, 1, 1, 1}, scale[4] = {1, 1, 1, 1};
  int64_t cells = 1;

  explicit Packing(const Bounds& bounds) {
    if (bounds.empty()) return;
    __int128 total = 1;
    for (int a = 0; a < 4; ++a) {
      low[a] = bounds.low[a];
      extent[a] = bounds.high[a] - bounds.low[a] + 1;
      total *= extent[a];
      STD_TORCH_CHECK(total <= std::numeric_limits<int64_t>::max(),
                      "coordinates do not fit in 64-bit keys: (batch, x, y, z) span [", extent[0], ", ", extent[1], ", ",
                      bounds.high[2] - bounds.low[2] + 1, ", ", bounds.high[3] - bounds.low[3] + 1,
                      "] voxels; use larger voxels, fewer scenes per batch, or remove points far outside the scene");
    }
    cells = static_cast<int64_t>(total);
    scale[2] = extent[3];
    scale[1] = extent[2] * extent[3];
    scale[0] = extent[1] * scale[1];
  }
  int64_t key(const int32_t* c) const { return key(c[0], c[1], c[2], c[3]); }
  int64_t key(int64_t b, int64_t x, int64_t y, int64_t z) const {
    return (b - low[0]) * scale[0] + (x - low[1]) * scale[1] + (y - low[2]) * scale[2] + (z - low[3]);
  }
  bool holds(int64_t b, int64_t x, int64_t y, int64_t z) const {
    const int64_t v[4] = {b, x, y, z};
    for (int a = 0; a < 4; ++a)
      if (v[a] < low[a] || v[a] >= low[a] + extent[a]) return false;
    return true;
  }
  int64_t delta(int64_t x, int64_t y, int64_t z) const { return x * scale[1] + y * scale[2] + z; }
  // Of rows in cells of `unit`, which the bounds count in, too.
  void keys(const int32_t* coords, int64_t rows, int64_t* out, const Floor& unit = Floor(1)) const {
    parallel_ranges(rows, rows, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int32_t* c = coords + 4 * i;
        out[i] = key(c[0], unit.steps(c[1]), unit.steps(c[2]), unit.steps(c[3]));
      }
    });
  }
  // Rows of ascending keys. Divisions are spent once per column of z, not once per row.
  void coords(const int64_t* keys, int64_t rows, int32_t* out) const {
    parallel_ranges(rows, rows, [&](int64_t begin, int64_t end) {
      int64_t first = 0, last = -1, v[3] = {0, 0, 0};
      for (int64_t i = begin; i < end; ++i) {
        if (keys[i] > last || keys[i] < first) {
          int64_t rest = keys[i] / extent[3];
          first = rest * extent[3];
          last = first + extent[3] - 1;
          v[2] = rest % extent[2] + low[2];
          rest /= extent[2];
          v[1] = rest % extent[1] + low[1];
          v[0] = rest / extent[1] + low[0];
        }
        for (int a = 0; a < 3; ++a) out[4 * i + a] = static_cast<int32_t>(v[a]);
        out[4 * i + 3] = static_cast<int32_t>(keys[i] - first + low[3]);
      }
    });
  }
};

struct KeyRow {
  int64_t key;
  int64_t row;
};

// Stable ascending sort by key(item), which is in [0, cells). Returns the buffer, of the two, that holds the result.
template <class Item, class Key>
Item* sort_items(Item* items, Item* spare, int64_t count, int64_t cells, const Key& key) {
  const auto less = [&](const Item& a, const Item& b) { return key(a) < key(b); };
  if (std::is_sorted(items, items + count, less)) return items;
  if (count < 256) {
    std::stable_sort(items, items + count, less);
    return items;
  }
  constexpr int kBits = 11, kBuckets = 1 << kBits;
  for (int shift = 0; shift < 63 && (static_cast<uint64_t>(cells - 1) >> shift) != 0; shift += kBits) {
    int64_t starts[kBuckets] = {};
    for (int64_t i = 0; i < count; ++i) ++starts[(key(items[i]) >> shift) & (kBuckets - 1)];
    int64_t sum = 0;
    for (int64_t& s : starts) sum += std::exchange(s, sum);
    for (int64_t i = 0; i < count; ++i) spare[starts[(key(items[i]) >> shift) & (kBuckets - 1)]++] = items[i];
    std::swap(items, spare);
  }
  return items;
}

// The rows in the order of their keys, which are in [0, cells); rows of one key in their own order.
inline void order_by_key(const int64_t* keys, int64_t count, int64_t cells, int64_t* order) {
  int bits = 0;
  while (bits < 62 && (int64_t(1) << bits) < count) ++bits;
  if ((cells - 1) >> (63 - bits) == 0) {  // key and row in one number
    uint64_t *items = workspace<uint64_t, 0>(count), *spare = workspace<uint64_t, 1>(count);
    for (int64_t i = 0; i < count; ++i) items[i] = static_cast<uint64_t>(keys[i]) << bits | static_cast<uint64_t>(i);
    items = sort_items(items, spare, count, cells, [bits](uint64_t item) { return item >> bits; });
    for (int64_t i = 0; i < count; ++i) order[i] = static_cast<int64_t>(items[i] & ((uint64_t(1) << bits) - 1));
    return;
  }
  KeyRow *items = workspace<KeyRow, 0>(count), *spare = workspace<KeyRow, 1>(count);
  for (int64_t i = 0; i < count; ++i) items[i] = {keys[i], i};
  items = sort_items(items, spare, count, cells, [](const KeyRow& item) { return static_cast<uint64_t>(item.key); });
  for (int64_t i = 0; i < count; ++i) order[i] = items[i].row;
}

}  // namespace tsp3d
