#include "op.h"

#include "../common/map.h"
#include "../common/parallel.h"

namespace tsp3d {

std::tuple<Tensor, Tensor, Tensor> filter_map(const Tensor& in_rows, const Tensor& out_rows, const Tensor& splits,
                                              const Tensor& new_in_, const Tensor& new_out_) {
  const Map map(in_rows, out_rows, splits);
  const Tensor new_in = dense<int32_t>(new_in_, "new_in"), new_out = dense<int32_t>(new_out_, "new_out");
  const int32_t *ni = data<int32_t>(new_in), *no = data<int32_t>(new_out);
  const int64_t *s = map.s, volume = map.volume, length = map.length;

  int32_t *left_in = workspace<int32_t, 0>(length + 1), *left_out = workspace<int32_t, 1>(length + 1);
  std::vector<int64_t> counts(volume);
  parallel_items(volume, length, [&](int64_t k) {
    int64_t count = s[k];
    for (int64_t p = s[k]; p < s[k + 1]; ++p) {
      const int32_t i = ni[map.in_rows[p]], o = no[map.out_rows[p]];
      left_in[count] = i;  // overwritten by the next pair unless kept; never past p
      left_out[count] = o;
      count += (i >= 0) & (o >= 0);
    }
    counts[k] = count - s[k];
  });
  Tensor new_splits = make<int64_t>(splits, {volume + 1});
  int64_t* ns = mutable_data<int64_t>(new_splits);
  ns[0] = 0;
  for (int64_t k = 0; k < volume; ++k) ns[k + 1] = ns[k] + counts[k];
  Tensor kept_in = make<int32_t>(in_rows, {ns[volume]}), kept_out = make<int32_t>(in_rows, {ns[volume]});
  int32_t *ki = mutable_data<int32_t>(kept_in), *ko = mutable_data<int32_t>(kept_out);
  parallel_items(volume, length, [&](int64_t k) {
    std::copy_n(left_in + s[k], counts[k], ki + ns[k]);
    std::copy_n(left_out + s[k], counts[k], ko + ns[k]);
  });
  return {kept_in, kept_out, new_splits};
}

}  // namespace tsp3d
