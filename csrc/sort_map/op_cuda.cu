#include "../common/primitives.h"
#include "op.h"

namespace tsp3d {

// One sort for all shares: the share is the upper part of a row's key, its mask the lower. Nothing waits for the device.
Tensor sort_map(const Tensor& in_rows_, const Tensor& out_rows_, const Tensor& splits_, int64_t num_out,
                int64_t shares) {
  const Tensor in_rows = dense<int32_t>(in_rows_, "in_rows"), out_rows = dense<int32_t>(out_rows_, "out_rows");
  const Tensor splits = dense<int64_t>(splits_, "splits");
  const Stream stream(in_rows, out_rows, splits);
  const int64_t volume = splits.size(0) - 1, m = num_out, pairs = in_rows.size(0);
  check_sort_map(in_rows, out_rows, volume, m, shares);
  const int32_t *ri = data<int32_t>(in_rows), *ro = data<int32_t>(out_rows);
  const int64_t* s = data<int64_t>(splits);

  Tensor unsorted = device_absent<int32_t>(stream, in_rows, {volume, m});
  int32_t* row_of = mutable_data<int32_t>(unsorted);
  for_each(stream, pairs, [=] __device__(int64_t p) {
    const int64_t k = lower_bound(s, 0, volume, p + 1) - 1;  // the last offset that starts at or before p
    row_of[k * m + ro[p]] = ri[p];
  });
  const int64_t widest = std::min((volume + shares - 1) / shares, kMaskBits);
  Tensor keys = make<int64_t>(in_rows, {shares * m}), sorted_keys = make<int64_t>(in_rows, {shares * m});
  Tensor rows = make<int64_t>(in_rows, {shares * m}), sorted_rows = make<int64_t>(in_rows, {shares * m});
  int64_t *key = mutable_data<int64_t>(keys), *row = mutable_data<int64_t>(rows);
  for_each(stream, shares * m, [=] __device__(int64_t e) {
    const int64_t share = e / m, r = e % m, begin = share_begin(volume, share, shares);
    const int64_t end = share_begin(volume, share + 1, shares);
    int64_t mask = 0;
    for (int64_t k = begin; k < end && k < begin + kMaskBits; ++k)
      if (row_of[k * m + r] >= 0) mask |= int64_t{1} << (k - begin);
    key[e] = (share << widest) | mask;
    row[e] = r;
  });
  sort_pairs(stream, keys, sorted_keys, rows, sorted_rows, static_cast<int>(widest) + bits_for(shares - 1));

  Tensor result = make<int32_t>(in_rows, {shares + volume, m});
  int32_t* to = mutable_data<int32_t>(result);
  const int64_t* order = data<int64_t>(sorted_rows);
  for_each(stream, shares * m, [=] __device__(int64_t e) {
    const int64_t share = e / m, j = e % m, r = order[e];
    to[e] = static_cast<int32_t>(r);
    for (int64_t k = share_begin(volume, share, shares); k < share_begin(volume, share + 1, shares); ++k)
      to[(shares + k) * m + j] = row_of[k * m + r];
  });
  return result;
}

}  // namespace tsp3d
