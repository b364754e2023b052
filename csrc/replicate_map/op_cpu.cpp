#include "op.h"

#include "../common/map.h"
#include "../common/parallel.h"

namespace tsp3d {

std::tuple<Tensor, Tensor, Tensor> replicate_map(const Tensor& in_rows, const Tensor& out_rows, const Tensor& splits,
                                                 const Tensor& in_offsets_, const Tensor& out_offsets_,
                                                 const Tensor& index_) {
  const Map map(in_rows, out_rows, splits);
  const Tensor index = dense<int64_t>(index_, "index");
  const Tensor in_offsets = dense<int64_t>(in_offsets_, "in_offsets");
  const Tensor out_offsets = dense<int64_t>(out_offsets_, "out_offsets");
  const int32_t *ri = map.in_rows, *ro = map.out_rows;
  const int64_t *s = map.s, *ix = data<int64_t>(index);
  const int64_t *fi = data<int64_t>(in_offsets), *fo = data<int64_t>(out_offsets);
  const int64_t volume = map.volume, scenes = in_offsets.size(0) - 1, copies = index.size(0);
  STD_TORCH_CHECK(out_offsets.size(0) == scenes + 1, "tsp3d: in_offsets and out_offsets differ in length");

  // Where each scene's pairs begin within each offset.
  std::vector<int64_t> begin(volume * (scenes + 1));
  for (int64_t k = 0; k < volume; ++k)
    for (int64_t b = 0; b <= scenes; ++b)
      begin[k * (scenes + 1) + b] = std::lower_bound(ro + s[k], ro + s[k + 1], fo[b]) - ro;
  std::vector<int64_t> move_in(copies), move_out(copies);
  int64_t next_in = 0, next_out = 0;
  for (int64_t c = 0; c < copies; ++c) {
    const int64_t b = ix[c];
    STD_TORCH_CHECK(b >= 0 && b < scenes, "tsp3d: index names scene ", b, " of ", scenes);
    move_in[c] = next_in - fi[b];
    move_out[c] = next_out - fo[b];
    next_in += fi[b + 1] - fi[b];
    next_out += fo[b + 1] - fo[b];
  }
  STD_TORCH_CHECK(next_in < INT32_MAX && next_out < INT32_MAX, "tsp3d: more than 2^31 - 1 voxels in one tensor");
  Tensor new_splits = make<int64_t>(splits, {volume + 1});
  int64_t* ns = mutable_data<int64_t>(new_splits);
  ns[0] = 0;
  for (int64_t k = 0; k < volume; ++k) {
    const int64_t* at = begin.data() + k * (scenes + 1);
    ns[k + 1] = ns[k];
    for (int64_t c = 0; c < copies; ++c) ns[k + 1] += at[ix[c] + 1] - at[ix[c]];
  }
  Tensor new_in = make<int32_t>(in_rows, {ns[volume]}), new_out = make<int32_t>(in_rows, {ns[volume]});
  int32_t *ni = mutable_data<int32_t>(new_in), *no = mutable_data<int32_t>(new_out);
  parallel_items(volume, ns[volume], [&](int64_t k) {
    const int64_t* at = begin.data() + k * (scenes + 1);
    int64_t place = ns[k];
    for (int64_t c = 0; c < copies; ++c) {
      const int32_t mi = static_cast<int32_t>(move_in[c]), mo = static_cast<int32_t>(move_out[c]);
      for (int64_t p = at[ix[c]]; p < at[ix[c] + 1]; ++p, ++place) {
        ni[place] = ri[p] + mi;
        no[place] = ro[p] + mo;
      }
    }
  });
  return {new_in, new_out, new_splits};
}

}  // namespace tsp3d
