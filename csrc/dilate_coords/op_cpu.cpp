#include "op.h"

#include "../common/keys.h"
#include "../kernel_map/offsets.h"

namespace tsp3d {
namespace {

// Union of `count` ascending keys moved by first, first + delta, ..., `copies` of them. A move keeps the order, so this
// is a merge of sorted lists.
int64_t dilate(const int64_t* keys, int64_t count, int64_t first, int64_t delta, int64_t copies, int64_t* out) {
  std::vector<int64_t> at(copies, 0);
  int64_t size = 0;
  if (count == 0) return 0;
  for (;;) {
    int64_t least = INT64_MAX;
    for (int64_t j = 0; j < copies; ++j)
      if (at[j] < count) least = std::min(least, keys[at[j]] + first + j * delta);
    if (least == INT64_MAX) return size;
    out[size++] = least;
    for (int64_t j = 0; j < copies; ++j)
      if (at[j] < count && keys[at[j]] + first + j * delta == least) ++at[j];
  }
}

// The common case, three copies, without inner loops: keys past the end read as infinite.
int64_t dilate3(const int64_t* keys, int64_t count, int64_t first, int64_t delta, int64_t* out) {
  const int64_t* end = keys + count;
  const int64_t *a = keys, *b = keys, *c = keys;
  int64_t size = 0;
  while (c < end) {  // the last copy ends last
    const int64_t va = a < end ? *a + first : INT64_MAX;
    const int64_t vb = b < end ? *b + first + delta : INT64_MAX;
    const int64_t vc = *c + first + 2 * delta;
    const int64_t least = std::min(va, std::min(vb, vc));
    out[size++] = least;
    a += va == least;
    b += vb == least;
    c += vc == least;
  }
  return size;
}

}  // namespace

Tensor dilate_coords(const Tensor& coords_, const std::vector<int64_t>& kernel_size, int64_t step) {
  const Tensor coords = dense_coords(coords_, "coords");
  const KernelShape kernel(kernel_size, step);
  const int64_t n = coords.size(0);
  const int32_t* c = data<int32_t>(coords);
  Bounds bounds;
  bounds.add(c, n);
  if (n) bounds.widen(kernel.first, kernel.last);
  bounds.check_int32();
  const Packing packing(bounds);
  int64_t count = n;
  int64_t* keys = workspace<int64_t, 0>(n);
  packing.keys(c, n, keys);
  // A box of offsets is the sum of three lines of offsets: along z, then y, then x.
  int side = 0;
  for (int axis = 2; axis >= 0; --axis) {
    const int64_t copies = kernel.size[axis], delta = step * packing.scale[axis + 1];
    const int64_t first = kernel.first[axis] * packing.scale[axis + 1];
    int64_t* out = side ? workspace<int64_t, 0>(count * copies) : workspace<int64_t, 1>(count * copies);
    count = copies == 3 ? dilate3(keys, count, first, delta, out) : dilate(keys, count, first, delta, copies, out);
    keys = out;
    side ^= 1;
  }
  Tensor result = make<int32_t>(coords, {count, 4});
  packing.coords(keys, count, mutable_data<int32_t>(result));
  return result;
}

}  // namespace tsp3d
