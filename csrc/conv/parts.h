// The result of a convolution, part after part.
#pragma once

#include <algorithm>

#include "../common/map.h"
#include "../common/parallel.h"
#include "../common/round.h"

namespace tsp3d {

constexpr int64_t kCacheBytes = 256 * 1024;         // what a block of output rows may take of the L2 cache
constexpr int64_t kFewRows = 64, kManyRows = 1024;  // of a block, but for fewer where threads share the work equally

// Rows begin..end of a result, and channels from..to of them.
struct Part {
  int64_t begin, end, from, to;
};

// The result, num_out > 0 rows of `padded` numbers, in parts whose sums stay in the cache while all offsets add to them: blocks
// of whole rows, or of `width` channels of them.
// start(part) gives the sums, as they are before the first offset: where the part's first row has its channel 0, though only
// the part's own channels are made; add(part, k, sums, in_rows, out_rows, count) adds the pairs of offset k whose output rows
// lie in the part; finish(part, sums) makes the result of them. work: multiplications of a pair.
template <class T, class Start, class Add, class Finish>
void in_parts(const Map& map, int64_t num_out, int64_t work, int64_t padded, int64_t width, const Start& start,
              const Add& add, const Finish& finish) {
  const int64_t threads = max_threads(), fitting = kCacheBytes / static_cast<int64_t>(sizeof(T) * width);
  const int64_t beside = ceil_div(padded, width);
  const int64_t fine = threads > 1 ? std::min(ceil_div(4 * threads, beside), ceil_div(num_out, kFewRows)) : 1;
  const int64_t blocks = std::max(fine, ceil_div(num_out, std::clamp(fitting, kFewRows, kManyRows)));
  // As many for each thread, and all of one size.
  const int64_t rows = ceil_div(num_out, beside > 1 ? blocks : round_up(blocks, threads));
  parallel_items(ceil_div(num_out, rows) * beside, map.s[map.volume] * work / 8, [&](int64_t item) {
    const int64_t begin = item / beside * rows, from = item % beside * width;
    const Part part{begin, std::min(begin + rows, num_out), from, std::min(from + width, padded)};
    T* sums = start(part);
    for (int64_t k = 0; k < map.volume; ++k) {
      const int32_t *low = map.out_rows + map.s[k], *high = map.out_rows + map.s[k + 1];
      const int32_t* first = std::lower_bound(low, high, static_cast<int32_t>(part.begin));
      const int32_t* last = std::lower_bound(first, high, static_cast<int32_t>(part.end));
      if (first != last) add(part, k, sums, map.in_rows + (first - map.out_rows), first, last - first);
    }
    finish(part, sums);
  });
}

}  // namespace tsp3d
