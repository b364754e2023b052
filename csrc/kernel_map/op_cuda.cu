#include "../common/ranking.cuh"
#include "offsets.cuh"
#include "op.h"

namespace tsp3d {

// Every output row looks for its input under every offset by binary search; the hits are then closed up in the order of
// offsets and output rows.
std::tuple<Tensor, Tensor, Tensor> kernel_map(const Tensor& in_coords_, const Tensor& out_coords_,
                                              const std::vector<int64_t>& kernel_size, int64_t step) {
  const Tensor in_coords = dense_coords(in_coords_, "in_coords"), out_coords = dense_coords(out_coords_, "out_coords");
  const KernelShape kernel(kernel_size, step);
  const int64_t n = in_coords.size(0), m = out_coords.size(0), volume = kernel.volume;
  STD_TORCH_CHECK(n < INT32_MAX && m < INT32_MAX, "tsp3d: more than 2^31 - 1 voxels in one tensor");
  const Stream stream(in_coords, out_coords);
  const int32_t *ci = data<int32_t>(in_coords), *co = data<int32_t>(out_coords);

  Tensor table = make<int32_t>(in_coords, {volume, m});  // in row, or -1
  int32_t* found = mutable_data<int32_t>(table);
  for_each(stream, volume * m, [=] __device__(int64_t p) {
    found[p] = static_cast<int32_t>(find(ci, n, moved(cell_at(co, p % m), kernel, p / m)));
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
