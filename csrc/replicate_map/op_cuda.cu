#include "../common/primitives.h"
#include "op.h"

namespace tsp3d {

// A segment is the pairs of one offset and one new scene. Their lengths, summed, say where each goes.
std::tuple<Tensor, Tensor, Tensor> replicate_map(const Tensor& in_rows_, const Tensor& out_rows_, const Tensor& splits_,
                                                 const Tensor& in_offsets_, const Tensor& out_offsets_,
                                                 const Tensor& index_) {
  const Tensor in_rows = dense<int32_t>(in_rows_, "in_rows"), out_rows = dense<int32_t>(out_rows_, "out_rows");
  const Tensor splits = dense<int64_t>(splits_, "splits"), index = dense<int64_t>(index_, "index");
  const Tensor in_offsets = dense<int64_t>(in_offsets_, "in_offsets");
  const Tensor out_offsets = dense<int64_t>(out_offsets_, "out_offsets");
  STD_TORCH_CHECK(in_rows.numel() == out_rows.numel(), "tsp3d: in_rows and out_rows differ in length");
  STD_TORCH_CHECK(in_offsets.numel() == out_offsets.numel(), "tsp3d: in_offsets and out_offsets differ in length");
  const Stream stream(in_rows, out_rows, splits, in_offsets, out_offsets, index);
  const int32_t *ri = data<int32_t>(in_rows), *ro = data<int32_t>(out_rows);
  const int64_t *s = data<int64_t>(splits), *ix = data<int64_t>(index);
  const int64_t *fi = data<int64_t>(in_offsets), *fo = data<int64_t>(out_offsets);
  const int64_t volume = splits.size(0) - 1, scenes = in_offsets.size(0) - 1, copies = index.size(0);
  const int64_t segments = volume * copies;

  // First row of each new scene, in and out; a scene that does not exist has no rows, and is reported below.
  Tensor in_starts = device_zeros<int64_t>(stream, splits, {copies + 1});
  Tensor out_starts = device_zeros<int64_t>(stream, splits, {copies + 1});
  Tensor lengths = device_zeros<int64_t>(stream, splits, {segments + 1}), sources = make<int64_t>(splits, {segments});
  Tensor numbers = device_zeros<int64_t>(stream, splits, {4});
  int64_t *si = mutable_data<int64_t>(in_starts), *so = mutable_data<int64_t>(out_starts);
  int64_t *at = mutable_data<int64_t>(lengths), *from = mutable_data<int64_t>(sources);
  int64_t* d = mutable_data<int64_t>(numbers);
  for_each(stream, copies, [=] __device__(int64_t c) {
    const int64_t b = ix[c];
    if (b < 0 || b >= scenes) {
      d[3] = 1;  // all who write write the same
      return;
    }
    si[c] = fi[b + 1] - fi[b];
    so[c] = fo[b + 1] - fo[b];
  });
  for_each(stream, segments, [=] __device__(int64_t g) {
    const int64_t k = g / copies, b = ix[g % copies];
    from[g] = 0;
    if (b < 0 || b >= scenes) return;
    from[g] = lower_bound(ro, s[k], s[k + 1], fo[b]);
    at[g] = lower_bound(ro, from[g], s[k + 1], fo[b + 1]) - from[g];
  });
  exclusive_sum(stream, in_starts, in_starts);
  exclusive_sum(stream, out_starts, out_starts);
  exclusive_sum(stream, lengths, lengths);
  for_each(stream, 1, [=] __device__(int64_t) {
    d[0] = at[segments];
    d[1] = si[copies];
    d[2] = so[copies];
  });
  const auto known = read_back<4>(stream, data<int64_t>(numbers));
  STD_TORCH_CHECK(known[3] == 0, "tsp3d: index names a scene that is not among the ", scenes);
  STD_TORCH_CHECK(known[1] < INT32_MAX && known[2] < INT32_MAX, "tsp3d: more than 2^31 - 1 voxels in one tensor");

  const int64_t pairs = known[0];
  Tensor new_splits = make<int64_t>(splits, {volume + 1});
  int64_t* ns = mutable_data<int64_t>(new_splits);
  for_each(stream, volume + 1, [=] __device__(int64_t k) { ns[k] = at[k * copies]; });
  Tensor new_in = make<int32_t>(in_rows, {pairs}), new_out = make<int32_t>(in_rows, {pairs});
  int32_t *ni = mutable_data<int32_t>(new_in), *no = mutable_data<int32_t>(new_out);
  for_each(stream, pairs, [=] __device__(int64_t p) {
    const int64_t g = lower_bound(at, 0, segments, p + 1) - 1;  // the last segment that starts at or before p
    const int64_t c = g % copies, b = ix[c], source = from[g] + p - at[g];
    ni[p] = static_cast<int32_t>(ri[source] - fi[b] + si[c]);
    no[p] = static_cast<int32_t>(ro[source] - fo[b] + so[c]);
  });
  return {new_in, new_out, new_splits};
}

}  // namespace tsp3d
