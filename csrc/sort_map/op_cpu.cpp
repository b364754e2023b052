#include "op.h"

#include <algorithm>
#include <numeric>

#include "../common/map.h"
#include "../common/parallel.h"

namespace tsp3d {

Tensor sort_map(const Tensor& in_rows, const Tensor& out_rows, const Tensor& splits, int64_t num_out,
                int64_t shares) {
  const Map map(in_rows, out_rows, splits);
  const int64_t *s = map.s, volume = map.volume, m = num_out;
  check_sort_map(in_rows, out_rows, volume, m, shares);
  const int32_t *ri = map.in_rows, *ro = map.out_rows;
  Tensor result = make<int32_t>(in_rows, {shares + volume, m});
  int32_t *orders = mutable_data<int32_t>(result), *table = orders + shares * m;
  std::fill(table, table + volume * m, -1);
  parallel_items(shares, s[volume] + shares * m, [&](int64_t share) {
    const int64_t begin = share_begin(volume, share, shares), end = share_begin(volume, share + 1, shares);
    std::vector<int64_t> masks(m, 0);
    for (int64_t k = begin; k < std::min(end, begin + kMaskBits); ++k)
      for (int64_t p = s[k]; p < s[k + 1]; ++p) masks[ro[p]] |= int64_t{1} << (k - begin);
    int32_t* order = orders + share * m;
    std::iota(order, order + m, 0);
    std::stable_sort(order, order + m, [&](int32_t a, int32_t b) { return masks[a] < masks[b]; });
    std::vector<int32_t> places(m);
    for (int64_t j = 0; j < m; ++j) places[order[j]] = static_cast<int32_t>(j);
    for (int64_t k = begin; k < end; ++k)
      for (int64_t p = s[k]; p < s[k + 1]; ++p) table[k * m + places[ro[p]]] = ri[p];
  });
  return result;
}

}  // namespace tsp3d
