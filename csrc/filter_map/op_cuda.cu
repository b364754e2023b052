#include "../common/ranking.cuh"
#include "op.h"

namespace tsp3d {

std::tuple<Tensor, Tensor, Tensor> filter_map(const Tensor& in_rows_, const Tensor& out_rows_, const Tensor& splits_,
                                              const Tensor& new_in_, const Tensor& new_out_) {
  const Tensor in_rows = dense<int32_t>(in_rows_, "in_rows"), out_rows = dense<int32_t>(out_rows_, "out_rows");
  const Tensor splits = dense<int64_t>(splits_, "splits");
  const Tensor new_in = dense<int32_t>(new_in_, "new_in"), new_out = dense<int32_t>(new_out_, "new_out");
  STD_TORCH_CHECK(in_rows.numel() == out_rows.numel(), "tsp3d: in_rows and out_rows differ in length");
  const Stream stream(in_rows, out_rows, splits, new_in, new_out);
  const int32_t *ri = data<int32_t>(in_rows), *ro = data<int32_t>(out_rows);
  const int32_t *ni = data<int32_t>(new_in), *no = data<int32_t>(new_out);
  const int64_t* s = data<int64_t>(splits);
  const int64_t volume = splits.size(0) - 1, length = in_rows.size(0);

  const Ranking left(stream, in_rows, length,
                     [=] __device__(int64_t p) { return ni[ri[p]] >= 0 && no[ro[p]] >= 0; });
  Tensor new_splits = make<int64_t>(splits, {volume + 1});
  left.ranks(volume + 1, [=] __device__(int64_t k) { return s[k]; }, mutable_data<int64_t>(new_splits));
  const int64_t pairs = read_back<1>(stream, left.total())[0];
  Tensor kept_in = make<int32_t>(in_rows, {pairs}), kept_out = make<int32_t>(in_rows, {pairs});
  int32_t *ki = mutable_data<int32_t>(kept_in), *ko = mutable_data<int32_t>(kept_out);
  left.write([=] __device__(int64_t p, int64_t rank, bool kept) {
    if (!kept) return;
    ki[rank] = ni[ri[p]];
    ko[rank] = no[ro[p]];
  });
  return {kept_in, kept_out, new_splits};
}

}  // namespace tsp3d
