#include "op.h"

#include <memory>

#include "../common/keys.h"
#include "offsets.h"

namespace tsp3d {
namespace {

struct Pairs {
  int32_t *in = nullptr, *out = nullptr;
  int64_t count = 0;
};

// One merge-join for the offsets of one (x, y) column of the kernel: as the output rows ascend, so do the inputs they
// look for. `base` is the key difference of the first offset; the others follow in steps along z.
void join_column(const int64_t* in_keys, int64_t n, const int64_t* out_keys, int64_t m, int64_t base, int64_t step,
                 int64_t begin, int64_t end, Pairs* found) {
  int64_t place = 0;
  const int64_t start = base + begin * step;
  for (int64_t o = 0; o < m; ++o) {
    int64_t wanted = out_keys[o] + start;
    while (place < n && in_keys[place] < wanted) ++place;
    if (place == n) return;
    int64_t i = place;
    for (int64_t k = begin; k < end; ++k, wanted += step) {
      while (i < n && in_keys[i] < wanted) ++i;
      if (i == n) break;
      Pairs& pairs = found[k];
      pairs.in[pairs.count] = static_cast<int32_t>(i);
      pairs.out[pairs.count] = static_cast<int32_t>(o);
      pairs.count += in_keys[i] == wanted;
    }
  }
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

  std::vector<Pairs> pairs(volume);  // by z within (x, y): column * size z + z
  const int64_t depth = kernel.size[2], columns = kernel.size[0] * kernel.size[1];
  if (n && m) {
    Bounds bounds;
    bounds.add(ci, n);
    if (!mirrored) bounds.add(co, m);
    bounds.widen(kernel.first, kernel.last);
    const Packing packing(bounds);
    int64_t* in_keys = workspace<int64_t, 0>(n);
    packing.keys(ci, n, in_keys);
    int64_t* out_keys = in_keys;
    if (!mirrored) {
      out_keys = workspace<int64_t, 1>(m);
      packing.keys(co, m, out_keys);
    }
    // Columns in the order of x, then y, so that the middle one is centred in the list.
    const int64_t room = std::min(n, m) + 1, middle = columns / 2;
    const int64_t searched = mirrored ? middle + 1 : columns;
    int32_t* memory = workspace<int32_t, 0>(2 * room * depth * searched);
    for (int64_t p = 0; p < searched * depth; ++p) {
      pairs[p].in = memory + 2 * room * p;
      pairs[p].out = pairs[p].in + room;
    }
    parallel_items(searched, 4 * searched * m, [&](int64_t column) {
      const int64_t x = kernel.first[0] + step * (column / kernel.size[1]);
      const int64_t y = kernel.first[1] + step * (column % kernel.size[1]);
      const int64_t base = packing.delta(x, y, kernel.first[2]);
      const int64_t end = mirrored && column == middle ? depth / 2 : depth;
      join_column(in_keys, n, out_keys, m, base, step, 0, end, pairs.data() + column * depth);
    });
    if (mirrored) {
      Pairs& centre = pairs[middle * depth + depth / 2];
      for (int64_t i = 0; i < n; ++i) centre.in[i] = centre.out[i] = static_cast<int32_t>(i);
      centre.count = n;
      for (int64_t p = 0; p < volume / 2; ++p) {
        Pairs& other = pairs[volume - 1 - p];
        other = {pairs[p].out, pairs[p].in, pairs[p].count};
      }
    }
  }

  Tensor splits = make<int64_t>(in_coords, {volume + 1});
  int64_t* s = mutable_data<int64_t>(splits);
  std::vector<const Pairs*> by_offset(volume);
  for (int64_t i = 0; i < kernel.size[0]; ++i)
    for (int64_t j = 0; j < kernel.size[1]; ++j)
      for (int64_t k = 0; k < depth; ++k) by_offset[kernel.index(i, j, k)] = &pairs[(i * kernel.size[1] + j) * depth + k];
  s[0] = 0;
  for (int64_t k = 0; k < volume; ++k) s[k + 1] = s[k] + by_offset[k]->count;
  Tensor in_rows = make<int32_t>(in_coords, {s[volume]}), out_rows = make<int32_t>(in_coords, {s[volume]});
  int32_t *ri = mutable_data<int32_t>(in_rows), *ro = mutable_data<int32_t>(out_rows);
  parallel_items(volume, s[volume], [&](int64_t k) {
    const Pairs& p = *by_offset[k];
    if (p.count == 0) return;
    std::copy(p.in, p.in + p.count, ri + s[k]);
    std::copy(p.out, p.out + p.count, ro + s[k]);
  });
  return {in_rows, out_rows, splits};
}

}  // namespace tsp3d
