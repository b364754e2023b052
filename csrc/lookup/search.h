// Search in ascending keys that gains from queries in ascending order.
#pragma once

#include <algorithm>
#include <cstdint>

namespace tsp3d {

// First place with keys[place] >= wanted. Starts at the place of the last search and strides away from it in doubling
// steps, so that ordered queries cost next to nothing and others a binary search.
class Search {
 public:
  Search(const int64_t* keys, int64_t count) : keys_(keys), count_(count) {}

  int64_t operator()(int64_t wanted) {
    int64_t low, high;  // keys before low are < wanted, keys from high on are >= wanted
    int64_t step = 1;
    if (place_ < count_ && keys_[place_] < wanted) {
      low = place_ + 1;
      while (low + step < count_ && keys_[low + step] < wanted) {
        low += step + 1;
        step *= 2;
      }
      high = std::min(low + step, count_);
    } else {
      high = place_;
      while (high - step >= 0 && keys_[high - step] >= wanted) {
        high -= step;
        step *= 2;
      }
      low = std::max<int64_t>(high - step, 0);
    }
    place_ = std::lower_bound(keys_ + low, keys_ + high, wanted) - keys_;
    return place_;
  }

 private:
  const int64_t* keys_;
  int64_t count_;
  int64_t place_ = 0;
};

}  // namespace tsp3d
