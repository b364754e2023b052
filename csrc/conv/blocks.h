// The result of a convolution, block after block of its rows.
#pragma once

#include <algorithm>

#include "../common/map.h"
#include "../common/parallel.h"
#include "../common/round.h"

namespace tsp3d {

constexpr int64_t kCacheBytes = 256 * 1024;         // what a block of output rows may take of the L2 cache
constexpr int64_t kFewRows = 64, kManyRows = 1024;  // of a block, but for fewer where threads share the work equally

// The rows of a result, num_out > 0, in blocks whose sums, `padded` numbers a row, stay in the cache while all offsets add to
// them.
// start(begin, end) gives the sums of rows begin..end, as they are before the first offset; add(k, sums, in_rows, out_rows,
// count, first) adds the pairs of offset k whose output rows, counted from `first`, lie in the block; finish(sums, begin,
// end) makes rows of the result of them. work: multiplications of a pair.
template <class T, class Start, class Add, class Finish>
void in_blocks(const Map& map, int64_t num_out, int64_t work, int64_t padded, const Start& start, const Add& add,
               const Finish& finish) {
  const int64_t threads = max_threads(), fitting = kCacheBytes / static_cast<int64_t>(sizeof(T) * padded);
  const int64_t fine = threads > 1 ? std::min(4 * threads, ceil_div(num_out, kFewRows)) : 1;
  const int64_t blocks = std::max(fine, ceil_div(num_out, std::clamp(fitting, kFewRows, kManyRows)));
  const int64_t rows = ceil_div(num_out, round_up(blocks, threads));  // as many for each thread, and all of one size
  parallel_items(ceil_div(num_out, rows), map.s[map.volume] * work / 8, [&](int64_t block) {
    const int64_t begin = block * rows, end = std::min(begin + rows, num_out);
    T* sums = start(begin, end);
    for (int64_t k = 0; k < map.volume; ++k) {
      const int32_t *low = map.out_rows + map.s[k], *high = map.out_rows + map.s[k + 1];
      const int32_t* from = std::lower_bound(low, high, static_cast<int32_t>(begin));
      const int32_t* to = std::lower_bound(from, high, static_cast<int32_t>(end));
      if (from != to) add(k, sums, map.in_rows + (from - map.out_rows), from, to - from, static_cast<int32_t>(begin));
    }
    finish(sums, begin, end);
  });
}

}  // namespace tsp3d
