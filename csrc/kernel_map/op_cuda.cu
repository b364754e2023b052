#include "../common/ranking.cuh"
#include "offsets.cuh"
#include "op.h"

namespace tsp3d {

namespace {

// An output row and the offsets of one line of the kernel along z: their inputs lie side by side, so that one search
// finds the first and the others follow.
struct Line {
  const int32_t *in, *out;
  int64_t n, m;
  int32_t* found;  // (K, m) in row, or -1 as it was
  bool mirrored;   // in and out are one set and the kernel is symmetric: pairs of -offset are those of offset, swapped

  // Offsets column + columns * z for z below `depth`.
  __device__ void search(const KernelShape& kernel, int64_t row, int64_t column, int64_t depth) const {
    const int64_t columns = kernel.size[0] * kernel.size[1];
    Cell wanted = moved(cell_at(out, row), kernel, column);
    int64_t place = first_from(in, n, wanted);
    for (int64_t z = 0; z < depth; ++z, wanted.v[3] += kernel.step) {
      while (place < n && before(cell_at(in, place), wanted)) ++place;
      if (place == n) return;
      if (!same(cell_at(in, place), wanted)) continue;
      const int64_t k = column + columns * z;
      found[k * m + row] = static_cast<int32_t>(place);
      if (mirrored) found[(kernel.volume - 1 - k) * m + place] = static_cast<int32_t>(row);
    }
  }
};

}  // namespace

// Every output row looks for its inputs, line by line; the hits are then closed up in the order of offsets and output
// rows. Of a mirrored map half the lines are searched, half of the middle one, and no row looks for itself.
std::tuple<Tensor, Tensor, Tensor> kernel_map(const Tensor& in_coords_, const Tensor& out_coords_,
                                              const std::vector<int64_t>& kernel_size, int64_t step) {
  const Tensor in_coords = dense_coords(in_coords_, "in_coords"), out_coords = dense_coords(out_coords_, "out_coords");
  const KernelShape kernel(kernel_size, step);
  const int64_t n = in_coords.size(0), m = out_coords.size(0), volume = kernel.volume;
  STD_TORCH_CHECK(n < INT32_MAX && m < INT32_MAX, "tsp3d: more than 2^31 - 1 voxels in one tensor");
  const Stream stream(in_coords, out_coords);
  const int32_t *ci = data<int32_t>(in_coords), *co = data<int32_t>(out_coords);

  Tensor table = device_absent<int32_t>(stream, in_coords, {volume, m});
  int32_t* found = mutable_data<int32_t>(table);
  const bool mirrored = kernel.symmetric() && n == m && ci == co;
  const int64_t columns = kernel.size[0] * kernel.size[1], searched = mirrored ? columns / 2 + 1 : columns;
  const Line line{ci, co, n, m, found, mirrored};
  for_each(stream, searched * m, [=] __device__(int64_t p) {
    const int64_t column = p / m, row = p % m;
    const bool middle = mirrored && column == columns / 2;
    line.search(kernel, row, column, middle ? kernel.size[2] / 2 : kernel.size[2]);
    if (middle) found[volume / 2 * m + row] = static_cast<int32_t>(row);
  });
  const Ranking hits(stream, in_coords, volume * m, [=] __device__(int64_t p) { return found[p] >= 0; });
  Tensor splits = make<int64_t>(in_coords, {volume + 1});
  hits.ranks(volume + 1, [=] __device__(int64_t k) { return k * m; }, mutable_data<int64_t>(splits));
  const int64_t pairs = read_back<1>(stream, hits.total())[0];
  Tensor in_rows = make<int32_t>(in_coords, {pairs}), out_rows = make<int32_t>(in_coords, {pairs});
  int32_t *ri = mutable_data<int32_t>(in_rows), *ro = mutable_data<int32_t>(out_rows);
  hits.write([=] __device__(int64_t p, int64_t rank, bool hit) {
    if (!hit) return;
    ri[rank] = found[p];
    ro[rank] = static_cast<int32_t>(p % m);
  });
  return {in_rows, out_rows, splits};
}

}  // namespace tsp3d
