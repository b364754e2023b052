#include "op.h"

#include <numeric>

#include "../common/places.h"
#include "offsets.h"

namespace tsp3d {
namespace {

// Pairs of one offset, for a part of the output rows.
struct Pairs {
  int32_t *in = nullptr, *out = nullptr;
  int64_t count = 0;
};

constexpr int64_t kCellsPerRow = 150;  // up to so many a bit for each cell is less work than merge-joins

// Whether along z all coordinates lie a multiple of `step` apart, so that no voxel lies between neighbouring offsets.
bool on_grid(const int32_t* coords, int64_t rows, int64_t low, int64_t step) {
  if (step == 1) return true;
  const Floor floored(step);
  bool same = true;
  for (int64_t i = 0; i < rows; ++i) same &= floored(coords[4 * i + 3] - low) == coords[4 * i + 3] - low;
  return same;
}

// One merge-join for the `offsets` of one (x, y) column of the kernel, over the output rows from `first` to `last`: as
// they ascend, so do the inputs they look for. `start` is the key difference of the first offset; the others follow in
// steps along z. in_keys end with a key that is larger than all. Without `grid` there may be voxels between two offsets.
template <int Offsets>
void join_column(const int64_t* in_keys, int64_t n, const int64_t* out_keys, int64_t first, int64_t last, int64_t start,
                 int64_t step, bool grid, int64_t offsets, Pairs* found) {
  if (first == last) return;
  if (Offsets) offsets = Offsets;
  Pairs local[Offsets ? Offsets : 1];  // a copy, which the compiler knows that nothing else points to
  Pairs* pairs = Offsets ? local : found;
  if (Offsets) std::copy_n(found, Offsets, local);
  int64_t place = std::lower_bound(in_keys, in_keys + n, out_keys[first] + start) - in_keys;
  for (int64_t o = first; o < last; ++o) {
    int64_t wanted = out_keys[o] + start;
    while (in_keys[place] < wanted) ++place;
    if (place == n) break;
    int64_t i = place;
#pragma GCC unroll 4
    for (int64_t k = 0; k < offsets; ++k, wanted += step) {
      if (!grid)
        while (in_keys[i] < wanted) ++i;
      const bool hit = in_keys[i] == wanted;
      Pairs& at = pairs[k];
      at.in[at.count] = static_cast<int32_t>(i);
      at.out[at.count] = static_cast<int32_t>(o);
      at.count += hit;
      i += hit;
    }
  }
  if (Offsets) std::copy_n(local, Offsets, found);
}

// The same by a bit for each cell: the offsets of a column are neighbours along z.
template <int Offsets>
void find_column(const Places& places, const int64_t* out_keys, int64_t first, int64_t last, int64_t start,
                 int64_t offsets, Pairs* found) {
  if (Offsets) offsets = Offsets;
  Pairs local[Offsets ? Offsets : 1];
  Pairs* pairs = Offsets ? local : found;
  if (Offsets) std::copy_n(found, Offsets, local);
  for (int64_t o = first; o < last; ++o) {
    const int64_t key = out_keys[o] + start;
    const uint64_t there = places.from(key);
    int32_t i = static_cast<int32_t>(places(key));
#pragma GCC unroll 4
    for (int64_t k = 0; k < offsets; ++k) {
      const bool hit = there >> k & 1;
      Pairs& at = pairs[k];
      at.in[at.count] = i;
      at.out[at.count] = static_cast<int32_t>(o);
      at.count += hit;
      i += hit;
    }
  }
  if (Offsets) std::copy_n(local, Offsets, found);
}

}  // namespace

std::tuple<Tensor, Tensor, Tensor> kernel_map(const Tensor& in_coords_, const Tensor& out_coords_,
                                              const std::vector<int64_t>& kernel_size, int64_t step) {
  const Tensor in_coords = dense_coords(in_coords_, "in_coords"), out_coords = dense_coords(out_coords_, "out_coords");
  const KernelShape kernel(kernel_size, step);
  const int64_t n = in_coords.size(0), m = out_coords.size(0), volume = kernel.volume;
  STD_TORCH_CHECK(n < INT32_MAX && m < INT32_MAX, "tsp3d: more than 2^31 - 1 voxels in one tensor");
  const int32_t *ci = data<int32_t>(in_coords), *co = data<int32_t>(out_coords);
  // Over one set with a symmetric kernel the pairs of -offset are those of offset with their ends exchanged.
  const bool mirrored = kernel.symmetric() && n == m && ci == co;

  // Columns in the order of x, then y, so that the middle one is centred in the list. Their rows are searched in parts.
  const int64_t depth = kernel.size[2], columns = kernel.size[0] * kernel.size[1], middle = columns / 2;
  const int64_t parts = m > 4096 ? 4 : 1;
  std::vector<Pairs> pairs(volume * parts);  // (column * depth + z) * parts + part
  const auto first_row = [&](int64_t part) { return m * part / parts; };
  if (n && m) {
    Bounds bounds;
    bounds.add(ci, n);
    if (!mirrored) bounds.add(co, m);
    bounds.widen(kernel.first, kernel.last);
    const Packing voxels(bounds);  // refuses what does not fit
    const Packing steps(bounds.in_steps(Floor(step)));
    const bool by_bits = depth <= 64 && steps.cells <= kCellsPerRow * (n + m) && bounds.multiples_of(step);
    const Packing& packing = by_bits ? steps : voxels;
    const int64_t scale = by_bits ? step : 1;  // of the keys
    const Floor unit(scale);
    const bool grid = by_bits || (on_grid(ci, n, bounds.low[3], step) &&
                                  (mirrored || on_grid(co, m, bounds.low[3], step)));
    int64_t* in_keys = workspace<int64_t, 0>(n + 1);
    packing.keys(ci, n, in_keys, unit);
    in_keys[n] = std::numeric_limits<int64_t>::max();
    int64_t* out_keys = in_keys;
    if (!mirrored) {
      out_keys = workspace<int64_t, 1>(m);
      packing.keys(co, m, out_keys, unit);
    }
    const Places places(in_keys, by_bits ? n : 0, by_bits ? packing.cells : 0);
    const int64_t searched = mirrored ? middle + 1 : columns;
    // One pair more than can be found, where a miss is written.
    const int64_t room = m + parts;
    int32_t* memory = workspace<int32_t, 0>(2 * room * depth * searched);
    for (int64_t p = 0; p < searched * depth; ++p)
      for (int64_t part = 0; part < parts; ++part) {
        Pairs& own = pairs[p * parts + part];
        own.in = memory + 2 * room * p + first_row(part) + part;
        own.out = own.in + room;
      }
    parallel_items(searched * parts, 4 * searched * m, [&](int64_t item) {
      const int64_t column = item / parts, part = item % parts;
      const int64_t x = kernel.first[0] + step * (column / kernel.size[1]);
      const int64_t y = kernel.first[1] + step * (column % kernel.size[1]);
      const int64_t base = packing.delta(x / scale, y / scale, kernel.first[2] / scale);
      const int64_t offsets = mirrored && column == middle ? depth / 2 : depth;
      std::vector<Pairs> found(offsets);
      for (int64_t z = 0; z < offsets; ++z) found[z] = pairs[(column * depth + z) * parts + part];
      const int64_t first = first_row(part), last = first_row(part + 1);
      if (by_bits) {
        const auto find = offsets == 3 ? find_column<3> : offsets == 2 ? find_column<2> : find_column<0>;
        find(places, out_keys, first, last, base, offsets, found.data());
      } else {
        const auto join = offsets == 3 ? join_column<3> : offsets == 2 ? join_column<2> : join_column<0>;
        join(in_keys, n, out_keys, first, last, base, step, grid, offsets, found.data());
      }
      for (int64_t z = 0; z < offsets; ++z) pairs[(column * depth + z) * parts + part] = found[z];
    });
    if (mirrored) {
      for (int64_t part = 0; part < parts; ++part) {
        Pairs& centre = pairs[(middle * depth + depth / 2) * parts + part];
        centre.count = first_row(part + 1) - first_row(part);
        std::iota(centre.in, centre.in + centre.count, static_cast<int32_t>(first_row(part)));
        centre.out = centre.in;
      }
      for (int64_t p = 0; p < volume / 2; ++p)
        for (int64_t part = 0; part < parts; ++part) {
          const Pairs& own = pairs[p * parts + part];
          pairs[(volume - 1 - p) * parts + part] = {own.out, own.in, own.count};
        }
    }
  }

  Tensor splits = make<int64_t>(in_coords, {volume + 1});
  int64_t* s = mutable_data<int64_t>(splits);
  std::vector<const Pairs*> by_offset(volume);
  for (int64_t i = 0; i < kernel.size[0]; ++i)
    for (int64_t j = 0; j < kernel.size[1]; ++j)
      for (int64_t k = 0; k < depth; ++k)
        by_offset[kernel.index(i, j, k)] = &pairs[((i * kernel.size[1] + j) * depth + k) * parts];
  s[0] = 0;
  for (int64_t k = 0; k < volume; ++k) {
    s[k + 1] = s[k];
    for (int64_t part = 0; part < parts; ++part) s[k + 1] += by_offset[k][part].count;
  }
  Tensor in_rows = make<int32_t>(in_coords, {s[volume]}), out_rows = make<int32_t>(in_coords, {s[volume]});
  int32_t *ri = mutable_data<int32_t>(in_rows), *ro = mutable_data<int32_t>(out_rows);
  parallel_items(volume, s[volume], [&](int64_t k) {
    int64_t at = s[k];
    for (const Pairs* p = by_offset[k]; p < by_offset[k] + parts; ++p) {
      std::copy_n(p->in, p->count, ri + at);
      std::copy_n(p->out, p->count, ro + at);
      at += p->count;
    }
  });
  return {in_rows, out_rows, splits};
}

}  // namespace tsp3d
